"""Runs the demo as `make demo` does."""

from __future__ import annotations

import subprocess
import sys

from harness.environment import ROOT


def test_demo(needs_dst: None) -> None:
    demo = subprocess.run(
        [sys.executable, ROOT / "demo" / "demo.py"], capture_output=True, text=True, timeout=120, check=False
    )
    assert demo.returncode == 0, f"{demo.stdout}\n{demo.stderr}"
    assert "All I/O succeeded" in demo.stdout.splitlines()[-1], demo.stdout
