"""The I/O path allocates nothing: two processes whose every heap allocation is counted while I/O
flows.

The counts cover the whole process, including SPDK and bdevperf, because neither allocates while it
does only I/O. RPCs do allocate, so the counters, which are in shared memory, are read while no RPC
is under way.
"""

from __future__ import annotations

import time

import pytest

from harness.counting import counted
from harness.environment import environment
from harness.lab import Lab
from harness.spdk import Application, Job

pytestmark = pytest.mark.needs_dst

MIB = 64
IOS = 100_000
# After this, pools, queues and vectors have their final size and the rate is steady.
WARM_UP_S = 2.0
# The end of the RPC's connection has been processed.
SETTLE_S = 0.3
# As many windows as needed for that many I/Os.
WINDOW_S = 2.0


def operations(target: Application) -> int:
    stats = target.rpc.call("dst_get_stats")
    return stats["reads"] + stats["writes"]


@pytest.mark.watchdog(150)
@pytest.mark.parametrize(
    "job",
    [
        Job(workload, depth=128, size=size, seconds=300)
        for size in (4096, 128 * 1024)
        for workload in ("randread", "randwrite")
    ],
    ids=lambda job: f"{job.workload}-{job.size // 1024}KiB",
)
def test_io_allocates_nothing(lab: Lab, job: Job) -> None:
    at_target, target_variables = counted(lab, "alloc_count.c", "target")
    at_client, client_variables = counted(lab, "alloc_count.c", "client")
    target = lab.target(variables=target_variables)
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=MIB * 2048, block_size=512)
    remote = lab.transport.serve(target, "Malloc0")
    # Newer versions allocate for the figures that they print each second, unless the period is
    # longer.
    perf = lab.bdevperf(remote, job, MIB * 2048, variables=client_variables, arguments=["-S", "3600"])
    assert at_target.read() > 100 and at_client.read() > 100, "the library must count"

    perf.begin_and_flow("remote0")
    time.sleep(WARM_UP_S)
    sides = (("target", at_target, "spdk_tgt"), ("client", at_client, "bdevperf"))
    ios = 0.0
    while ios < IOS:
        first_asked = time.monotonic()
        first = operations(target)
        time.sleep(SETTLE_S)
        before = [counter.read() for _, counter, _ in sides]
        time.sleep(WINDOW_S)
        after = [counter.read() for _, counter, _ in sides]
        last = operations(target)
        # The RPCs that count the I/Os are outside the window, so the I/Os between them and the
        # readings are subtracted.
        inside = (last - first) * WINDOW_S / (time.monotonic() - first_asked)
        perf.assert_running()
        assert inside > 0, "I/O must flow"
        for (name, counter, binary), old, new in zip(sides, before, after):
            where = "" if old == new else counter.callers(environment().binary(binary))
            assert new == old, f"{new - old} allocations at the {name} in {inside:.0f} I/Os, the latest from:\n{where}"
        ios += inside
    print(f"{ios:.0f} I/Os, no allocation")
