"""Every case of SPDK's own bdev test suite, on a remote bdev."""

from __future__ import annotations

import re

import pytest

from harness.lab import Lab
from harness.net import CLIENT, Net, assert_buffers_are_back
from harness.spdk import Application
from harness.transport import attach


def start_bdevio(lab: Lab) -> Application:
    # bdevio needs three reactors; the machine may have fewer CPUs.
    bdevio = Application(
        "bdevio", "bdevio", lab.folder, "0x7", ["-w"], variables={"DST_LCORES": "(0,1,2)@(0,1)"}
    )
    lab.adopt(bdevio)
    bdevio.wait_ready()
    return bdevio


def assert_all_cases_pass(bdevio: Application, bdev: str) -> None:
    failures = bdevio.rpc.call("perform_tests", name=bdev)
    output = bdevio.text()
    assert failures == 0, output[-6000:]
    # CUnit's summary: total, ran, passed, failed, inactive.
    summary = re.search(r"tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", output)
    assert summary, output[-3000:]
    total, ran, passed, failed, inactive = map(int, summary.groups())
    print(f"bdevio: {passed} of {total} cases passed")
    assert total >= 20 and (ran, passed, failed, inactive) == (total, total, 0, 0)


@pytest.mark.parametrize("block_size", [512, 4096])
def test_bdevio(lab: Lab, block_size: int) -> None:
    _, remote = lab.malloc_target(64, block_size)
    bdevio = start_bdevio(lab)
    assert_all_cases_pass(bdevio, attach(lab.transport, bdevio, remote))


@pytest.mark.needs_dst
def test_bdevio_over_dpdk(lab: Lab) -> None:
    net = Net(lab, mtu=9000)
    net.target()
    bdevio = start_bdevio(lab)
    net.join(bdevio, CLIENT, "slave")
    net.attach(bdevio)
    assert_all_cases_pass(bdevio, "remote0")
    assert_buffers_are_back(lab)
