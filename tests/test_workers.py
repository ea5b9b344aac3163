"""Workers are added, removed and moved while I/O runs, on the CPUs that were asked for."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from harness.checker import start_checker
from harness.keys import HOST, KeyFile
from harness.lab import Lab
from harness.ports import free_port
from harness.rpc import RpcError
from harness.service import attach_to
from harness.spdk import BOTH_CORES, CLIENT_CORES, TARGET_CORES, Application
from harness.transport import Remote
from harness.waiting import wait_until
from test_config import save, saved

pytestmark = pytest.mark.needs_dst

CPUS = sorted(os.sched_getaffinity(0))


def threads(application: Application) -> dict[int, set[int]]:
    """Returns the CPUs on which each worker may run, by the CPU in its name."""
    found = {}
    for task in Path(f"/proc/{application.pid}/task").iterdir():
        name = re.fullmatch(r"dst_crypto_(\d+)\n", (task / "comm").read_text())
        if name:
            found[int(name[1])] = os.sched_getaffinity(int(task.name))
    return found


def shown(application: Application) -> list[dict[str, Any]]:
    workers: list[dict[str, Any]] = application.rpc.call("dst_get_stats")["workers"]
    return workers


def test_workers_are_where_they_were_asked_for(lab: Lab) -> None:
    target = lab.target()
    assert (shown(target), threads(target)) == ([], {})
    for cpus in ([CPUS[-1]], CPUS, [CPUS[0]], []):
        assert target.rpc.call("dst_set_workers", cpumask=str(cpus)) is True
        assert [worker["cpu"] for worker in shown(target)] == cpus
        # The call does not wait for any worker.
        wait_until(lambda: threads(target) == {cpu: {cpu} for cpu in cpus}, "the threads to come and go")
    assert target.rpc.call("dst_set_workers", cpumask="0x1") is True
    with pytest.raises(RpcError, match="cpumask: .*no CPU 1023"):
        target.rpc.call("dst_set_workers", cpumask="[0,1023]")
    assert [worker["cpu"] for worker in shown(target)] == [0]
    assert target.stop() == 0


def test_workers_come_back(lab: Lab) -> None:
    target = lab.target()
    assert "dst_set_workers" not in str(saved(target))
    target.rpc.call("dst_set_workers", cpumask=f"[{CPUS[-1]}]")
    config = save(target, lab.folder / "saved.json")
    assert target.stop() == 0
    target = lab.target(config=lab.folder / "saved.json")
    assert [worker["cpu"] for worker in shown(target)] == [CPUS[-1]]
    assert saved(target) == config


class Loop:
    """One process is target and its own client: its reactor has one of two CPUs, and its worker the
    other."""

    def __init__(self, lab: Lab) -> None:
        self.checker = start_checker(lab)
        self.call = self.checker.rpc.call
        self.key = KeyFile(lab.folder, "key").path
        self.remote = Remote("127.0.0.1", free_port(), "volume")
        self.call("bdev_malloc_create", name="Malloc0", num_blocks=16384, block_size=4096)
        self.call("dst_create_export", name="volume", bdev_name="Malloc0")
        self.call("dst_export_add_host", export="volume", host=HOST, access="rw", psk_file=self.key)
        self.call("dst_create_listener", traddr=self.remote.address, trsvcid=str(self.remote.port))

    def attach(self) -> None:
        attach_to(self.checker, self.remote, psk_file=self.key)

    def set_workers(self, cpumask: str) -> None:
        self.call("dst_set_workers", cpumask=cpumask)

    def jobs(self) -> int:
        return sum(worker["jobs"] for worker in shown(self.checker))


# The reactor's own CPU, and another one.
OWN, OTHER = CLIENT_CORES, TARGET_CORES


def test_workers_come_go_and_move_while_io_runs(lab: Lab) -> None:
    loop = Loop(lab)
    loop.attach()
    loop.checker.begin_and_flow(depth=32, io_blocks=32, zeroes=5, compares=10, flushes=1)
    loop.set_workers(OTHER)
    wait_until(lambda: loop.jobs() > 1000, "the worker to have something to do")
    (worker,) = shown(loop.checker)
    assert worker["busy_us"] > 0
    choices = random.Random(4)
    for _ in range(200):
        loop.set_workers(choices.choice(["0x0", OTHER, OTHER, OWN, BOTH_CORES]))
        loop.checker.wait_flow(choices.randrange(100))
    loop.set_workers("0x0")
    loop.checker.wait_flow()
    loop.checker.end().assert_clean()
    loop.checker.verify().assert_clean()
    (info,) = loop.call("bdev_dst_get_info")
    assert info["counters"]["reconnects"] == 0


def test_clients_go_while_workers_have_their_records(lab: Lab) -> None:
    loop = Loop(lab)
    loop.set_workers(OTHER)
    for _ in range(20):
        before = loop.jobs()
        loop.attach()
        loop.checker.begin_and_flow(depth=64, io_blocks=32)
        wait_until(lambda: loop.jobs() > before, "the worker to have something to do")
        assert loop.call("bdev_dst_delete", name="remote0") is True
        loop.checker.end()
        wait_until(lambda: not loop.call("dst_get_sessions"), "the session to end")
