"""DST over sockets on DPDK's ports: two processes with a memif between them (docs/dpdk.md)."""

from __future__ import annotations

import json
import signal
import time
from typing import Any, Iterator

import pytest

from harness.checker import start_checker
from harness.cycles import cycles, report, seeded_random
from harness.lab import Lab
from harness.net import (
    CLIENT,
    CLIENT6,
    MIB,
    PORT,
    TARGET,
    TARGET6,
    Net,
    assert_buffers_are_back,
    client_state,
    connections,
    counters,
    interface,
    wait_for_buffers,
)
from harness.rpc import RpcError
from harness.service import Service, durable_backend, late_backend
from harness.spdk import Application, Job, assert_clean
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

# The longest that a backend takes for a write, in ms, so that several later ones may overtake it.
LATE_MS = 150

@pytest.fixture(autouse=True)
def buffers_are_back(lab: Lab) -> Iterator[None]:
    yield
    assert_buffers_are_back(lab)


def wait_for_peers(target: Application, addresses: list[str]) -> None:
    """Waits until these are the peers of the target's connections. I/O flows as soon as one reactor's channel is
    connected, while another one's may not be yet."""
    wait_until(
        lambda: [found["remote"].rsplit(":", 1)[0] for found in connections(target)] == addresses,
        f"connections from {', '.join(addresses)}",
    )


@pytest.mark.watchdog(180)
@pytest.mark.parametrize(
    "size, depth, mtu, reactors",
    [
        (4096, 32, 1500, 1),
        (4096, 32, 1500, 2),
        (131_072, 16, 1500, 1),
        (131_072, 16, 1500, 2),
        (4096, 128, 9000, 2),
        (1_048_576, 4, 9000, 1),
        (1_048_576, 4, 9000, 2),
    ],
)
def test_verify(lab: Lab, size: int, depth: int, mtu: int, reactors: int) -> None:
    net = Net(lab, mtu)
    target = net.target()
    perf = net.perf(Job(depth=depth, size=size), reactors)
    perf.begin_and_flow("remote0")
    wait_for_peers(target, [CLIENT] * (reactors + 1))
    assert_clean(perf.outcome())
    # What one side has received, the other has sent: no frame is damaged, and none arrives twice.
    for receiver, sender in ((target, perf), (perf, target)):
        received, sent = counters(receiver), counters(sender)
        assert 1000 < received["frames_received"] <= sent["frames_sent"]
        assert received["segment_checksum_errors"] == 0 and not received["frames_dropped"]
    assert perf.stop() == 0
    assert target.stop() == 0


def test_ipv6(lab: Lab) -> None:
    net = Net(lab, 9000, TARGET6, CLIENT6)
    target = net.target()
    perf = net.perf(Job(depth=16, size=131_072), 2)
    perf.begin_and_flow("remote0")
    wait_for_peers(target, [f"[{CLIENT6}]"] * 3)
    assert_clean(perf.outcome())
    # The bdev's connections end, and leave nothing behind.
    perf.rpc.call("bdev_dst_delete", name="remote0")
    wait_until(lambda: all(found["state"] == "TimeWait" for found in connections(perf)), "the connections to end")
    for application in (target, perf):
        wait_for_buffers(application)


def test_an_interface_that_is_deleted_under_load_is_an_outage(lab: Lab) -> None:
    net = Net(lab)
    target = net.target()
    perf = net.perf(Job(depth=32, size=4096, seconds=8))
    perf.begin_and_flow("remote0")
    for _ in range(2):
        assert perf.rpc.call("dpdk_sock_delete_interface", name="net0") is True
        assert perf.rpc.call("dpdk_sock_get_interfaces") == connections(perf) == []
        wait_until(lambda: client_state(perf) == "reconnecting", "the client to notice")
        net.join(perf, CLIENT, "slave")
        wait_until(lambda: client_state(perf) == "connected", "the client to be connected again")
    assert_clean(perf.outcome())
    assert perf.stop() == 0
    assert target.stop() == 0


