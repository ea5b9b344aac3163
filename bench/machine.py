"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from harness.environment import ROOT, environment


def describe() -> dict[str, Any]:
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cpus": os.cpu_count(),
        "virtual": "hypervisor" in _field("/proc/cpuinfo", "flags").split(),
        "memory_mib": int(_field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "kernel": platform.release(),
        "hugepages": environment().variables.get("DST_HUGEPAGES", "unknown"),
        "spdk": environment().variables.get("SPDK_VERSION", "unknown"),
        "commit": _commit(),
        # The less the cores were left alone before the start, the less the figures are worth.
        "busy_before": round(busy_cores(), 2),
    }


def busy_cores(seconds: float = 0.5) -> float:
    """How many cores others use, the machine's host included."""

    def used() -> int:
        # user, nice, system, idle, iowait, irq, softirq, steal: proc(5), in hundredths of a second.
        times = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(times) - times[3] - times[4]

    before = used()
    time.sleep(seconds)
    return (used() - before) / os.sysconf("SC_CLK_TCK") / seconds


def _field(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _commit() -> str:
    shown = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() or "unknown"
