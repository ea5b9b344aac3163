"""The newest `spdk` package of Python's package index, in a virtual environment in DST's cache."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from harness.environment import environment


def _run(command: list[str | Path], seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer in {seconds:g} s")


@cache
def _installed() -> tuple[Path | None, str]:
    """Returns the package's folder of commands, or None and the reason."""
    folder = Path(environment().variables["DST_CACHE"]) / "spdk-python"
    command, pip = folder / "bin" / "spdk-rpc", folder / "bin" / "pip"
    if not pip.exists():
        made = _run([sys.executable, "-m", "venv", "--clear", folder], 60)
        assert made.returncode == 0, f"python3-venv is one of the tests' packages: {made.stdout}{made.stderr}"
    got = _run([pip, "install", "--quiet", "--disable-pip-version-check", "--upgrade", "spdk"], 90)
    # Without a network, an environment from an earlier day suffices.
    if command.exists():
        return command.parent, ""
    return None, (got.stderr.strip().splitlines() or ["it has no spdk-rpc"])[-1]


def spdk_rpc() -> Path:
    """Returns the package's rpc.py."""
    folder, why = _installed()
    if folder is None:
        pytest.skip(f"Python's package `spdk` can't be installed: {why}")
    shown = _run([folder / "python", "-c", "import spdk.version as v; print(v.__version__)"], 10)
    print(f"package spdk {shown.stdout.strip()}")
    return folder / "spdk-rpc"
