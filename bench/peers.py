"""Who is measured: a row a peer.

A peer moves a bdev of a target process, on the target's core, to bdevperf, on the client's core, and takes it away
again. The variants of one rival are measured like peers of their own; the best of them counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from cases import KIB, Case
from harness.ports import free_port
from harness.spdk import Application
from harness.transport import Dst, Remote

# What bdevperf finds; NVMe/TCP's module calls a controller's first namespace so.
CONTROLLER = "Remote0"
BDEV = f"{CONTROLLER}n1"


class Peer(Protocol):
    name: str
    rival: str
    """Whose variant it is: the best of a rival's variants counts."""

    def suits(self, case: Case) -> bool:
        """Whether this variant may win in this case."""

    def serve(self, target: Application, bdev: str) -> Remote: ...

    def attach(self, client: Application, remote: Remote) -> None: ...

    def detach(self, client: Application) -> None: ...


@dataclass(frozen=True)
class DstPeer:
    """With its defaults, which are what users get, but for digests, which the peers have not by default either."""

    name: str = "dst"
    rival: str = "dst"

    def suits(self, case: Case) -> bool:
        return True

    def serve(self, target: Application, bdev: str) -> Remote:
        return Dst().serve(target, bdev)

    def attach(self, client: Application, remote: Remote) -> None:
        method, params = Dst().attach_call(BDEV, remote)
        client.rpc.call(method, **params, digest="none")

    def detach(self, client: Application) -> None:
        Dst().detach(client, BDEV)


@dataclass(frozen=True)
class NvmfPeer:
    """SPDK's own NVMe/TCP, at both ends."""

    name: str
    transport: dict[str, Any] = field(default_factory=dict)
    """Parameters of nvmf_create_transport; what is left out has SPDK's default."""
    sizes: range = range(1 << 30)
    """Of I/O, in bytes, for which it is meant."""
    least_depth: int = 1
    rival: str = "nvmf"

    def suits(self, case: Case) -> bool:
        return case.size in self.sizes and case.depth >= self.least_depth

    def serve(self, target: Application, bdev: str) -> Remote:
        remote = Remote("127.0.0.1", free_port(), f"nqn.2016-06.io.spdk:{bdev}")
        call = target.rpc.call
        call("nvmf_create_transport", trtype="TCP", **self.transport)
        call("nvmf_create_subsystem", nqn=remote.export, allow_any_host=True)
        call("nvmf_subsystem_add_ns", nqn=remote.export, namespace={"bdev_name": bdev})
        call("nvmf_subsystem_add_listener", nqn=remote.export, listen_address=_address(remote))
        return remote

    def attach(self, client: Application, remote: Remote) -> None:
        client.rpc.call("bdev_nvme_attach_controller", name=CONTROLLER, subnqn=remote.export, **_address(remote))

    def detach(self, client: Application) -> None:
        client.rpc.call("bdev_nvme_detach_controller", name=CONTROLLER)


def _address(remote: Remote) -> dict[str, str]:
    return {"trtype": "TCP", "adrfam": "IPv4", "traddr": remote.address, "trsvcid": str(remote.port)}


PEERS: list[Peer] = [
    DstPeer(),
    NvmfPeer("nvmf-default"),
    # SPDK's default queue of 128 takes 127 commands: room for a depth of 128 and more. Small data in small buffers,
    # of which a core keeps as many as it has requests.
    NvmfPeer(
        "nvmf-small",
        {"max_queue_depth": 256, "io_unit_size": 8 * KIB, "num_shared_buffers": 4095, "buf_cache_size": 256},
        sizes=range(16 * KIB),
        least_depth=2,
    ),
    # Writes carry their data at once, up to the largest I/O; buffers for as many requests as are under way.
    NvmfPeer(
        "nvmf-large",
        {"max_queue_depth": 256, "in_capsule_data_size": 128 * KIB, "num_shared_buffers": 1023, "buf_cache_size": 128},
        sizes=range(16 * KIB, 1 << 30),
    ),
]
