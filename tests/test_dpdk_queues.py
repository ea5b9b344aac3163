"""DST over sockets on ports with several queue pairs: a veth, whose ends spread frames over two queues
each, by a hash of the kernel's that is not DST's (docs/dpdk.md)."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Iterator

import pytest

from harness.lab import Lab
from harness.net import (
    CLIENT,
    TARGET,
    Net,
    assert_buffers_are_back,
    client_state,
    connections,
    counters,
    create_interface,
    create_veth,
    interface,
)
from harness.requirements import require_tool
from harness.rpc import RpcError
from harness.spdk import Application, Job, assert_clean
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst


@pytest.fixture(autouse=True)
def buffers_are_back(lab: Lab) -> Iterator[None]:
    yield
    assert_buffers_are_back(lab)


@dataclass
class VethNet(Net):
    """A veth between a target and a client."""

    ends: tuple[str, str] = ("", "")

    def device(self, role: str) -> str:
        return f"net_af_packet_dst,iface={self.ends[role == 'slave']},qpairs=2"


@pytest.fixture
def net(lab: Lab) -> VethNet:
    ends = create_veth(lab)
    for end in ends:
        # The kernel sees the frames, too, and would answer if it had one of the addresses elsewhere.
        subprocess.run([require_tool("ip"), "link", "set", end, "arp", "off"], check=True)
    return VethNet(lab, ends=ends)


def queues(application: Application, state: str = "Established") -> set[int]:
    """Returns the queues that have connections."""
    return {found["queue"] for found in connections(application) if found["state"] == state}


def passed_on(application: Application) -> int:
    return counters(application)["frames_passed_on"]


@pytest.mark.watchdog(180)
@pytest.mark.parametrize("size, depth", [(4096, 32), (131_072, 16)])
def test_verify(lab: Lab, net: VethNet, size: int, depth: int) -> None:
    # Two reactors and two pools of frames take more than the usual memory.
    target = net.target(cores="0x3", arguments=["-s", "1024"])
    perf = net.perf(Job(depth=depth, size=size), 2)
    assert [interface(application)["queues"] for application in (target, perf)] == [2, 2]
    # Connections take turns, until the kernel has given some frames to a queue that is not theirs.
    number = 0
    while queues(perf) != {0, 1} or not passed_on(perf) or not passed_on(target):
        number += 1
        net.attach(perf, name=f"extra{number}", host=f"extra{number}")
        wait_until(lambda: client_state(perf, f"extra{number}") == "connected", "another connection")
    perf.begin_and_flow("remote0")
    assert_clean(perf.outcome())
    assert counters(perf)["frames_received"] > 1000
    assert counters(perf)["segment_checksum_errors"] == counters(target)["segment_checksum_errors"] == 0
    assert perf.stop() == 0
    assert target.stop() == 0


@pytest.mark.watchdog(180)
@pytest.mark.parametrize("side", ["target", "client"])
def test_an_interface_that_is_deleted_under_load(lab: Lab, net: VethNet, side: str) -> None:
    target = net.target()
    perf = net.perf(Job(depth=32, size=16_384, seconds=8), 2)
    perf.begin_and_flow("remote0")
    application, address, role = {"target": (target, TARGET, "master"), "client": (perf, CLIENT, "slave")}[side]
    for _ in range(2):
        application.rpc.call("dpdk_sock_delete_interface", name="net0")
        wait_until(lambda: client_state(perf) == "reconnecting", "the connection to end")
        net.join(application, address, role)
        wait_until(lambda: client_state(perf) == "connected", "the session to be continued")
    assert_clean(perf.outcome())
    assert perf.stop() == 0
    assert target.stop() == 0


def test_a_number_of_queues(lab: Lab, net: VethNet) -> None:
    target = lab.target()
    device = net.device("master")

    def refused(port: str, queues: int) -> str:
        with pytest.raises(RpcError) as raised:
            create_interface(target, port, TARGET, queues=queues)
        return raised.value.message

    create_interface(target, device, TARGET, queues=2)
    (saved,) = target.rpc.call("framework_get_config", name="dpdk_sock")
    assert saved["params"]["queues"] == 2
    target.rpc.call("dpdk_sock_delete_interface", name="net0")
    reason = "leave the number out, and it has"
    assert refused(device, 3) == f"queues: this port cannot have 3 queue pairs: {reason} 2"
    memif = f"net_memif_dst,role=master,id=0,socket={lab.folder}/memif"
    assert refused(memif, 2) == f"queues: this port cannot have 2 queue pairs: {reason} 1"
    # What was refused has left nothing behind.
    create_interface(target, device, TARGET)
    (saved,) = target.rpc.call("framework_get_config", name="dpdk_sock")
    assert "queues" not in saved["params"]
    assert target.stop() == 0
