"""Who is measured: a row a peer.

A peer moves a bdev of a target process, on the target's core, to bdevperf, on the client's core, and takes it away
again. The variants of one rival are measured like peers of their own; the best of them counts.
"""

from __future__ import annotations

import atexit
import base64
import os
import tempfile
import zlib
from dataclasses import dataclass, field
from functools import cache
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
    target: str
    """Peers that are one after the other and name the same share a target process."""

    def suits(self, case: Case) -> bool:
        """Whether this variant may win in this case."""

    def missing(self, application: Application) -> str | None:
        """Why it can't be measured with this SPDK."""

    def serve(self, target: Application, bdev: str) -> Remote:
        """For the first of those that share a target process."""

    def attach(self, client: Application, remote: Remote) -> None: ...

    def detach(self, client: Application) -> None: ...


@cache
def key_file(text: str) -> str:
    """The name of a file with this text, which nobody else may read."""
    descriptor, path = tempfile.mkstemp(prefix="dst-bench-key-")
    os.write(descriptor, text.encode())
    os.close(descriptor)
    atexit.register(os.unlink, path)
    return path


# Hosts of the export: one without and one with a key.
PLAIN, KEYED = "plain", "keyed"
KEY = os.urandom(32)


@dataclass(frozen=True)
class DstPeer:
    """With its defaults, which are what users get, but for digests, which the peers have not by default either."""

    name: str = "dst"
    rival: str = "dst"
    options: dict[str, Any] = field(default_factory=dict)
    """Of bdev_dst_create, beyond that."""
    deep: bool = False
    """Only where bytes a second count."""
    target: str = "dst"

    def suits(self, case: Case) -> bool:
        return case.is_deep or not self.deep

    def missing(self, application: Application) -> str | None:
        return None

    def serve(self, target: Application, bdev: str) -> Remote:
        remote = Remote("127.0.0.1", free_port(), "bench")
        call = target.rpc.call
        call("dst_create_listener", traddr=remote.address, trsvcid=str(remote.port))
        call("dst_create_export", name=remote.export, bdev_name=bdev)
        call("dst_export_add_host", export=remote.export, host=PLAIN, access="rw")
        call("dst_export_add_host", export=remote.export, host=KEYED, access="rw", psk_file=self._key_file())
        return remote

    def attach(self, client: Application, remote: Remote) -> None:
        method, params = Dst().attach_call(BDEV, remote)
        params |= {"digest": "none", "host": PLAIN} | self.options
        if "cipher" in params:
            params |= {"host": KEYED, "psk_file": self._key_file()}
        client.rpc.call(method, **params)

    def detach(self, client: Application) -> None:
        Dst().detach(client, BDEV)

    def _key_file(self) -> str:
        return key_file(f"DST-PSK-1\n{KEY.hex()}\n")


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
    tls: bool = False
    """With TLS 1.3 and a pre-shared key, as SPDK has it; only where bytes a second count."""

    @property
    def target(self) -> str:
        return self.name

    def suits(self, case: Case) -> bool:
        return case.size in self.sizes and case.depth >= self.least_depth and (case.is_deep or not self.tls)

    def missing(self, application: Application) -> str | None:
        if self.tls and "keyring_file_add_key" not in application.rpc.call("rpc_get_methods"):
            return "the SPDK in use has no NVMe/TCP over TLS"
        return None

    def serve(self, target: Application, bdev: str) -> Remote:
        remote = Remote("127.0.0.1", free_port(), f"nqn.2016-06.io.spdk:{bdev}")
        call = target.rpc.call
        call("nvmf_create_transport", trtype="TCP", **self.transport)
        call("nvmf_create_subsystem", nqn=remote.export, allow_any_host=not self.tls)
        call("nvmf_subsystem_add_ns", nqn=remote.export, namespace={"bdev_name": bdev})
        secure = {"secure_channel": True} if self.tls else {}
        call("nvmf_subsystem_add_listener", nqn=remote.export, listen_address=_address(remote), **secure)
        if self.tls:
            call("keyring_file_add_key", name=TLS_KEY, path=_tls_key_file())
            call("nvmf_subsystem_add_host", nqn=remote.export, host=TLS_HOST, psk=TLS_KEY)
        return remote

    def attach(self, client: Application, remote: Remote) -> None:
        secure = {}
        if self.tls:
            if all(key["name"] != TLS_KEY for key in client.rpc.call("keyring_get_keys")):
                client.rpc.call("keyring_file_add_key", name=TLS_KEY, path=_tls_key_file())
            secure = {"hostnqn": TLS_HOST, "psk": TLS_KEY}
        place = _address(remote) | secure
        client.rpc.call("bdev_nvme_attach_controller", name=CONTROLLER, subnqn=remote.export, **place)

    def detach(self, client: Application) -> None:
        client.rpc.call("bdev_nvme_detach_controller", name=CONTROLLER)


def _address(remote: Remote) -> dict[str, str]:
    return {"trtype": "TCP", "adrfam": "IPv4", "traddr": remote.address, "trsvcid": str(remote.port)}


TLS_HOST = "nqn.2016-06.io.spdk:bench"
TLS_KEY = "bench"


def _tls_key_file() -> str:
    """A key in NVMe/TCP's own format: for SHA-256, 32 bytes and their CRC-32."""
    coded = base64.b64encode(KEY + zlib.crc32(KEY).to_bytes(4, "little")).decode()
    return key_file(f"NVMeTLSkey-1:01:{coded}:")


PEERS: list[Peer] = [
    DstPeer(),
    DstPeer("dst-crc32c", "dst-crc32c", {"digest": "crc32c"}, deep=True),
    DstPeer("dst-aes-256-gcm", "dst-aes-256-gcm", {"cipher": "aes-256-gcm"}, deep=True),
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
    NvmfPeer("nvmf-tls", {"max_queue_depth": 256}, rival="nvmf-tls", tls=True),
]
