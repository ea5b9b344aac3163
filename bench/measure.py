"""One measured run of bdevperf on a bdev that is attached."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import latency
from harness.spdk import Bdevperf, Outcome

# SPDK's histograms go away with the channel, at the end of the run: they are read this long before, in seconds.
BEFORE_THE_END = 0.2


@dataclass(frozen=True)
class Figures:
    iops: float
    mean_us: float
    p50_us: float
    p99_us: float
    p999_us: float
    clean: bool
    """No I/O failed and, with verify, every one gave back what was written."""


def measure(perf: Bdevperf, bdev: str) -> Figures:
    """Runs bdevperf's job to its end. May be called again, on another bdev of the same name too."""
    latency.enable(perf, bdev)
    perf.begin()
    time.sleep(perf.job.seconds - BEFORE_THE_END)
    found = latency.read(perf, bdev, [50, 99, 99.9])
    outcome = perf.outcome()
    p50, p99, p999 = found.percentiles
    iops = _iops(outcome)
    return Figures(iops, found.mean, p50, p99, p999, outcome.clean and iops > 0)


def _iops(outcome: Outcome) -> float:
    """Of the last run: in 20.07 bdevperf's total is of all its runs, so the jobs' lines are added up."""
    last = outcome.output.replace("\r", "\n").rpartition("Running I/O for")[2]
    jobs = re.findall(r"^ *(?!Total)\S+ *: *([\d.]+) IOPS", last, re.MULTILINE)
    return sum(map(float, jobs)) if jobs else outcome.iops
