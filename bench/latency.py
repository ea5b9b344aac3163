"""Latencies, from SPDK's histogram of a bdev's I/O."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from harness.spdk import Application


@dataclass(frozen=True)
class Latencies:
    """Latencies in microseconds, as precise as the histogram's buckets (1 %). All are 0 if there
    was no I/O."""

    mean: float
    percentiles: list[float]


def enable(application: Application, bdev: str) -> None:
    """Starts a new, empty histogram."""
    application.rpc.call("bdev_enable_histogram", name=bdev, enable=True)


def read(application: Application, bdev: str, percents: list[float]) -> Latencies:
    """Returns the latencies of all I/O that completed since enable()."""
    return decode(application.rpc.call("bdev_get_histogram", name=bdev), percents)


def decode(histogram: dict[str, Any], percents: list[float]) -> Latencies:
    raw = base64.b64decode(histogram["histogram"])
    counts = memoryview(raw).cast("Q")
    # Newer versions use another name, and omit ranges at the beginning.
    shift = histogram["bucket_shift"] if "bucket_shift" in histogram else histogram["granularity"]
    first = histogram.get("min_range", 0) << shift
    used = [(_ends(first + i, shift), count) for i, count in enumerate(counts) if count]
    total = sum(count for _, count in used)
    to_us = 1e6 / histogram["tsc_rate"]

    def percentile(percent: float) -> float:
        seen = 0
        for (_, upper), count in used:
            seen += count
            if seen >= total * percent / 100:
                return upper * to_us
        return 0.0

    sum_ticks = sum((lower + upper) / 2 * count for (lower, upper), count in used)
    return Latencies(sum_ticks / total * to_us if total else 0.0, [percentile(p) for p in percents])


def _ends(index: int, shift: int) -> tuple[int, int]:
    # spdk/histogram_data.h: there are ranges of 2^shift buckets. A bucket is one tick wide in
    # ranges 0 and 1, and twice as wide in each further range as in the previous one.
    number, bucket = index >> shift, index & ((1 << shift) - 1)
    if number == 0:
        return bucket, bucket + 1
    width = 1 << (number - 1)
    lower = (width << shift) + bucket * width
    return lower, lower + width
