"""bdevperf writes, reads back and compares, at the depths and sizes that DST supports."""

from __future__ import annotations

import pytest

from harness.lab import Lab
from harness.spdk import Job, assert_clean

MIB = 2**20
BLOCK = 512


@pytest.mark.parametrize("reactors", [1, 2], ids=["1-reactor", "2-reactors"])
@pytest.mark.parametrize("size", [4096, MIB], ids=["4KiB", "1MiB"])
@pytest.mark.parametrize("depth", [1, 32, 256])
def test_verify(lab: Lab, depth: int, size: int, reactors: int) -> None:
    # bdevperf has at most one I/O on each place, so each reactor's part must have room for the
    # depth.
    mib = 64 if size < MIB else max(64, depth * 5 // 4)
    # At depth 256, each job has 256 MiB of buffers, so two jobs share the depth to save memory.
    job = Job(depth=depth if size < MIB else max(1, depth // reactors), size=size)
    # Large jobs need the hugepages for buffers, so their volume is a file.
    _, remote = lab.malloc_target(mib, BLOCK) if mib == 64 else lab.aio_target(mib, BLOCK)
    perf = lab.bdevperf(remote, job, mib * MIB // BLOCK, reactors)
    assert_clean(perf.run())
    assert perf.stop() == 0
