"""DST with its defaults, except for digests, which the other peers do not use by default either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cases import Case
from harness.ports import free_port
from harness.spdk import Application
from harness.transport import Dst, Remote
from peers import Spdk, SpdkPeer
from peers.keys import KEY, key_file
from stage import BDEV, Setup, Sockets

# The hosts of the export: one without a key and one with a key.
PLAIN, KEYED = "plain", "keyed"


class DstPeer(SpdkPeer):
    service = "dst"

    def __init__(
        self,
        name: str = "dst",
        safety: bool = False,
        folder: Path | None = None,
        sockets: Sockets = Sockets(),
        **options: Any,
    ) -> None:
        """`options`: those of bdev_dst_create. `safety`: the peer has digests or a cipher, and is
        measured only in cases where throughput matters."""
        self.name = self.family = name
        self.setup = Setup(folder or self.setup.folder, sockets)
        self.safety = safety
        self._options = options

    def suits(self, case: Case) -> bool:
        return case.is_deep or not self.safety

    def missing(self, spdk: Spdk) -> str | None:
        return self.missing_sockets(spdk)

    def serve(self, target: Application, bdev: str) -> Remote:
        remote = Remote("127.0.0.1", free_port(), "bench")
        call = target.rpc.call
        call("dst_create_listener", traddr=remote.address, trsvcid=str(remote.port))
        call("dst_create_export", name=remote.export, bdev_name=bdev)
        call("dst_export_add_host", export=remote.export, host=PLAIN, access="rw")
        call("dst_export_add_host", export=remote.export, host=KEYED, access="rw", psk_file=_key_file())
        return remote

    def attach(self, client: Application, remote: Remote) -> None:
        method, params = Dst().attach_call(BDEV, remote)
        params |= {"digest": "none", "host": PLAIN} | self._options
        if "cipher" in params:
            params |= {"host": KEYED, "psk_file": _key_file()}
        client.rpc.call(method, **params)

    def detach(self, client: Application) -> None:
        Dst().detach(client, BDEV)


def _key_file() -> str:
    return key_file(f"DST-PSK-1\n{KEY.hex()}\n")
