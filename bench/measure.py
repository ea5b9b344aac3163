"""One measured run of bdevperf on a bdev that is attached."""

from __future__ import annotations

import time
from dataclasses import dataclass

import latency
from harness.spdk import Bdevperf

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
    return Figures(outcome.iops, found.mean, p50, p99, p999, outcome.clean and outcome.iops > 0)
