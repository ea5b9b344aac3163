"""Files to copy to a file system, and their comparison afterwards."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from harness.commands import attempt, run
from harness.environment import ROOT
from harness.lab import Lab


def checksums(folder: Path) -> dict[str, str]:
    """Returns the content of each file, and the destination of each link."""
    found: dict[str, str] = {}
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(parent, name)
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = "-> " + os.readlink(path)
            elif path.is_file():
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[key] = "folder"
    return found


def source_tree(to: Path) -> None:
    """Some 1,000 files: this repository's sources and some of the system's headers."""
    headers = Path("/usr/include")
    for folder in (ROOT / "src", ROOT / "spdk", ROOT / "tests", headers / "linux", headers / "c++"):
        if folder.is_dir():
            shutil.copytree(folder, to / folder.name, symlinks=True)


def mount(lab: Lab, device: str, point: Path) -> None:
    run(["mount", "-t", "xfs", device, point])
    lab.on_end(attempt, ["umount", point])
