"""SPDK's NVMe/TCP at both ends."""

from __future__ import annotations

import base64
import zlib
from typing import Any

from cases import KIB, Case
from harness.environment import environment
from harness.ports import free_port
from harness.spdk import Application
from harness.transport import Remote
from peers import Spdk, SpdkPeer
from peers.keys import KEY, key_file
from stage import CONTROLLER, Setup, Sockets

HOST = "nqn.2016-06.io.spdk:bench"
TLS_KEY = "bench"
FIRST_WITH_DIGESTS = (21, 1)
"""The hdgst and ddgst of bdev_nvme_attach_controller."""


class NvmfPeer(SpdkPeer):
    def __init__(
        self,
        name: str,
        transport: dict[str, Any] | None = None,
        family: str = "nvmf",
        sizes: range = range(1 << 30),
        least_depth: int = 1,
        quick_sizes: range = range(0),
        sockets: Sockets = Sockets(),
        digest: bool = False,
        tls: bool = False,
    ) -> None:
        """`transport`: parameters of nvmf_create_transport. `sizes`: the I/O sizes in bytes for
        which the variant is meant, and for which QUICK=1 measures it. `digest`: over headers and
        data. `tls`: TLS 1.3 with a pre-shared key."""
        self.name = name
        self.family = family
        # In-capsule data needs its own room for each request of each connection.
        self.mib = 1024 if transport and "in_capsule_data_size" in transport else self.mib
        self.service = name
        self.setup = Setup(self.setup.folder, sockets)
        self._transport = transport or {}
        self._sizes = sizes
        self._quick_sizes = quick_sizes
        self._least_depth = least_depth
        self.safety = digest or tls
        self._digest = digest
        self._tls = tls

    def suits(self, case: Case) -> bool:
        return case.size in self._sizes and case.depth >= self._least_depth and (case.is_deep or not self.safety)

    def quick(self, case: Case) -> bool:
        return case.size in self._quick_sizes and self.suits(case)

    def missing(self, spdk: Spdk) -> str | None:
        if self._tls and "keyring_file_add_key" not in spdk.methods:
            return "the SPDK in use has no NVMe/TCP over TLS"
        if lack := self.missing_sockets(spdk):
            return lack
        if self._digest and environment().spdk_version < FIRST_WITH_DIGESTS:
            return "the SPDK in use has no digests in bdev_nvme"
        return None

    def serve(self, target: Application, bdev: str) -> Remote:
        remote = Remote("127.0.0.1", free_port(), f"nqn.2016-06.io.spdk:{bdev}")
        call = target.rpc.call
        call("nvmf_create_transport", trtype="TCP", **self._transport)
        call("nvmf_create_subsystem", nqn=remote.export, allow_any_host=not self._tls)
        call("nvmf_subsystem_add_ns", nqn=remote.export, namespace={"bdev_name": bdev})
        secure = {"secure_channel": True} if self._tls else {}
        call("nvmf_subsystem_add_listener", nqn=remote.export, listen_address=_address(remote), **secure)
        if self._tls:
            call("keyring_file_add_key", name=TLS_KEY, path=_tls_key_file())
            call("nvmf_subsystem_add_host", nqn=remote.export, host=HOST, psk=TLS_KEY)
        return remote

    def attach(self, client: Application, remote: Remote) -> None:
        options: dict[str, Any] = {}
        if self._tls:
            if all(key["name"] != TLS_KEY for key in client.rpc.call("keyring_get_keys")):
                client.rpc.call("keyring_file_add_key", name=TLS_KEY, path=_tls_key_file())
            options |= {"hostnqn": HOST, "psk": TLS_KEY}
        if self._digest:
            options |= {"hdgst": True, "ddgst": True}
        place = _address(remote) | options
        client.rpc.call("bdev_nvme_attach_controller", name=CONTROLLER, subnqn=remote.export, **place)

    def detach(self, client: Application) -> None:
        client.rpc.call("bdev_nvme_detach_controller", name=CONTROLLER)


def _address(remote: Remote) -> dict[str, str]:
    return {"trtype": "TCP", "adrfam": "IPv4", "traddr": remote.address, "trsvcid": str(remote.port)}


def _tls_key_file() -> str:
    """Returns a key in NVMe/TCP's format: for SHA-256, 32 bytes and their CRC-32."""
    coded = base64.b64encode(KEY + zlib.crc32(KEY).to_bytes(4, "little")).decode()
    return key_file(f"NVMeTLSkey-1:01:{coded}:")


# SPDK's default queue of 128 holds 127 commands, so the queue is larger, for a depth of 128 and
# more. Small data goes into small buffers, of which a core keeps as many as it has requests.
SMALL = {"max_queue_depth": 256, "io_unit_size": 8 * KIB, "num_shared_buffers": 4095, "buf_cache_size": 256}
SMALL_SIZES = range(16 * KIB)
# Writes carry their data in the capsule, up to the largest I/O, with buffers for as many requests
# as are outstanding.
LARGE = {"max_queue_depth": 256, "in_capsule_data_size": 128 * KIB, "num_shared_buffers": 1023, "buf_cache_size": 128}
LARGE_SIZES = range(16 * KIB, 1 << 30)
ALL_SIZES = range(1 << 30)
COPY, ZERO_COPY = Sockets(zero_copy=False), Sockets(zero_copy=True)
URING = Sockets("uring", zero_copy=False)

NVMF = [
    NvmfPeer("nvmf-default", quick_sizes=SMALL_SIZES),
    NvmfPeer("nvmf-small", SMALL, sizes=SMALL_SIZES, least_depth=2, sockets=COPY),
    NvmfPeer("nvmf-small-zc", SMALL, sizes=SMALL_SIZES, least_depth=2, sockets=ZERO_COPY),
    NvmfPeer("nvmf-small-uring", SMALL, sizes=SMALL_SIZES, sockets=URING),
    NvmfPeer("nvmf-large", LARGE, sizes=LARGE_SIZES, sockets=COPY, quick_sizes=LARGE_SIZES),
    NvmfPeer("nvmf-large-zc", LARGE, sizes=LARGE_SIZES, sockets=ZERO_COPY),
    NvmfPeer("nvmf-large-uring", LARGE, sizes=LARGE_SIZES, sockets=URING),
    NvmfPeer("nvmf-digest", family="nvmf-digest", digest=True, quick_sizes=SMALL_SIZES),
    NvmfPeer("nvmf-digest-small", SMALL, "nvmf-digest", SMALL_SIZES, 2, digest=True),
    NvmfPeer("nvmf-digest-large", LARGE, "nvmf-digest", LARGE_SIZES, digest=True, quick_sizes=LARGE_SIZES),
    NvmfPeer("nvmf-tls", {"max_queue_depth": 256}, "nvmf-tls", tls=True, quick_sizes=ALL_SIZES),
]
