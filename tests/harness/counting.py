"""Counting calls of a process with a library that is loaded into it (LD_PRELOAD)."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from harness.commands import run
from harness.environment import ROOT
from harness.lab import Lab
from harness.requirements import require_tool

CALLERS = 16


@dataclass
class Counter:
    """The count of one process, in shared memory, so that reading it does not affect the
    process."""

    memory: mmap.mmap

    def read(self) -> int:
        return struct.unpack_from("<Q", self.memory)[0]

    def callers(self, binary: Path) -> str:
        """Returns where the latest calls came from, if the library records that."""
        addresses = sorted(set(struct.unpack_from(f"<{CALLERS}Q", self.memory, 8)))
        try:
            return run(["addr2line", "-Cfpie", binary, *map(hex, addresses)])
        except (AssertionError, OSError):
            return " ".join(map(hex, addresses))


def counted(lab: Lab, source: str, name: str) -> tuple[Counter, dict[str, str]]:
    """Returns a counter, and the environment variables that make a process use it, with the library
    built from tests/`source`."""
    library = (lab.folder / source).with_suffix(".so")
    if not library.exists():
        path = ROOT / "tests" / source
        run([require_tool("cc"), "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, path])
    file = lab.folder / f"{name}.{source}.count"
    file.write_bytes(bytes(mmap.PAGESIZE))
    with open(file, "r+b") as opened:
        counter = Counter(mmap.mmap(opened.fileno(), mmap.PAGESIZE))
    return counter, {"LD_PRELOAD": os.fspath(library), "COUNT_FILE": os.fspath(file)}
