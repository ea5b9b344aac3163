"""The machine on which figures were measured, and its other load."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any, Callable, TypeVar

import cycles
from harness.environment import ROOT, environment

T = TypeVar("T")

# Linux's default, and what comes nearest to it where the kernel does not allow the default in a
# network namespace (`net.ipv4.tcp_allowed_congestion_control`): neither paces. The machine may use
# another one that suits its networks.
CONGESTION_CONTROLS = ("cubic", "reno")
CONTROL_FILE = Path("/proc/sys/net/ipv4/tcp_congestion_control")

# From Linux's <sched.h>, <linux/sockios.h> and <linux/if.h>.
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_UP = 1

# The CPUs of the client and of the target, or the first ones if a side has several: see
# stage.core_masks.
CLIENT_CPU, TARGET_CPU = 0, 1


def own_network() -> str:
    """Moves this process and its future children into a network namespace with Linux's default
    congestion control. A control that paces, such as `bbr`, is meant for other networks and would
    hide the differences between the peers. Returns a description of the control in use."""
    machines = CONTROL_FILE.read_text().strip()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return f"{machines}, the machine's ({os.strerror(ctypes.get_errno())} for a network of its own)"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        # struct ifreq: a name of 16 bytes, the flags, and space that other requests need.
        asked = fcntl.ioctl(some, SIOCGIFFLAGS, struct.pack("16sH22x", b"lo", 0))
        flags = struct.unpack_from("16sH", asked)[1]
        fcntl.ioctl(some, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | IFF_UP))
    return f"{choose_control()}, in the benchmark's own network namespace; the machine uses {machines}"


def choose_control() -> str:
    """Sets the first congestion control that the kernel allows here, and returns which is in use and
    why, if that is not Linux's default."""
    refused: list[str] = []
    for control in CONGESTION_CONTROLS:
        try:
            CONTROL_FILE.write_text(control)
        except OSError as error:
            refused.append(f"{control}: {error.strerror}")
        else:
            return " ".join([control, *(f"({why})" for why in refused)])
    return f"{CONTROL_FILE.read_text().strip()} ({', '.join(refused)})"


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
        "cycles": cycles.missing() or "counted",
    }


@cache
def limit_program() -> Path:
    """Builds dst-limit and returns its path."""
    subprocess.run(["cargo", "build", "--quiet", "--release", "--package", "dst-limit"], cwd=ROOT, check=True)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "dst-limit"


def round_trip_ns() -> float:
    """Returns the round-trip time of a cache line between the client's and the target's CPU.
    Nothing else may run on either."""
    command = [str(limit_program()), "cores", str(CLIENT_CPU), str(TARGET_CPU)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout)


def watch(pids: list[int], work: Callable[[], T]) -> tuple[T, float]:
    """Runs `work`. Returns its result, and the largest part of the time in which one of the
    processes could have run but another process had its core. (Each of the processes polls a
    core.)"""
    before, begun = [_waited(pid) for pid in pids], time.monotonic()
    result = work()
    lasted = time.monotonic() - begun
    return result, max(_waited(pid) - was for pid, was in zip(pids, before)) / lasted


def _waited(pid: int) -> float:
    """Returns a time in seconds of the process's main thread, which is SPDK's first reactor; 0 once
    the process is gone."""
    try:
        # The fields are ns on the core, ns waiting for it, and time slices:
        # Documentation/scheduler/sched-stats.rst
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


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
