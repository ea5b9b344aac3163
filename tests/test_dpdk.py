"""DST over sockets on DPDK's ports: two processes with a memif between them (docs/dpdk.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from harness.lab import Lab
from harness.rpc import RpcError
from harness.spdk import Application, Job, assert_clean
from harness.transport import Nvmf, Remote, serve_nvmf
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

TARGET, CLIENT = "192.0.2.1", "192.0.2.2"
PORT = "4460"
MIB = 2**20


@dataclass
class Net:
    """A memif between a target and its clients, of which one at a time has the other end."""

    lab: Lab
    mtu: int = 1500

    def device(self, role: str) -> str:
        return f"net_memif_dst,role={role},id=0,socket={self.lab.folder}/memif"

    def join(self, application: Application, address: str, role: str) -> None:
        """Gives an application the interface net0, or skips the test if it cannot have ports."""
        params = {"name": "net0", "port": self.device(role), "addresses": [f"{address}/24"], "mtu": self.mtu}
        try:
            assert application.rpc.call("dpdk_sock_create_interface", **params) is True
        except RpcError as error:
            # The two reasons of docs/dpdk.md for an application without ports, and no other.
            if "are implemented for SPDK" in error.message or "was linked without DPDK's network ports" in error.message:
                pytest.skip(f"no sockets over DPDK here: {error.message}")
            raise

    def target(self, role: str = "master") -> Application:
        target = self.lab.target()
        target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=64 * MIB // 4096, block_size=4096)
        self.join(target, TARGET, role)
        target.rpc.call("dst_create_export", name="volume", bdev_name="Malloc0")
        target.rpc.call("dst_export_add_host", export="volume", host="*", access="rw")
        target.rpc.call("dst_create_listener", traddr=TARGET, trsvcid=PORT, sock_impl="dpdk")
        (listener,) = target.rpc.call("dst_get_listeners")
        assert listener["state"] == "listening"
        return target

    def attach(self, client: Application, **more: Any) -> None:
        params = {"name": "remote0", "traddr": TARGET, "trsvcid": PORT, "export": "volume", "host": "client"}
        client.rpc.call("bdev_dst_create", **(params | {"sock_impl": "dpdk"} | more))

    def perf(self, job: Job, reactors: int = 1) -> Any:
        perf = self.lab.bdevperf_unattached(job, 64 * MIB // 4096, reactors, bdevs=["remote0"])
        self.join(perf, CLIENT, "slave")
        self.attach(perf)
        return perf


def connections(application: Application) -> list[dict[str, Any]]:
    return application.rpc.call("dpdk_sock_get_connections")


def counters(application: Application) -> dict[str, Any]:
    (interface,) = application.rpc.call("dpdk_sock_get_interfaces", name="net0")
    return interface["counters"]


def state(application: Application) -> str:
    (info,) = application.rpc.call("bdev_dst_get_info", name="remote0")
    return info["state"]


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
    assert [found["remote"].split(":")[0] for found in connections(target)] == [CLIENT] * (reactors + 1)
    assert_clean(perf.outcome())
    # What one side has received, the other has sent: no frame is damaged, and none arrives twice.
    for receiver, sender in ((target, perf), (perf, target)):
        received, sent = counters(receiver), counters(sender)
        assert 1000 < received["frames_received"] <= sent["frames_sent"]
        assert received["segment_checksum_errors"] == 0 and not received["frames_dropped"]
    assert perf.stop() == 0
    assert target.stop() == 0
    for process in (target, perf):
        assert "buffers of a network port were not released" not in process.text()


def test_an_interface_that_is_deleted_under_load_is_an_outage(lab: Lab) -> None:
    net = Net(lab)
    target = net.target()
    perf = net.perf(Job(depth=32, size=4096, seconds=8))
    perf.begin_and_flow("remote0")
    for _ in range(2):
        assert perf.rpc.call("dpdk_sock_delete_interface", name="net0") is True
        assert perf.rpc.call("dpdk_sock_get_interfaces") == connections(perf) == []
        wait_until(lambda: state(perf) == "reconnecting", "the client to notice")
        net.join(perf, CLIENT, "slave")
        wait_until(lambda: state(perf) == "connected", "the client to be connected again")
    assert_clean(perf.outcome())
    assert perf.stop() == 0
    assert target.stop() == 0
    for process in (target, perf):
        assert "buffers of a network port were not released" not in process.text()


def test_a_target_that_is_killed_and_comes_back(lab: Lab) -> None:
    net = Net(lab)
    # A memif's master takes the next slave, while a slave does not look for the next master.
    client = lab.client()
    net.join(client, CLIENT, "master")
    target = net.target("slave")
    net.attach(client)
    target.kill()
    wait_until(lambda: state(client) == "reconnecting", "the client to notice")
    net.target("slave")
    # The new target's bdev is another one, which the client can know only from the target.
    wait_until(lambda: state(client) == "failed", "the client to find the target")
    client.rpc.call("bdev_dst_delete", name="remote0")
    assert client.stop() == 0


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
    wait_until(lambda: state(client) == "connected", "the client to be connected")


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
    wait_until(lambda: state(client) == "connected", "the client to be connected")
    with pytest.raises(RpcError):
        client.rpc.call("bdev_dst_create", name="other", sock_impl="dpdk", attach_timeout_ms=500, **place)
    assert client.rpc.call("framework_get_config", name="dpdk_sock") == []
    assert target.stop() == 0


def test_nvmf_over_it(lab: Lab) -> None:
    """SPDK's own NVMe/TCP names no implementation; the address decides."""
    net = Net(lab)
    target = lab.target()
    remote = Remote(TARGET, 4420, "nqn.2016-06.io.spdk:volume")
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=16 * MIB // 4096, block_size=4096)
    net.join(target, TARGET, "master")
    serve_nvmf(target, "Malloc0", remote)
    perf = lab.bdevperf_unattached(Job(depth=16, size=16_384), 16 * MIB // 4096, bdevs=["nvme0n1"])
    net.join(perf, CLIENT, "slave")
    method, params = Nvmf().attach_call("nvme0", remote)
    perf.rpc.call(method, **params)
    assert any(found["local"] == f"{TARGET}:4420" for found in connections(target))
    assert_clean(perf.run())
    assert perf.stop() == 0
    assert target.stop() == 0
    for process in (target, perf):
        assert "buffers of a network port were not released" not in process.text()
