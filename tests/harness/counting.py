"""What a process does behind the test's back, counted by a library that is loaded into it (LD_PRELOAD)."""

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
    """One process's count, in memory that it shares with this one: to read it disturbs nothing."""

    memory: mmap.mmap

    def read(self) -> int:
        return struct.unpack_from("<Q", self.memory)[0]

    def callers(self, binary: Path) -> str:
        """Where the latest calls came from, if the library notes that."""
        addresses = sorted(set(struct.unpack_from(f"<{CALLERS}Q", self.memory, 8)))
        try:
            return run(["addr2line", "-Cfpie", binary, *map(hex, addresses)])
        except (AssertionError, OSError):
            return " ".join(map(hex, addresses))


def counted(lab: Lab, source: str, name: str) -> tuple[Counter, dict[str, str]]:
    """A counter, and the variables that make a process count in it, with the library made of tests/`source`."""
    library = (lab.folder / source).with_suffix(".so")
    if not library.exists():
        path = ROOT / "tests" / source
        run([require_tool("cc"), "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, path])
    file = lab.folder / f"{name}.{source}.count"
    file.write_bytes(bytes(mmap.PAGESIZE))
    with open(file, "r+b") as opened:
        counter = Counter(mmap.mmap(opened.fileno(), mmap.PAGESIZE))
    return counter, {"LD_PRELOAD": os.fspath(library), "COUNT_FILE": os.fspath(file)}
