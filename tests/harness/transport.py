"""The transports that carry a bdev from the target process to the client process.

Tests use `transport`, whichever it is; DST_TEST_TRANSPORT chooses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from harness.environment import environment
from harness.ports import free_port
from harness.spdk import Application


@dataclass(frozen=True)
class Remote:
    """The address of an exported bdev."""

    address: str
    port: int
    export: str


class Transport(Protocol):
    name: str

    def serve(self, target: Application, bdev: str) -> Remote:
        """Exports a bdev of the target to every host, for reading and writing."""

    def attach_call(self, name: str, remote: Remote) -> tuple[str, dict[str, Any]]:
        """Returns the RPC that attaches the bdev to a client, in the form of a configuration
        file."""

    def detach(self, client: Application, name: str) -> None:
        """Detaches the bdev that was attached as `name`."""

    def bdev_name(self, name: str) -> str:
        """Returns the name of the bdev that was attached as `name`."""


def attach(transport: Transport, client: Application, remote: Remote, name: str = "remote0") -> str:
    """Attaches the bdev and returns its name in the client."""
    method, params = transport.attach_call(name, remote)
    client.rpc.call(method, **params)
    bdev = transport.bdev_name(name)
    assert client.bdev(bdev), f"{bdev} is not there after {method}"
    return bdev


class Dst:
    name = "dst"

    def serve(self, target: Application, bdev: str) -> Remote:
        remote = Remote("127.0.0.1", free_port(), f"export-{bdev}")
        target.rpc.call("dst_create_listener", traddr=remote.address, trsvcid=str(remote.port))
        target.rpc.call("dst_create_export", name=remote.export, bdev_name=bdev)
        target.rpc.call("dst_export_add_host", export=remote.export, host="*", access="rw")
        return remote

    def attach_call(self, name: str, remote: Remote) -> tuple[str, dict[str, Any]]:
        return "bdev_dst_create", {
            "name": name,
            "traddr": remote.address,
            "trsvcid": str(remote.port),
            "export": remote.export,
            "host": "test-client",
        }

    def detach(self, client: Application, name: str) -> None:
        client.rpc.call("bdev_dst_delete", name=name)

    def bdev_name(self, name: str) -> str:
        return name


class Nvmf:
    """SPDK's own NVMe/TCP."""

    name = "nvmf"

    def serve(self, target: Application, bdev: str) -> Remote:
        remote = Remote("127.0.0.1", free_port(), f"nqn.2016-06.io.spdk:{bdev}")
        serve_nvmf(target, bdev, remote)
        return remote

    def attach_call(self, name: str, remote: Remote) -> tuple[str, dict[str, Any]]:
        return "bdev_nvme_attach_controller", {
            "name": name,
            "trtype": "TCP",
            "adrfam": "IPv4",
            "traddr": remote.address,
            "trsvcid": str(remote.port),
            "subnqn": remote.export,
        }

    def detach(self, client: Application, name: str) -> None:
        client.rpc.call("bdev_nvme_detach_controller", name=name)

    def bdev_name(self, name: str) -> str:
        return f"{name}n1"


def serve_nvmf(application: Application, bdev: str, remote: Remote) -> None:
    """Exports a bdev of any SPDK application over NVMe/TCP."""
    call = application.rpc.call
    # The default number of buffers would take half a GiB of hugepages.
    call("nvmf_create_transport", trtype="TCP", num_shared_buffers=1023)
    call("nvmf_create_subsystem", nqn=remote.export, allow_any_host=True)
    call("nvmf_subsystem_add_ns", nqn=remote.export, namespace={"bdev_name": bdev})
    call(
        "nvmf_subsystem_add_listener",
        nqn=remote.export,
        listen_address={
            "trtype": "TCP",
            "adrfam": "IPv4",
            "traddr": remote.address,
            "trsvcid": str(remote.port),
        },
    )


def chosen_transport() -> Transport:
    transports: dict[str, Transport] = {"dst": Dst(), "nvmf": Nvmf()}
    return transports[environment().transport]
