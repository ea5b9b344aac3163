"""A kernel file system on a remote bdev: the data is intact after everything was taken down and set
up again."""

from __future__ import annotations

import pytest

from harness.commands import run
from harness.filesystem import checksums, mount, source_tree
from harness.kernel_disk import KernelDisk, require_kernel_disk
from harness.lab import Lab
from harness.requirements import require_filesystem, require_tool
from harness.transport import attach


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

    # mkfs.xfs refuses less than 300 MiB.
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
