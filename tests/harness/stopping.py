"""Whether a process stops."""

from __future__ import annotations

from harness.rpc import RpcError
from harness.spdk import Application


def is_stopping(application: Application) -> bool:
    """Returns whether SPDK has begun to stop. Up to 23.05 there is no RPC server then; later versions
    still have one, and DST deletes nothing."""
    try:
        application.rpc.call("bdev_dst_delete", name="none")
    except OSError:
        return True
    except RpcError as error:
        return "being stopped" in error.message
    raise AssertionError("a bdev that does not exist was deleted")
