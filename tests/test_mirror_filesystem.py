"""XFS on a mirror of two targets, of which each is away in turn, under load: all synced files are on each
member, and the file system is intact."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from harness.commands import run
from harness.cycles import cycles, seeded_random
from harness.environment import ROOT
from harness.filesystem import Copying, checksums, mount
from harness.kernel_disk import KernelDisk, require_kernel_disk
from harness.lab import Lab
from harness.mirror import BLOCK, MIRROR, member_file, shown, wait_online, wait_state
from harness.ports import free_port
from harness.proxy import Proxy
from harness.requirements import require_filesystem, require_tool
from harness.service import Backend, Service, attach_to
from harness.spdk import Application
from harness.transport import Remote

pytestmark = pytest.mark.needs_dst

MIB = 640
SERVED, OWN = NAMES = ("Remote0", "Remote1")
TIMES = {"keep_alive_timeout_ms": 1000, "reconnect_delay_ms": 100, "fast_io_fail_timeout_ms": 300}


class Members:
    """Two exports, each behind a proxy: one of a target that can be killed, and one of the process that has the
    mirror, which saves a third process."""

    def __init__(self, lab: Lab, client: Application) -> None:
        params = {"name": "Aio0", "filename": str(member_file(lab, SERVED, MIB)), "block_size": BLOCK}
        self.service = Service(lab, Backend("Aio0", [("bdev_aio_create", params)]))
        remotes = {SERVED: self.service.remote, OWN: _export(lab, client)}
        self.proxies = {name: Proxy(remote) for name, remote in remotes.items()}
        for name, proxy in self.proxies.items():
            lab.on_end(proxy.end)
            attach_to(client, proxy.remote, name, **TIMES)

    def leave(self, name: str, fate: str) -> None:
        if fate == "killed":
            self.service.kill()
        else:
            self.proxies[name].hold()
            self.proxies[name].hold_new("client", "target")

    def come_back(self, name: str, fate: str) -> None:
        if fate == "killed":
            self.service.start()
        else:
            self.proxies[name].hold_new()
            self.proxies[name].cut()


def _export(lab: Lab, application: Application) -> Remote:
    remote = Remote("127.0.0.1", free_port(), "own")
    call = application.rpc.call
    call("bdev_aio_create", name="AioOwn", filename=str(member_file(lab, OWN, MIB)), block_size=BLOCK)
    call("dst_create_export", name=remote.export, bdev_name="AioOwn", uuid=str(uuid.uuid4()))
    call("dst_export_add_host", export=remote.export, host="*", access="rw")
    call("dst_create_listener", traddr=remote.address, trsvcid=str(remote.port))
    return remote


def check_copies(lab: Lab, client: Application, point: Path, expected: dict[str, str]) -> int:
    """Checks the file system and all files in it, which are read through a new device, so from the mirror.
    Returns the number of copies."""
    disk = KernelDisk(lab, client, MIRROR)
    run([require_tool("xfs_repair"), "-n", disk.device], timeout=60)
    mount(lab, disk.device, point)
    copies = sorted(point.glob("copy*"))
    for copy in copies:
        assert checksums(copy) == expected, copy.name
    run(["umount", point], timeout=60)
    disk.detach()
    return len(copies)


@pytest.mark.watchdog(300)
def test_xfs_outlives_either_target(lab: Lab) -> None:
    require_kernel_disk()
    require_filesystem("xfs")
    mkfs = require_tool("mkfs.xfs")
    require_tool("xfs_repair")
    random = seeded_random()
    source = lab.folder / "source"
    shutil.copytree(ROOT / "src", source)
    expected = checksums(source)
    point = lab.folder / "mnt"
    point.mkdir()

    client = lab.client(shm_id=random.randrange(1000, 30000))
    members = Members(lab, client)
    client.rpc.call("bdev_dst_mirror_create", name=MIRROR, members=list(NAMES), equal=True)
    disk = KernelDisk(lab, client, MIRROR)
    run([mkfs, "-f", "-q", disk.device], timeout=90)
    mount(lab, disk.device, point)
    copying = Copying(source, point)
    try:
        for _ in range(cycles(1)):
            for gone, fate in ((SERVED, random.choice(("killed", "cut off"))), (OWN, "cut off")):
                members.leave(gone, fate)
                wait_state(client, gone, "missing")
                # What is synced now, the other one has alone.
                copying.wait_synced(1)
                members.come_back(gone, fate)
                wait_online(client, 60)
    finally:
        copying.end()
    run(["umount", point], timeout=60)
    disk.detach()
    info = shown(client)
    print(f"{copying.synced} copies of {len(expected)} files synced; {info['counters']}")
    assert info["counters"]["departures"] >= 2
    assert info["counters"]["copied_blocks"] < info["num_blocks"]

    for gone in NAMES:
        members.leave(gone, "cut off")
        assert check_copies(lab, client, point, expected) >= min(3, copying.synced)
        wait_state(client, gone, "missing")
        members.come_back(gone, "cut off")
        wait_online(client, 60)
