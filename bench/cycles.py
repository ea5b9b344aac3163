"""CPU cycles that processes take, by `perf stat`, where the machine counts them: many virtual ones do not."""

from __future__ import annotations

import shutil
import signal
import subprocess
from contextlib import contextmanager
from functools import cache
from typing import Iterator

# User's and kernel's.
EVENT = "cycles"


def parse(printed: str) -> float:
    """What `perf stat -x,` says of the one event; 0 when it could not count it."""
    for line in printed.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[2].startswith(EVENT) and fields[0].replace(".", "").isdigit():
            return float(fields[0])
    return 0.0


@cache
def missing() -> str | None:
    """Why there are none; None when there are."""
    if not shutil.which("perf"):
        return "perf is not installed"
    tried = subprocess.run(["perf", "stat", "-x,", "-e", EVENT, "true"], capture_output=True, text=True, check=False)
    return None if parse(tried.stderr) else "the machine has no counter for them that perf may read"


@contextmanager
def counted(pids: list[int]) -> Iterator[list[float]]:
    """A number for each process, there at the end; zeros where nothing counts."""
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
