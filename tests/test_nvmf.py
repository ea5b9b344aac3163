"""A remote bdev that SPDK's NVMe-oF target exports once more, verified through SPDK's NVMe-oF
initiator.

Three processes stand for three machines. The initiator shares the client's core.
"""

from __future__ import annotations

import pytest

from harness.lab import Lab
from harness.ports import free_port
from harness.spdk import Bdevperf, Job, assert_clean
from harness.transport import Nvmf, Remote, attach, serve_nvmf


@pytest.mark.watchdog(90)
def test_nvmf_over_remote_bdev(lab: Lab) -> None:
    blocks = 64 * 2**20 // 512
    # Newer versions of spdk_tgt take twice the memory that they are given, and there are three
    # processes.
    small = "dst_check" if lab.transport.name == "dst" else "spdk_tgt"
    _, remote = lab.malloc_target(64, 512, binary=small)
    client = lab.client()
    bdev = attach(lab.transport, client, remote)
    namespace = Remote("127.0.0.1", free_port(), "nqn.2016-06.io.spdk:again")
    serve_nvmf(client, bdev, namespace)

    nvmf = Nvmf()
    job = Job(depth=32, size=65536, seconds=3)
    initiator = Bdevperf("initiator", lab.folder, job, [nvmf.bdev_name("again")], blocks)
    lab.adopt(initiator)
    initiator.wait_ready()
    attach(nvmf, initiator, namespace, "again")
    assert_clean(initiator.run())
    client.assert_running()
