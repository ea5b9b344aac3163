"""SPDK's own NVMe/TCP over sockets on DPDK's ports, with data that is copied and data that is lent
(docs/dpdk.md)."""

from __future__ import annotations

from typing import Callable, Iterator

import pytest

from harness.lab import Lab
from harness.net import (
    CLIENT,
    MIB,
    TARGET,
    Net,
    assert_buffers_are_back,
    connections,
    default_implementation,
    deleted,
    interface,
    killed,
)
from harness.spdk import Application, Bdevperf, Job, assert_clean
from harness.transport import Nvmf, Remote, serve_nvmf
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

# The lengths of an I/O whose data is copied, and lent.
COPIED, LENT = 16_384, 131_072


@pytest.fixture(autouse=True)
def buffers_are_back(lab: Lab) -> Iterator[None]:
    yield
    assert_buffers_are_back(lab)


class Nvme:
    """A target and its clients. They name no implementation."""

    remote = Remote(TARGET, 4420, "nqn.2016-06.io.spdk:volume")

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.net = Net(lab)
        self.target = lab.target(config=default_implementation())
        self.target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=16 * MIB // 4096, block_size=4096)
        self.net.join(self.target, TARGET, "master")
        serve_nvmf(self.target, "Malloc0", self.remote)

    def perf(self, job: Job) -> Bdevperf:
        config = default_implementation()
        perf = self.lab.bdevperf_unattached(job, 16 * MIB // 4096, bdevs=["nvme0n1"], config=config)
        self.net.join(perf, CLIENT, "slave")
        method, params = Nvmf().attach_call("nvme0", self.remote)
        perf.rpc.call(method, **params)
        assert any(found["local"] == f"{TARGET}:4420" for found in connections(self.target))
        return perf


@pytest.mark.parametrize("size", [COPIED, LENT])
def test_verify(lab: Lab, size: int) -> None:
    nvme = Nvme(lab)
    perf = nvme.perf(Job(depth=16, size=size))
    assert_clean(perf.run())
    assert perf.stop() == 0
    assert nvme.target.stop() == 0


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("end", [deleted, killed])
def test_a_client_that_goes_under_load(lab: Lab, end: Callable[[Application], None]) -> None:
    nvme = Nvme(lab)
    perf = nvme.perf(Job("randrw", depth=32, size=LENT, seconds=100))
    perf.begin_and_flow("nvme0n1")
    end(perf)
    wait_until(lambda: not interface(nvme.target)["link_up"], "the link to be down")
    # Its controller is reset again and again.
    perf.kill()
    perf = nvme.perf(Job(depth=4, size=LENT, seconds=1))
    assert_clean(perf.run())
    assert perf.stop() == 0
    assert nvme.target.stop() == 0


@pytest.mark.watchdog(120)
def test_a_target_whose_interface_goes_under_load(lab: Lab) -> None:
    nvme = Nvme(lab)
    perf = nvme.perf(Job("randrw", depth=32, size=LENT, seconds=100))
    perf.begin_and_flow("nvme0n1")
    deleted(nvme.target)
    wait_until(lambda: connections(nvme.target) == [], "the connections to end")
    perf.kill()
    nvme.net.join(nvme.target, TARGET, "master")
    perf = nvme.perf(Job(depth=4, size=LENT, seconds=1))
    assert_clean(perf.run())
    assert perf.stop() == 0
    assert nvme.target.stop() == 0
