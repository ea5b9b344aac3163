"""Deleting exports and removing bdevs while the backend does not finish its requests."""

from __future__ import annotations

import time

import pytest

from harness.backends import await_requests, hanging_export, slow_export
from harness.lab import Lab
from harness.ports import free_port
from harness.protocol import Connection, NOT_ALLOWED, Session, hello, refusal_of, write
from harness.rpc import RpcError
from harness.served import BLOCK, Served
from harness.spdk import Application
from harness.transport import Remote
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

DRAIN_MS = 700


@pytest.fixture(scope="module")
def target(needs_dst: None, module_lab: Lab) -> Served:
    application = module_lab.target()
    application.rpc.call("dst_set_options", drain_timeout_ms=DRAIN_MS)
    port = free_port()
    application.rpc.call("dst_create_listener", traddr="127.0.0.1", trsvcid=str(port))
    return application, Remote("127.0.0.1", port, "")


def busy(application: Application, remote: Remote, host: str, writes: int) -> tuple[Session, Connection]:
    """Returns a session with this many writes in the backend."""
    session = Session(remote, host)
    queue = session.join(1)
    queue.send(b"".join(write(slot, 1, slot, bytes(BLOCK)) for slot in range(writes)))
    await_requests(application, host, "writes", writes)
    return session, queue


def hang(application: Application, bdev: str, writes: int) -> None:
    application.rpc.call("bdev_error_inject_error", name=bdev, io_type="write", error_type="pending", num=writes)


def in_flight(application: Application) -> int:
    return application.rpc.call("dst_get_stats")["in_flight"]


def test_hung_backend_is_reset(served: Served) -> None:
    application, remote = served
    with hanging_export(application, remote) as hanging:
        hang(application, "EE_Malloc2", 3)
        session, queue = busy(application, hanging, "hung", 3)
        assert in_flight(application) == 3
        began = time.monotonic()
        pending = application.rpc.start("dst_delete_export", name="hanging")
        # The session ends at once, whatever the backend does.
        queue.assert_closed()
        session.control.assert_closed()
        wait_until(lambda: application.rpc.call("dst_get_exports")[0]["deleting"], "the deletion to be shown", 5)
        assert "hanging" not in str(application.rpc.call("framework_get_config", name="dst"))
        assert pending.result() is True
        assert time.monotonic() - began >= 0.9 * DRAIN_MS / 1000
        assert application.rpc.call("dst_get_exports") == []
        assert "still has 3 I/Os; bdev EE_Malloc2 is reset" in application.text()
        assert in_flight(application) == 0


def test_backend_that_not_even_a_reset_helps(served: Served) -> None:
    """The RPC reports the timeout and ends; the deletion ends when the backend finishes."""
    application, remote = served
    with slow_export(application, remote, 4.0):
        # The error bdev resets only the I/O that it holds itself, not that of its base.
        application.rpc.call("dst_delete_export", name="slow")
        with hanging_export(application, remote, "Slow0") as hanging:
            _, queue = busy(application, hanging, "stuck", 2)
            with pytest.raises(RpcError) as caught:
                application.rpc.call("dst_delete_export", name="hanging")
            assert caught.value.code == -110
            assert "still has 2 I/Os of bdev `EE_Slow0`" in caught.value.message, caught.value.message
            with pytest.raises(RpcError, match="already being deleted"):
                application.rpc.call("dst_delete_export", name="hanging")
            with Connection(hanging) as connection:
                connection.send(hello("hanging", "stuck"))
                assert refusal_of(connection.receive())[0] == NOT_ALLOWED
            assert in_flight(application) == 2
        assert "DST export hanging is gone" in application.text()


def test_removal_of_a_hung_bdev(served: Served) -> None:
    """The removal of the bdev waits for all its users to close it; the export resets the bdev,
    closes it, and stays."""
    application, remote = served
    application.rpc.call("bdev_malloc_create", name="Malloc3", num_blocks=2048, block_size=BLOCK)
    application.rpc.call("bdev_error_create", base_name="Malloc3")
    application.rpc.call("dst_create_export", name="removed", bdev_name="EE_Malloc3")
    application.rpc.call("dst_export_add_host", export="removed", host="*", access="rw")
    hang(application, "EE_Malloc3", 1)
    _, queue = busy(application, Remote(remote.address, remote.port, "removed"), "bereft", 1)
    pending = application.rpc.start("bdev_error_delete", name="EE_Malloc3")
    queue.assert_closed()
    assert pending.result() is True
    assert application.bdev("EE_Malloc3") is None
    (export,) = application.rpc.call("dst_get_exports")
    assert (export["state"], export["offline_reason"]) == ("offline", "bdev `EE_Malloc3` was removed")
    assert application.rpc.call("dst_delete_export", name="removed") is True
    application.rpc.call("bdev_malloc_delete", name="Malloc3")


def test_removal_of_a_host_waits_for_nothing(served: Served) -> None:
    application, remote = served
    with hanging_export(application, remote) as hanging:
        hang(application, "EE_Malloc2", 1)
        session, queue = busy(application, hanging, "expelled", 1)
        began = time.monotonic()
        application.rpc.call("dst_export_remove_host", export="hanging", host="*")
        assert application.rpc.call("dst_get_sessions") == []
        queue.assert_closed()
        session.control.assert_closed()
        assert time.monotonic() - began < 5
        assert in_flight(application) == 1
        assert application.rpc.call("dst_delete_export", name="hanging") is True
