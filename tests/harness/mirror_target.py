"""A target with the devices of a mirror, each an export of its own, which keeps who owns it."""

from __future__ import annotations

from typing import Any

from harness.lab import Lab
from harness.mirror import BLOCK, MIRROR, member_file
from harness.ports import free_port
from harness.proxy import Proxy
from harness.rpc import PendingCall
from harness.spdk import Application
from harness.transport import Remote

MEMBERS = ("Remote0", "Remote1")
WITNESS = "Witness"
DEVICES = (WITNESS, *MEMBERS)

# Short enough that a takeover does not wait long for a device that is out of reach.
TIMES = {"keep_alive_timeout_ms": 1000, "reconnect_delay_ms": 100, "fast_io_fail_timeout_ms": 300}


class MirrorTarget:
    """One process with all exports: hosts die here, not targets."""

    def __init__(self, lab: Lab, mib: int = 64, late: str | None = None) -> None:
        """`late`: the member whose writes are executed late, and not while the target's `check_late_hold` says
        so."""
        self.application = lab.target(binary="dst_check" if late else "spdk_tgt")
        self._port = free_port()
        call = self.application.rpc.call
        for name in DEVICES:
            bdev = self.bdev(name)
            if name == late:
                call("check_late_create", name=bdev, blocks=mib * 2**20 // BLOCK, block_size=BLOCK, write_ms=1)
            else:
                file = member_file(lab, name, 1 if name == WITNESS else mib)
                call("bdev_aio_create", name=bdev, filename=str(file), block_size=BLOCK)
            state = str(lab.folder / f"state-{name}")
            call("dst_create_export", name=name, bdev_name=bdev, state_file=state)
            call("dst_export_release", export=name)
            call("dst_export_add_host", export=name, host="*", access="rw", takeover=True)
        call("dst_create_listener", traddr="127.0.0.1", trsvcid=str(self._port))

    def bdev(self, name: str) -> str:
        """Returns the name of the bdev behind a device, in the target."""
        return f"Bdev{name}"

    def remote(self, name: str) -> Remote:
        return Remote("127.0.0.1", self._port, name)

    def owner(self, name: str) -> str | None:
        return self.application.rpc.call("dst_get_exports", name=name)[0]["ownership"].get("owner")

    def owners(self) -> dict[str, str | None]:
        return {name: self.owner(name) for name in DEVICES}


class Host:
    """How a client process reaches the devices: through a proxy for each, so that it can be cut off."""

    def __init__(self, lab: Lab, target: MirrorTarget, name: str) -> None:
        self.name = name
        self.proxies = {device: Proxy(target.remote(device)) for device in DEVICES}
        for proxy in self.proxies.values():
            lab.on_end(proxy.end)

    def attach(self, client: Application, **options: Any) -> None:
        """Attaches the devices as their owner, or goes on trying if another host is."""
        for device, proxy in self.proxies.items():
            place = {"traddr": proxy.remote.address, "trsvcid": str(proxy.remote.port), "export": device}
            options = {"host": self.name, "exclusive": True, "wait": False, **TIMES, **options}
            client.rpc.call("bdev_dst_create", name=device, **place, **options)

    def start_takeover(self, client: Application, **options: Any) -> PendingCall:
        return client.rpc.start("bdev_dst_mirror_assemble", **self._mirror(), takeover=True, **options)

    def take_over(self, client: Application, **options: Any) -> None:
        client.rpc.call("bdev_dst_mirror_assemble", **self._mirror(), takeover=True, **options)

    def assemble(self, client: Application, **options: Any) -> None:
        client.rpc.call("bdev_dst_mirror_assemble", **self._mirror(), **options)

    def create(self, client: Application) -> None:
        client.rpc.call("bdev_dst_mirror_create", **self._mirror(), equal=True)

    def cut(self) -> None:
        """Lets nothing pass any more."""
        for proxy in self.proxies.values():
            proxy.hold()
            proxy.hold_new("client", "target")

    def mend(self) -> None:
        for proxy in self.proxies.values():
            proxy.hold_new()
            proxy.release()

    def _mirror(self) -> dict[str, Any]:
        return {"name": MIRROR, "members": list(MEMBERS), "witness": WITNESS}
