"""One measured run of bdevperf on a bdev that is attached."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import cycles
import latency
from harness.spdk import Bdevperf, Outcome

# SPDK's histograms go away with the channel, at the end of the run: they are read this long before, in seconds.
BEFORE_THE_END = 0.2


@dataclass(frozen=True)
class Figures:
    """Times in microseconds; 0 is what was not measured."""

    iops: float
    mean_us: float
    p50_us: float = 0.0
    p99_us: float = 0.0
    p999_us: float = 0.0
    client_cycles: float = 0.0
    """Of the client's process, an I/O."""
    target_cycles: float = 0.0
    clean: bool = True
    """No I/O failed."""


def of_rate(iops: float, depth: int) -> Figures:
    """Of something that keeps so many I/O outstanding: Little's law gives the mean latency."""
    return Figures(iops, depth / iops * 1e6)


def measure(perf: Bdevperf, bdev: str, target_pid: int) -> Figures:
    """Runs bdevperf's job to its end. May be called again, on another bdev of the same name too."""
    latency.enable(perf, bdev)
    with cycles.counted([perf.pid, target_pid]) as counted:
        perf.begin()
        time.sleep(perf.job.seconds - BEFORE_THE_END)
        found = latency.read(perf, bdev, [50, 99, 99.9])
        outcome = perf.outcome()
    iops = _iops(outcome)
    ios = iops * perf.job.seconds
    client, target = (each / ios if ios else 0.0 for each in counted)
    return Figures(iops, found.mean, *found.percentiles, client, target, outcome.clean and iops > 0)


def _iops(outcome: Outcome) -> float:
    """Of the last run: in 20.07 bdevperf's total is of all its runs, so the jobs' lines are added up."""
    last = outcome.output.replace("\r", "\n").rpartition("Running I/O for")[2]
    jobs = re.findall(r"^ *(?!Total)\S+ *: *([\d.]+) IOPS", last, re.MULTILINE)
    return sum(map(float, jobs)) if jobs else outcome.iops
