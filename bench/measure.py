"""One measured run of bdevperf on an attached bdev."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import cycles
import latency
from harness.spdk import Bdevperf, Outcome

# How long before the end of the run the histograms are read, in seconds: SPDK drops them with the
# channel, at the end.
BEFORE_THE_END = 0.2


@dataclass(frozen=True)
class Figures:
    """The figures of a run. Times are in microseconds; 0 means not measured."""

    iops: float
    mean_us: float
    p50_us: float = 0.0
    p99_us: float = 0.0
    p999_us: float = 0.0
    client_cycles: float = 0.0
    """CPU cycles of the client's process for each I/O."""
    target_cycles: float = 0.0
    clean: bool = True
    """Whether no I/O failed."""


def of_rate(iops: float, depth: int) -> Figures:
    """Returns the figures of a load that keeps `depth` I/Os outstanding. The mean latency follows
    from Little's law."""
    return Figures(iops, depth / iops * 1e6)


def measure(perf: Bdevperf, bdev: str, target_pid: int) -> Figures:
    """Runs bdevperf's job to its end. It may be called again, even on another bdev of the same
    name."""
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
    """Returns the IOPS of the last run. In 20.07, bdevperf's total covers all its runs, so the
    lines of the jobs are added up."""
    last = outcome.output.replace("\r", "\n").rpartition("Running I/O for")[2]
    jobs = re.findall(r"^ *(?!Total)\S+ *: *([\d.]+) IOPS", last, re.MULTILINE)
    return sum(map(float, jobs)) if jobs else outcome.iops
