"""Skips a test if the machine lacks what it needs, with the reason."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# The tools for mounts and file systems are not on every user's PATH.
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def require_root(why: str) -> None:
    if os.geteuid() != 0:
        pytest.skip(f"{why} needs root")


def require_tool(name: str) -> str:
    path = shutil.which(name, path=_PATH)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def require_filesystem(name: str) -> None:
    """Requires that this kernel has the file system, built in or as a module."""

    def known() -> bool:
        return any(line.split()[-1] == name for line in Path("/proc/filesystems").read_text().splitlines())

    if not known():
        modprobe = shutil.which("modprobe", path=_PATH)
        if modprobe:
            subprocess.run([modprobe, "-q", name], check=False, capture_output=True)
    if not known():
        pytest.skip(f"this kernel has no {name} file system")


def require_device(path: str) -> None:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        pytest.skip(f"{path} cannot be used: {error.strerror}")
