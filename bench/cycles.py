"""The CPU cycles of processes, counted by `perf stat` if the machine supports it. Many virtual
machines do not."""

from __future__ import annotations

import shutil
import signal
import subprocess
from contextlib import contextmanager
from functools import cache
from typing import Iterator

# Cycles in user and kernel mode.
EVENT = "cycles"


def parse(printed: str) -> float:
    """Returns the count from the output of `perf stat -x,`, or 0 if it could not count."""
    for line in printed.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[2].startswith(EVENT) and fields[0].replace(".", "").isdigit():
            return float(fields[0])
    return 0.0


@cache
def missing() -> str | None:
    """Returns the reason why cycles cannot be counted, or None if they can."""
    if not shutil.which("perf"):
        return "perf is not installed"
    tried = subprocess.run(["perf", "stat", "-x,", "-e", EVENT, "true"], capture_output=True, text=True, check=False)
    return None if parse(tried.stderr) else "the machine has no counter for them that perf may read"


@contextmanager
def counted(pids: list[int]) -> Iterator[list[float]]:
    """Counts the cycles of each process. The numbers are available at the end, and are 0 if cycles
    cannot be counted."""
    found = [0.0] * len(pids)
    if missing():
        yield found
        return
    counters = [
        subprocess.Popen(["perf", "stat", "-x,", "-e", EVENT, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
        for pid in pids
    ]
    try:
        yield found
    finally:
        for counter in counters:
            counter.send_signal(signal.SIGINT)
        found[:] = [parse(counter.communicate()[1]) for counter in counters]
