"""Files to copy to a file system, and their comparison afterwards."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path

from harness.commands import attempt, run
from harness.environment import ROOT
from harness.lab import Lab
from harness.waiting import wait_until


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


class Copying:
    """Copies a folder to the file system repeatedly and syncs each copy, in a separate thread."""

    def __init__(self, source: Path, to: Path) -> None:
        self._source, self._to = source, to
        self.synced = 0
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="copying")
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                run(["cp", "-a", self._source, self._to / f"copy{self.synced % 4}-{self.synced}"], timeout=60)
                run(["sync", "-f", self._to], timeout=60)
                self.synced += 1
                if self.synced >= 4:
                    run(["rm", "-r", self._to / f"copy{(self.synced - 4) % 4}-{self.synced - 4}"], timeout=60)
        except BaseException as error:
            self._error = error

    def end(self) -> None:
        self._stop.set()
        self._thread.join(90)
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive(), "a copy does not end"

    def wait_synced(self, more: int) -> None:
        goal = self.synced + more
        wait_until(lambda: self.synced >= goal or self._error, "a copy to be synced", 60)
        assert self._error is None, self._error
