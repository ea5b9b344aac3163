#!/usr/bin/python3
"""make bench: DST against its rivals in one run, with the same SPDK, backend, cores and sockets.

Each case has one bdevperf on the client's core. Round after round, each peer gets a target process of its own on the
target's core, is attached to that bdevperf under the same name, does its I/O, and goes. The ratios are of runs of the
same round, so that what else the machine does at that time is in both.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Iterator

ROOT = Path(__file__).resolve().parents[1]
# Processes, RPC and ports as in the tests; nothing of it needs more than Python itself.
sys.path.insert(0, str(ROOT / "tests"))

import limit  # noqa: E402
import machine  # noqa: E402
from cases import CASES, Case  # noqa: E402
from harness.lab import Lab  # noqa: E402
from harness.spdk import Bdevperf, Job  # noqa: E402
from harness.transport import Dst  # noqa: E402
from measure import Figures, measure  # noqa: E402
from peers import BDEV, PEERS, Peer  # noqa: E402
from report import DISTURBED, LIMIT, Report, Run, best_variant  # noqa: E402

BLOCK = 4096
# More than the caches hold.
VOLUME_MIB = 256
# For the volume, the buffers of both targets' transports, and bdevperf's own.
MEMORY = ["-s", "1024"]


@dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: int
    limit_seconds: int
    limit_rounds: int
    """In how many of the rounds the limit is measured."""
    all_rounds: bool
    """Whether variants that lost the first round still run in the next ones."""


FULL = Plan(rounds=5, seconds=4, limit_seconds=2, limit_rounds=5, all_rounds=True)
QUICK = Plan(rounds=2, seconds=1, limit_seconds=1, limit_rounds=1, all_rounds=False)

# What safety costs, and what it gives for that.
COMPARED = [("dst-crc32c", "dst"), ("dst-aes-256-gcm", "dst"), ("dst-aes-256-gcm", "nvmf-tls")]


def say(text: str) -> None:
    print(text, flush=True)


def run_peers(perf: Bdevperf, peers: list[Peer]) -> Iterator[tuple[Peer, Figures, float]]:
    """Of peers that share a target process: their figures, and how much each was disturbed."""
    with closing(Lab(Dst())) as lab:
        target = lab.target(arguments=MEMORY)
        target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=VOLUME_MIB * 2**20 // BLOCK, block_size=BLOCK)
        remote = peers[0].serve(target, "Malloc0")
        try:
            for peer in peers:
                peer.attach(perf, remote)
                try:
                    yield peer, *machine.watch([perf.pid, target.pid], lambda: measure(perf, BDEV))
                finally:
                    peer.detach(perf)
        finally:
            # Its end is none of the benchmark's business, and a clean one takes its time.
            target.kill()


def run_limit(program: Path, case: Case, seconds: int) -> tuple[Figures, float]:
    with closing(Lab(Dst())) as lab:
        iops, disturbed = limit.measure_limit(lab, program, case, seconds)
    return Figures(iops, case.depth / iops * 1e6, 0.0, 0.0, 0.0, True), disturbed


def run_case(case: Case, plan: Plan, program: Path) -> tuple[list[Run], dict[str, str]]:
    """The runs, and the peers that can't be measured here, with the reason."""
    runs: list[Run] = []

    def note(peer: str, rival: str, number: int, figures: Figures, disturbed: float) -> None:
        runs.append(Run(case, peer, rival, number, figures, disturbed))
        shown = f"  disturbed {disturbed:.0%}" if disturbed > DISTURBED else ""
        say(f"  round {number + 1}  {peer:<15} {figures.iops:>10,.0f} IOPS  {figures.mean_us:>8,.1f} µs{shown}")

    say(f"{case.name}:")
    with closing(Lab(Dst())) as lab:
        job = Job(case.workload, case.depth, case.size, plan.seconds)
        perf = lab.bdevperf_unattached(job, VOLUME_MIB * 2**20 // BLOCK, bdevs=[BDEV])
        suitable = [peer for peer in PEERS if peer.suits(case)]
        missing = {peer.name: why for peer in suitable if (why := peer.missing(perf))}
        peers = [peer for peer in suitable if peer.name not in missing]
        for number in range(plan.rounds):
            for _, sharing in groupby(peers, lambda peer: peer.target):
                for peer, figures, disturbed in run_peers(perf, list(sharing)):
                    assert figures.clean, f"I/O failed on {peer.name}:\n{perf.tail()}"
                    note(peer.name, peer.rival, number, figures, disturbed)
            if number < plan.limit_rounds:
                # bdevperf polls its core even without a bdev.
                perf.signal(signal.SIGSTOP)
                try:
                    note(LIMIT, LIMIT, number, *run_limit(program, case, plan.limit_seconds))
                finally:
                    perf.signal(signal.SIGCONT)
            if number == 0 and not plan.all_rounds:
                peers = [peer for peer in peers if peer.name == best_variant(runs, peer.rival)]
    return runs, missing


def bench(plan: Plan, cases: list[Case], quick: bool) -> None:
    began = time.monotonic()
    described = machine.describe()
    report = Report(described, quick)
    program = limit.build()
    lines = []
    missing: dict[str, str] = {}
    for case in cases:
        runs, missing_here = run_case(case, plan, program)
        missing |= missing_here
        for line in (report.add(case, runs, ["nvmf", LIMIT]), report.compare(case, runs, COMPARED)):
            if line:
                lines.append(line)
                say(line)
    lines += [f"{peer} not measured: {why}" for peer, why in missing.items()]
    if report.disturbed() > DISTURBED:
        say(f"note: others had up to {report.disturbed():.0%} of a core; run it again when the machine is idle")
    folder = Path(os.environ.get("DST_BUILD", ROOT / "build")) / "bench"
    report.write(folder)
    say("\n" + report.table())
    say("\n".join(lines))
    say(f"{time.monotonic() - began:.0f} s; results.json and results.txt are in {os.path.relpath(folder)}")


def on_term(_number: int, _frame: Any) -> None:
    # Told to end, it still ends its processes.
    raise KeyboardInterrupt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds, in under 90 s")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="only these: " + ", ".join(c.name for c in CASES))
    args = parser.parse_args()
    unknown = set(args.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    cases = [case for case in CASES if case.name in args.cases or not args.cases and (case.quick or not args.quick)]
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("dst: error: benchmarks want two cores, one for the target and one for the client")
    signal.signal(signal.SIGTERM, on_term)
    try:
        bench(QUICK if args.quick else FULL, cases, args.quick)
    except KeyboardInterrupt:
        sys.exit(130)
    except AssertionError as error:
        sys.exit(f"dst: error: {error}")


if __name__ == "__main__":
    main()
