"""Sockets over DPDK between processes: interfaces, and a memif between two of them (docs/dpdk.md)."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from harness.environment import environment
from harness.lab import Lab
from harness.requirements import require_root, require_tool
from harness.rpc import RpcError
from harness.spdk import Application, Bdevperf, Job
from harness.transport import Remote
from harness.waiting import wait_until

TARGET, CLIENT = "192.0.2.1", "192.0.2.2"
TARGET6, CLIENT6 = "2001:db8::1", "2001:db8::2"
PORT = "4460"
MIB = 2**20


def default_implementation() -> dict[str, Any] | None:
    """Returns the configuration of an application in which SPDK's own modules, which name no
    implementation, have sockets over DPDK."""
    if environment().spdk_version < (26, 1):
        return None  # The address decides.
    method = {"method": "sock_set_default_impl", "params": {"impl_name": "dpdk"}}
    return {"subsystems": [{"subsystem": "sock", "config": [method]}]}


def says_no_ports(message: str) -> bool:
    """Returns true if a message gives one of the two reasons of docs/dpdk.md for which an application
    can have no ports."""
    return "are implemented for SPDK" in message or "was linked without DPDK's network ports" in message


def create_interface(application: Application, port: str, address: str, mtu: int = 1500, **more: Any) -> None:
    """Gives an application the interface net0, or skips the test if it cannot have ports."""
    prefix = 64 if ":" in address else 24
    params = {"name": "net0", "port": port, "addresses": [f"{address}/{prefix}"], "mtu": mtu} | more
    try:
        assert application.rpc.call("dpdk_sock_create_interface", **params) is True
    except RpcError as error:
        if says_no_ports(error.message):
            pytest.skip(f"no sockets over DPDK here: {error.message}")
        raise


def create_veth(lab: Lab) -> tuple[str, str]:
    """Creates a veth whose ends are up, and returns them, or skips the test if there can be none."""
    require_root("a network interface")
    ip = require_tool("ip")
    ends = f"dst{os.getpid() % 100_000}a", f"dst{os.getpid() % 100_000}b"
    # DPDK's af_packet numbers its queues' group in the kernel by the process's id and the interface's
    # index, exclusive or, of which two processes must not have the same.
    index = 0x100000 + os.getpid() % 0x10000
    veth = f"link add {ends[0]} index {index} type veth peer name {ends[1]} index {index ^ 0x5A5A}"
    made = subprocess.run([ip, *veth.split()], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no veth here: {made.stderr.strip()}")
    lab.on_end(subprocess.check_call, [ip, "link", "del", ends[0]])
    for end in ends:
        subprocess.run([ip, "link", "set", end, "up"], check=True)
    return ends


@dataclass
class Net:
    """A memif between a target and its clients, of which one at a time has the other end."""

    lab: Lab
    mtu: int = 1500
    target_address: str = TARGET
    client_address: str = CLIENT

    @property
    def remote(self) -> Remote:
        """The place of an export named volume."""
        return Remote(self.target_address, int(PORT), "volume")

    def device(self, role: str) -> str:
        return f"net_memif_dst,role={role},id=0,socket={self.lab.folder}/memif"

    def join(self, application: Application, address: str, role: str) -> None:
        create_interface(application, self.device(role), address, self.mtu)

    def target(self, role: str = "master", **more: Any) -> Application:
        target = self.lab.target(**more)
        target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=64 * MIB // 4096, block_size=4096)
        self.join(target, self.target_address, role)
        target.rpc.call("dst_create_export", name="volume", bdev_name="Malloc0")
        target.rpc.call("dst_export_add_host", export="volume", host="*", access="rw")
        target.rpc.call("dst_create_listener", traddr=self.target_address, trsvcid=PORT, sock_impl="dpdk")
        (listener,) = target.rpc.call("dst_get_listeners")
        assert listener["state"] == "listening"
        return target

    def attach(self, client: Application, **more: Any) -> None:
        params = {"name": "remote0", "traddr": self.target_address, "trsvcid": PORT}
        params |= {"export": "volume", "host": "client", "sock_impl": "dpdk"}
        client.rpc.call("bdev_dst_create", **(params | more))

    def perf(self, job: Job, reactors: int = 1, role: str = "slave") -> Bdevperf:
        perf = self.lab.bdevperf_unattached(job, 64 * MIB // 4096, reactors, bdevs=["remote0"])
        self.join(perf, self.client_address, role)
        self.attach(perf)
        return perf


def deleted(application: Application) -> None:
    """Deletes the interface of an application."""
    assert application.rpc.call("dpdk_sock_delete_interface", name="net0") is True


def killed(application: Application) -> None:
    """Kills an application, which may be used in place of `deleted`."""
    application.kill()


def connections(application: Application) -> list[dict[str, Any]]:
    return application.rpc.call("dpdk_sock_get_connections")


def interface(application: Application) -> dict[str, Any]:
    (found,) = application.rpc.call("dpdk_sock_get_interfaces", name="net0")
    return found


def counters(application: Application) -> dict[str, Any]:
    return interface(application)["counters"]


def client_state(application: Application, bdev: str = "remote0") -> str:
    (info,) = application.rpc.call("bdev_dst_get_info", name=bdev)
    return info["state"]


def wait_for_buffers(application: Application) -> None:
    """Waits until all buffers of a memif, which keeps none for itself, are free: nothing is left to
    be read or sent."""

    def are_back() -> bool:
        found = counters(application)
        return found["received_buffers"] == found["sent_buffers"] == 0

    wait_until(are_back, f"the buffers of {application.name}'s port to be free")


def assert_buffers_are_back(lab: Lab) -> None:
    """Checks that the ports of all processes had all their buffers back when they were closed, after
    closing those that are open."""
    for process in lab.processes:
        if not isinstance(process, Application):
            continue
        if process.exit_code is None:
            for found in process.rpc.call("dpdk_sock_get_interfaces"):
                process.rpc.call("dpdk_sock_delete_interface", name=found["name"])
        assert "buffers of a network port were not released" not in process.text()
