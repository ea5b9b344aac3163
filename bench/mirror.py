#!/usr/bin/python3
"""make bench MIRROR=1: compares DST's mirror with SPDK's raid1, on the same two DST bdevs.

Both members are exports of one target, one core a side. SPDK has raid1 since 23.01, and rebuilds it
since 23.05. With an older one the mirror is compared with one of its members only.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Callable

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import machine  # noqa: E402
from harness.environment import environment  # noqa: E402
from harness.lab import Lab  # noqa: E402
from harness.mirror import shown  # noqa: E402
from harness.rpc import RpcError  # noqa: E402
from harness.spdk import Application, Bdevperf, Job  # noqa: E402
from harness.transport import Dst, Remote  # noqa: E402
from harness.waiting import wait_until  # noqa: E402
from measure import measure  # noqa: E402
from results import save  # noqa: E402
from runs import DISTURBED, MIXED, NEAR, mode  # noqa: E402
from stage import SMALL_ISCSI, core_masks  # noqa: E402

BLOCK = 4096
MEMBERS = ("One", "Two")
TOP = "Top"
"""The name of what is measured, so that one bdevperf can run on all of it."""
METADATA_MIB = 16
"""Room for a mirror's metadata at the end of each member."""
SECONDS = 2

# How much a member misses before it is brought up to date: 1 % of its size.
RESYNC_MIB = 10 * 1024
MISSED_MIB = RESYNC_MIB / 100
MISSED_MIB_A_SECOND = 10
# Of one second each.
MOST_RUNS = 60
MOST_RESYNC_S = 300.0
# Longer than the 250 ms for which copying yields after a user's I/O.
YIELDING_S = 0.3


@dataclass(frozen=True)
class Case:
    name: str
    workload: str
    backend: str
    mib: int
    """The part of each member that is used."""
    tops: tuple[str, ...]

    def job(self) -> Job:
        return Job(self.workload, 128, BLOCK, SECONDS)


CASES = (
    # The mirror's regions are all hot after the first moments.
    Case("write-malloc", "randwrite", "malloc", 256, ("mirror", "raid1")),
    Case("write-null", "randwrite", "null", 256, ("mirror", "raid1")),
    # A hundred times as much, more than the mirror has hot regions for.
    Case("write-wide-null", "randwrite", "null", 25_600, ("mirror", "raid1")),
    Case("read-malloc", "randread", "malloc", 256, ("mirror", "raid1", "member")),
    Case("read-null", "randread", "null", 256, ("mirror", "raid1", "member")),
)


@dataclass(frozen=True)
class Run:
    case: str
    top: str
    round: int
    iops: float
    mode: str
    disturbed: float
    records_an_io: float = 0.0


@dataclass(frozen=True)
class Resync:
    top: str
    seconds: float
    mib: float
    """What the member's target has written meanwhile."""
    missed_mib: float


@dataclass
class Pair:
    """A target with two exports, and a bdevperf with a DST bdev for each."""

    lab: Lab
    target: Application
    perf: Bdevperf
    remotes: list[Remote]
    has_raid1: bool

    def written_mib(self) -> float:
        """Returns what the second member's target has written so far."""
        return self.target.iostat(MEMBERS[1])["bytes_written"] / 2**20

    def attach(self, number: int) -> None:
        method, params = Dst().attach_call(MEMBERS[number], self.remotes[number])
        self.perf.rpc.call(method, **(params | {"digest": "none"}))


