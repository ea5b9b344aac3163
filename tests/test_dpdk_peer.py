"""A memif's peer that goes, under load or before it is one: an outage, and no crash (docs/dpdk.md)."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness.commands import run
from harness.environment import ROOT
from harness.lab import Lab
from harness.net import CLIENT, TARGET, Net, assert_buffers_are_back, client_state, deleted, interface, killed
from harness.requirements import require_tool
from harness.spdk import Application, Job, assert_clean
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst


@pytest.fixture(autouse=True)
def buffers_are_back(lab: Lab) -> Iterator[None]:
    yield
    assert_buffers_are_back(lab)


def slow(lab: Lab) -> dict[str, str]:
    """Returns the environment variables with which a process copies frames slowly."""
    library = lab.folder / "memif_slow.so"
    source = ROOT / "tests" / "memif_slow.c"
    run([require_tool("cc"), "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, source])
    return {"LD_PRELOAD": os.fspath(library)}


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("end", [deleted, killed])
@pytest.mark.parametrize("workload", ["write", "read"])
def test_a_client_that_goes_under_load(lab: Lab, workload: str, end: Callable[[Application], None]) -> None:
    net = Net(lab)
    target = net.target(variables=slow(lab))
    perf = net.perf(Job(workload, depth=32, size=131_072, seconds=100))
    perf.begin_and_flow("remote0")
    end(perf)
    wait_until(lambda: not interface(target)["link_up"], "the link to be down")
    perf.kill()
    # The next client has the same port.
    perf = net.perf(Job(depth=4, size=4096, seconds=1))
    assert_clean(perf.run())
    assert perf.stop() == 0
    assert target.stop() == 0


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("end", [deleted, killed])
def test_a_target_that_goes_under_load(lab: Lab, end: Callable[[Application], None]) -> None:
    net = Net(lab)
    perf = lab.bdevperf_unattached(
        Job("write", depth=32, size=131_072, seconds=100), 16384, bdevs=["remote0"], variables=slow(lab)
    )
    net.join(perf, CLIENT, "master")
    target = net.target("slave")
    net.attach(perf)
    perf.begin_and_flow("remote0")
    end(target)
    wait_until(lambda: not interface(perf)["link_up"], "the link to be down")
    wait_until(lambda: client_state(perf) == "reconnecting", "the client to notice")
    if end is deleted:
        net.join(target, TARGET, "slave")
        wait_until(lambda: client_state(perf) == "connected", "the client to be connected again")
    # Its jobs run on for as long as they were told to.
    perf.kill()


# The length of a message to or from a memif's peer (memif_msg_t of memif.h), bytes.
MESSAGE = 128


def connected(path: Path) -> socket.socket:
    """Returns a connection to a memif's master that has not named its port yet."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # From DPDK 20.11 on, the name is abstract.
    peer.connect(os.fspath(path) if path.exists() else f"\0{path}")
    peer.settimeout(10)
    return peer


def test_a_master_that_is_deleted_ends_connections_for_no_port(lab: Lab) -> None:
    net = Net(lab)
    target = net.target()
    for _ in range(2):
        with ExitStack() as undo:
            peers = [undo.enter_context(connected(lab.folder / "memif")) for _ in range(4)]
            for peer in peers:
                assert len(peer.recv(MESSAGE)) == MESSAGE
            deleted(target)
            for peer in peers:
                assert peer.recv(MESSAGE) == b""
        net.join(target, TARGET, "master")
    listening = lab.folder / "memif"
    sockets = Path("/proc/net/unix").read_text().split("\n")
    assert sum(line.endswith((f" {listening}", f" @{listening}")) for line in sockets) == 1
    assert target.stop() == 0


def test_connections_that_end_at_once(lab: Lab) -> None:
    net = Net(lab)
    target = net.target()
    for _ in range(1000):
        connected(lab.folder / "memif").close()
    client = lab.client()
    net.join(client, CLIENT, "slave")
    wait_until(lambda: interface(target)["link_up"], "the link to be up")
    assert client.stop() == 0
    assert target.stop() == 0
