"""Runs the demo as `make demo` does, and as `make demo NET=dpdk` does, for a shorter time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.environment import ROOT
from harness.net import says_no_ports


@pytest.mark.parametrize("net", ["kernel", "dpdk"])
def test_demo(needs_dst: None, net: str) -> None:
    command = [sys.executable, ROOT / "demo" / "demo.py", "--net", net, "--seconds", "1"]
    demo = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    output = f"{demo.stdout}\n{demo.stderr}"
    if net == "dpdk" and says_no_ports(output):
        pytest.skip(f"no sockets over DPDK here: {demo.stderr.strip()}")
    assert demo.returncode == 0, output
    assert "All I/O succeeded" in demo.stdout.splitlines()[-1], output