def test_a_listener_survives_its_interface(lab: Lab) -> None:
    net = Net(lab)
    # The master's link goes down and up with the slave.
    perf = net.lab.bdevperf_unattached(Job(depth=32, size=4096, seconds=2), 64 * MIB // 4096, bdevs=["remote0"])
    net.join(perf, CLIENT, "master")
    assert interface(perf)["link_up"] is False
    target = net.target("slave")
    wait_until(lambda: interface(perf)["link_up"], "the link to be up")
    net.attach(perf)
    for _ in range(2):
        assert target.rpc.call("dpdk_sock_delete_interface", name="net0") is True
        wait_until(lambda: not interface(perf)["link_up"], "the link to be down")
        wait_until(lambda: client_state(perf) == "reconnecting", "the client to notice")
        # The listener is still configured, and hears again once the interface is back.
        assert len(target.rpc.call("dst_get_listeners")) == 1
        net.join(target, TARGET, "slave")
        wait_until(lambda: client_state(perf) == "connected", "the client to be connected again")
        assert interface(perf)["link_up"] is True
    perf.begin_and_flow("remote0")
    assert_clean(perf.outcome())
    # It can be deleted without an interface, and then listens no more.
    assert target.rpc.call("dpdk_sock_delete_interface", name="net0") is True
    target.rpc.call("dst_delete_listener", traddr=TARGET, trsvcid=PORT)
    net.join(target, TARGET, "slave")
    wait_until(lambda: client_state(perf) == "reconnecting", "the client to notice")
    refused = counters(target)["resets_sent"]
    wait_until(lambda: counters(target)["resets_sent"] > refused, "the target to refuse a connection")
    assert perf.stop() == 0
    assert target.stop() == 0


def test_a_target_that_is_killed_and_comes_back(lab: Lab) -> None:
    net = Net(lab)
    # A memif's master takes the next slave, while a slave does not look for the next master.
    client = lab.client()
    net.join(client, CLIENT, "master")
    target = net.target("slave")
    net.attach(client)
    target.kill()
    wait_until(lambda: client_state(client) == "reconnecting", "the client to notice")
    net.target("slave")
    # The new target's bdev is another one, which the client can know only from the target.
    wait_until(lambda: client_state(client) == "failed", "the client to find the target")
    client.rpc.call("bdev_dst_delete", name="remote0")
    assert client.stop() == 0


@pytest.mark.watchdog(60)
def test_a_target_is_killed_and_restarted_under_load(lab: Lab) -> None:
    random = seeded_random()
    net = Net(lab)
    checker = start_checker(lab)
    net.join(checker, CLIENT, "master")
    service = Service(lab, durable_backend(lab), net=net)
    service.attach(checker)
    checker.begin_and_flow(zeroes=5, flushes=1)
    beyond = service.restart_under_load(checker, random, cycles(2))
    checker.end().assert_clean()
    checker.verify().assert_clean()
    report("target killed and restarted, over a memif", beyond, 2000)


@pytest.mark.watchdog(60)
def test_a_target_is_stopped_past_the_lease(lab: Lab) -> None:
    """What the client sent before is in the memif when the target goes on, after the client has given the
    connection up; nothing of that may be executed after later writes."""
    random = seeded_random()
    net = Net(lab)
    # So few blocks that each is overwritten many times a second.
    checker = start_checker(lab, blocks=64)
    net.join(checker, CLIENT, "master")
    service = Service(lab, late_backend(LATE_MS), net=net)
    service.attach(checker, keep_alive_timeout_ms=500, reconnect_delay_ms=50)
    checker.begin_and_flow(depth=24, io_blocks=2, reads=25)
    for _ in range(cycles(2)):
        service.application.signal(signal.SIGSTOP)
        wait_until(lambda: client_state(checker) == "reconnecting", "the client to notice")
        # This sleep is the intended outage, not a wait for something.
        time.sleep(random.uniform(0, 0.6))
        service.application.signal(signal.SIGCONT)
        checker.wait_flow(4 * checker.blocks)
        checker.findings().assert_clean()
    checker.end().assert_clean()
    # By then, everything in the backend has been executed.
    time.sleep(1.5 * LATE_MS / 1000)
    checker.verify().assert_clean()


def test_what_is_saved_comes_back(lab: Lab) -> None:
    net = Net(lab)
    target = net.target()
    names = [entry["subsystem"] for entry in target.rpc.call("framework_get_subsystems")]
    assert names.index("dpdk_sock") < names.index("bdev")
    saved = {name: target.rpc.call("framework_get_config", name=name) for name in names}
    (call,) = saved["dpdk_sock"]
    assert call["params"]["addresses"] == [f"{TARGET}/24"]
    assert target.stop() == 0
    file = lab.folder / "saved.json"
    file.write_text(json.dumps({"subsystems": [{"subsystem": n, "config": c} for n, c in saved.items()]}))
    target = lab.target(config=file)
    assert {name: target.rpc.call("framework_get_config", name=name) for name in names} == saved
    client = lab.client()
    net.join(client, CLIENT, "slave")
    net.attach(client)
    wait_until(lambda: client_state(client) == "connected", "the client to be connected")


def test_what_cannot_be_is_refused(lab: Lab) -> None:
    net = Net(lab)
    target = net.target()

    def refused(method: str, **params: Any) -> str:
        with pytest.raises(RpcError) as caught:
            target.rpc.call(method, **params)
        return caught.value.message

    def create(**params: Any) -> str:
        good = {"name": "net1", "port": "net_ring0", "addresses": ["198.51.100.1/24"]}
        return refused("dpdk_sock_create_interface", **(good | params))

    assert "already exists" in create(name="net0")
    assert f"the interface net0 already has the address {TARGET}" in create(addresses=[f"{TARGET}/24"])
    assert "net_memif_dst is in use already" in create(port=net.device("slave"))
    assert "bsize=2048 is too small for an MTU of 9000" in create(port="net_memif1,bsize=2048", mtu=9000)
    assert "is its driver linked" in create(port="net_absent0")
    assert "is its driver linked" in create(port="0000:ff:1f.7")
    assert len(target.rpc.call("dpdk_sock_get_interfaces")) == 1
    # Addresses of no interface are the kernel's, and so is every address.
    target.rpc.call("dst_create_listener", traddr="0.0.0.0", trsvcid=PORT)
    message = refused("dst_create_listener", traddr="127.0.0.1", trsvcid="4461", sock_impl="dpdk")
    assert message.startswith("traddr, trsvcid: ")
    # A peer that refuses, and one that is not there.
    lines = target.text().count("\n")
    place = {"export": "volume", "host": "client", "sock_impl": "dpdk", "attach_timeout_ms": 500}
    for address in ("203.0.113.1", "192.0.2.77"):
        assert refused("bdev_dst_create", name="remote0", traddr=address, trsvcid=PORT, **place)
    # DST says it once; the sockets say nothing.
    assert "sock" not in "".join(target.text().splitlines(True)[lines:])


def test_without_an_interface_nothing_changes(lab: Lab) -> None:
    target, remote = lab.malloc_target(16)
    client = lab.client()
    place = {"traddr": remote.address, "trsvcid": str(remote.port), "export": remote.export, "host": "test-client"}
    client.rpc.call("bdev_dst_create", name="remote0", **place)
    wait_until(lambda: client_state(client) == "connected", "the client to be connected")
    with pytest.raises(RpcError):
        client.rpc.call("bdev_dst_create", name="other", sock_impl="dpdk", attach_timeout_ms=500, **place)
    assert client.rpc.call("framework_get_config", name="dpdk_sock") == []
    assert target.stop() == 0
