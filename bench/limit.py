"""The limit: DST's bytes over plain sockets, by the program in limit/."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import machine
from cases import Case
from harness.environment import ROOT
from harness.lab import Lab
from harness.spdk import CLIENT_CORES, TARGET_CORES
from harness.waiting import wait_until

# Bytes of a frame's header: HEADER_LEN in src/wire/header.rs.
HEADER = 48


def build() -> Path:
    subprocess.run(["cargo", "build", "--quiet", "--release", "--package", "dst-limit"], cwd=ROOT, check=True)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "dst-limit"


def measure_limit(lab: Lab, program: Path, case: Case, seconds: int) -> tuple[float, float]:
    """Requests a second, between the same two cores, and how much it was disturbed."""
    request, reply = (HEADER + case.size, HEADER) if case.is_write else (HEADER, HEADER + case.size)
    server = lab.process("limit-serve", ["taskset", TARGET_CORES, program, "serve"])
    port = wait_until(lambda: _last_line(server.text()), "dst-limit to listen")
    numbers = {"port": port, "request": request, "reply": reply, "depth": case.depth, "seconds": seconds}
    options = [part for name, value in numbers.items() for part in (f"--{name}", str(value))]
    driver = lab.process("limit-drive", ["taskset", CLIENT_CORES, program, "drive", *options])
    # Of the server alone: the driver is gone when it has finished.
    code, disturbed = machine.watch([server.pid], lambda: driver.wait(seconds + 10.0))
    assert code == 0, driver.tail()
    return float(json.loads(_last_line(driver.text()))["iops"]), disturbed


def _last_line(log: str) -> str:
    """What it printed last; empty when that is no whole line yet. The first line of a log is the command."""
    lines = log.splitlines()[1:]
    return lines[-1] if lines and log.endswith("\n") else ""
