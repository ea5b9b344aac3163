"""A kernel file system on a remote bdev: what was written is there after everything was taken down and set up again."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from harness.commands import attempt, run
from harness.environment import ROOT
from harness.kernel_disk import KernelDisk, require_kernel_disk
from harness.lab import Lab
from harness.requirements import require_filesystem, require_tool
from harness.transport import attach


def checksums(folder: Path) -> dict[str, str]:
    """What is in each file, and where each link leads."""
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
    """This repository's sources and some of the system's headers: some 1,000 files."""
    headers = Path("/usr/include")
    for folder in (ROOT / "src", ROOT / "spdk", ROOT / "tests", headers / "linux", headers / "c++"):
        if folder.is_dir():
            shutil.copytree(folder, to / folder.name, symlinks=True)


def mount(lab: Lab, device: str, point: Path) -> None:
    run(["mount", "-t", "xfs", device, point])
    lab.on_end(attempt, ["umount", point])


@pytest.mark.watchdog(120)
def test_xfs_survives_detach(lab: Lab) -> None:
    require_kernel_disk()
    require_filesystem("xfs")
    mkfs = require_tool("mkfs.xfs")
    repair = require_tool("xfs_repair")
    fio = require_tool("fio")

    source = lab.folder / "source"
    source_tree(source)
    expected = checksums(source)
    assert len(expected) > 100
    point = lab.folder / "mnt"
    point.mkdir()

    # Less than 300 MiB and mkfs.xfs refuses.
    _, remote = lab.aio_target(640)
    client = lab.client()
    bdev = attach(lab.transport, client, remote)
    disk = KernelDisk(lab, client, bdev)
    run([mkfs, "-f", "-q", disk.device])
    mount(lab, disk.device, point)
    run(["cp", "-a", f"{source}/.", point], timeout=60)
    run(["umount", point], timeout=60)
    disk.detach()
    lab.transport.detach(client, "remote0")

    bdev = attach(lab.transport, client, remote)
    disk = KernelDisk(lab, client, bdev)
    run([repair, "-n", disk.device])
    mount(lab, disk.device, point)
    assert checksums(point) == expected

    run(
        [
            fio,
            "--name=verify",
            f"--filename={point}/fio",
            "--rw=randrw",
            "--bsrange=4k-256k",
            "--size=64m",
            "--ioengine=libaio",
            "--iodepth=16",
            "--direct=1",
            "--fsync=64",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--randseed=1",
        ],
        timeout=90,
    )
    run(["umount", point], timeout=60)
    run([repair, "-n", disk.device])
    disk.detach()