def create_end_in_memory(target: Application, name: str, mib: int) -> None:
    """Creates a bdev that forgets all but its end, where a mirror has its metadata: a member is known by
    them when it comes back."""
    parts = (("null", mib), ("malloc", METADATA_MIB))
    for kind, size in parts:
        target.rpc.call(f"bdev_{kind}_create", name=name + kind, num_blocks=size * 2**20 // BLOCK, block_size=BLOCK)
    bases = [name + kind for kind, _ in parts]
    target.rpc.call("bdev_raid_create", name=name, raid_level="concat", strip_size_kb=1024, base_bdevs=bases)


def start(lab: Lab, backend: str, mib: int, job: Job) -> Pair:
    blocks = (mib + METADATA_MIB) * 2**20 // BLOCK
    client_core, target_core = core_masks(1)
    target = lab.target(target_core, arguments=["-s", "1024"], config={"subsystems": [SMALL_ISCSI]})
    remotes = []
    for name in MEMBERS:
        if backend == "null-and-malloc":
            create_end_in_memory(target, name, mib)
        else:
            target.rpc.call(f"bdev_{backend}_create", name=name, num_blocks=blocks, block_size=BLOCK)
        remotes.append(Dst().serve(target, name))
    perf = lab.bdevperf_unattached(job, mib * 2**20 // BLOCK, bdevs=[TOP], arguments=["-s", "1024"])
    pair = Pair(lab, target, perf, remotes, "bdev_raid_add_base_bdev" in perf.rpc.call("rpc_get_methods"))
    for number in range(len(MEMBERS)):
        pair.attach(number)
    return pair


def make_mirror(pair: Pair) -> None:
    members = list(MEMBERS)
    pair.perf.rpc.call("bdev_dst_mirror_create", name=TOP, members=members, equal=True, force=True)


def delete_mirror(pair: Pair) -> None:
    pair.perf.rpc.call("bdev_dst_mirror_delete", name=TOP)


def make_raid1(pair: Pair) -> None:
    pair.perf.rpc.call("bdev_raid_create", name=TOP, raid_level="raid1", base_bdevs=list(MEMBERS))


def delete_raid1(pair: Pair) -> None:
    pair.perf.rpc.call("bdev_raid_delete", name=TOP)


def make_member(pair: Pair) -> None:
    pair.perf.rpc.call("bdev_dst_delete", name=MEMBERS[0])
    method, params = Dst().attach_call(TOP, pair.remotes[0])
    pair.perf.rpc.call(method, **(params | {"digest": "none"}))


def delete_member(pair: Pair) -> None:
    pair.perf.rpc.call("bdev_dst_delete", name=TOP)
    pair.attach(0)


Action = Callable[[Pair], None]
TOPS: dict[str, tuple[Action, Action]] = {
    "mirror": (make_mirror, delete_mirror),
    "raid1": (make_raid1, delete_raid1),
    "member": (make_member, delete_member),
}


def run_one(pair: Pair, case: Case, top: str, number: int) -> Run:
    make, delete = TOPS[top]
    make(pair)
    before_ns = machine.round_trip_ns()
    pids = [pair.perf.pid, pair.target.pid]
    figures, disturbed = machine.watch(pids, lambda: measure(pair.perf, TOP, pair.target.pid))
    assert figures.clean, f"{case.name} on the {top}: I/O failed\n{pair.perf.tail()}"
    records = 0.0
    if top == "mirror":
        counters = shown(pair.perf, TOP)["counters"]
        records = counters["records"] / max(counters["reads"] + counters["writes"], 1)
    seen = mode(before_ns, machine.round_trip_ns())
    delete(pair)
    return Run(case.name, top, number, figures.iops, seen, disturbed, records)


def measure_case(case: Case, rounds: int) -> list[Run]:
    found = []
    with closing(Lab(Dst())) as lab:
        pair = start(lab, case.backend, case.mib, case.job())
        tops = [top for top in case.tops if top != "raid1" or pair.has_raid1]
        for number in range(rounds):
            # Each comes first as often as the others.
            for top in tops[number % len(tops) :] + tops[: number % len(tops)]:
                run = run_one(pair, case, top, number)
                noise = f"  disturbed {run.disturbed:.0%}" if run.disturbed > DISTURBED else ""
                print(f"  {case.name:<16} {top:<7} {run.iops:>10,.0f} IOPS  {run.mode}{noise}", flush=True)
                found.append(run)
    return found


def miss_writes(pair: Pair, missed_mib: Callable[[], float]) -> float:
    """Writes while the second member is away, until it has missed `MISSED_MIB`, and waits until copying
    yields to these writes no longer. Returns how much it has missed."""
    pair.perf.rpc.call("bdev_set_qos_limit", name=TOP, w_mbytes_per_sec=MISSED_MIB_A_SECOND)
    for _ in range(MOST_RUNS):
        assert pair.perf.run().clean, pair.perf.tail()
        if (missed := missed_mib()) >= MISSED_MIB:
            time.sleep(YIELDING_S)
            return missed
    raise AssertionError(f"only {missed:.0f} MiB were missed in {MOST_RUNS} s:\n{pair.perf.tail()}")


def resync_mirror(pair: Pair) -> Resync:
    make_mirror(pair)
    pair.perf.rpc.call("bdev_dst_delete", name=MEMBERS[1])
    wait_until(lambda: shown(pair.perf, TOP)["state"] == "degraded", "the member to be missing")

    def missed_mib() -> float:
        members = shown(pair.perf, TOP)["members"]
        return next(one["blocks_missed"] for one in members if one["state"] == "missing") * BLOCK / 2**20

    missed = miss_writes(pair, missed_mib)
    began, written = time.monotonic(), pair.written_mib()
    pair.attach(1)
    wait_until(lambda: shown(pair.perf, TOP)["state"] == "online", "the resync", MOST_RESYNC_S)
    seconds = time.monotonic() - began
    written = pair.written_mib() - written
    delete_mirror(pair)
    return Resync("mirror", seconds, written, missed)


def resync_raid1(pair: Pair) -> Resync:
    def raid() -> dict[str, Any]:
        found = pair.perf.rpc.call("bdev_raid_get_bdevs", category="all")
        return next(one for one in found if one["name"] == TOP)

    make_raid1(pair)
    pair.perf.rpc.call("bdev_raid_remove_base_bdev", name=MEMBERS[1])
    wait_until(lambda: raid()["num_base_bdevs_operational"] == 1, "the base bdev to be gone")
    # As fast as they come, since raid1 copies all blocks anyhow.
    already = pair.target.iostat(MEMBERS[0])["bytes_written"]
    assert pair.perf.run().clean, pair.perf.tail()
    missed = (pair.target.iostat(MEMBERS[0])["bytes_written"] - already) / 2**20
    began, written = time.monotonic(), pair.written_mib()
    pair.perf.rpc.call("bdev_raid_add_base_bdev", raid_bdev=TOP, base_bdev=MEMBERS[1])
    wait_until(
        lambda: raid()["num_base_bdevs_operational"] == 2 and "process" not in raid(), "the rebuild", MOST_RESYNC_S
    )
    seconds = time.monotonic() - began
    written = pair.written_mib() - written
    delete_raid1(pair)
    return Resync("raid1", seconds, written, missed)


def measure_resync() -> list[Resync]:
    found = []
    with closing(Lab(Dst())) as lab:
        pair = start(lab, "null-and-malloc", RESYNC_MIB, Job("randwrite", 16, BLOCK, 1))
        for work in [resync_mirror, resync_raid1] if pair.has_raid1 else [resync_mirror]:
            one = work(pair)
            print(
                f"  resync {one.top:<7} {one.seconds:.2f} s, {one.mib:,.0f} MiB written to the member"
                f" after {one.missed_mib:,.0f} MiB were missed",
                flush=True,
            )
            found.append(one)
    return found


def ratios(runs: list[Run], theirs: str, only: str | None) -> list[float]:
    """Returns the mirror's rate divided by the other's, of each round in which both ran in the same
    mode, `only` this one if it is given."""
    found = []
    rounds: dict[int, dict[str, Run]] = {}
    for run in runs:
        rounds.setdefault(run.round, {})[run.top] = run
    for tops in rounds.values():
        if {"mirror", theirs} <= tops.keys():
            ours, other = tops["mirror"], tops[theirs]
            if ours.mode == other.mode != MIXED and only in (None, ours.mode):
                found.append(ours.iops / other.iops)
    return found


def lines(runs: list[Run], resyncs: list[Resync]) -> list[str]:
    found = []
    for case in CASES:
        here = [run for run in runs if run.case == case.name]
        for theirs in case.tops[1:]:
            for only in (None, NEAR):
                if each := ratios(here, theirs, only):
                    label = f"{case.name} mirror/{theirs}{f' {only}' if only else ''}"
                    found.append(f"{label}: {median(each):.2f} ({min(each):.2f} to {max(each):.2f}; pairs: {len(each)})")
        records = [run.records_an_io for run in here if run.top == "mirror"]
        if records and case.workload == "randwrite":
            found.append(f"{case.name}: {median(records):.2g} records of metadata for each write")
    seconds = {one.top: one.seconds for one in resyncs}
    if len(seconds) == 2:
        found.append(f"resync of 1 % of {RESYNC_MIB // 1024} GiB: {seconds['raid1'] / seconds['mirror']:.0f} times sooner")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7, help="number of rounds")
    parser.add_argument("--cases", default="", help="only these cases, separated by spaces; `resync` is one")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the results")
    args = parser.parse_args()
    words = args.cases.split() or [case.name for case in CASES] + ["resync"]
    if unknown := set(words) - {case.name for case in CASES} - {"resync"}:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    about = machine.describe() | {"congestion_control": machine.own_network()}
    runs = [run for case in CASES if case.name in words for run in measure_case(case, args.pairs)]
    resyncs = measure_resync() if "resync" in words else []
    whole = {"machine": about, "runs": [asdict(run) for run in runs], "resyncs": [asdict(one) for one in resyncs]}
    save(args.results, "mirror", whole, lines(runs, resyncs))


if __name__ == "__main__":
    environment()
    try:
        main()
    except (AssertionError, RpcError) as error:
        sys.exit(f"dst: error: {error}")
