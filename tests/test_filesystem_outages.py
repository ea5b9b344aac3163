"""XFS on a remote bdev while the target is killed and the network is cut: all synced files are
there, and the file system is intact."""

from __future__ import annotations

import pytest

from harness.commands import run
from harness.cycles import cycles, seeded_random
from harness.filesystem import Copying, checksums, mount, source_tree
from harness.kernel_disk import KernelDisk, require_kernel_disk
from harness.lab import Lab
from harness.proxy import Proxy
from harness.requirements import require_filesystem, require_tool
from harness.service import Service, attach_to, durable_backend
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst


@pytest.mark.watchdog(120)
def test_xfs_rides_out_kills_and_cuts(lab: Lab) -> None:
    require_kernel_disk()
    require_filesystem("xfs")
    mkfs = require_tool("mkfs.xfs")
    repair = require_tool("xfs_repair")
    random = seeded_random()

    source = lab.folder / "source"
    source_tree(source)
    expected = checksums(source)
    point = lab.folder / "mnt"
    point.mkdir()

    # The backend has no volatile cache: XFS flushes its log, and with such a cache a flush after a
    # restart would have to fail.
    service = Service(lab, durable_backend(lab, 640))
    proxy = Proxy(service.remote)
    lab.on_end(proxy.end)
    client = lab.client(shm_id=random.randrange(1000, 30000))
    attach_to(client, proxy.remote, keep_alive_timeout_ms=1000)
    disk = KernelDisk(lab, client, "remote0")
    run([mkfs, "-f", "-q", disk.device])
    mount(lab, disk.device, point)

    copying = Copying(source, point)
    try:
        for _ in range(cycles(2)):
            service.restart(random.uniform(0, 0.5))
            copying.wait_synced(1)
            before = proxy.whole_links()
            proxy.cut_after(random.randrange(3_000_000), "client", random.choice(["rst", "fin"]))
            wait_until(lambda: proxy.whole_links() != before, "the cut", 30)
            copying.wait_synced(1)
    finally:
        copying.end()
    counters = client.rpc.call("bdev_dst_get_info", name="remote0")[0]["counters"]
    assert counters["errors"] == 0, counters
    print(f"XFS: {copying.synced} copies of {len(expected)} files synced; {counters}")

    copies = sorted(point.glob("copy*"))
    assert len(copies) >= min(3, copying.synced)
    run(["umount", point], timeout=60)
    run([repair, "-n", disk.device])
    mount(lab, disk.device, point)
    for copy in copies:
        assert checksums(copy) == expected, copy.name
    run(["umount", point], timeout=60)
    disk.detach()
