"""Small I/O is answered in batches, large I/O is split: verified by counting, not by timing.

SPDK 20.07 delivers eight completions a turn. So a target that sends in each turn sends once for
every eight answers, at any speed of the machine; one that gathers answers sends once for about
fifty, as long as both sides keep up with each other.
"""

from __future__ import annotations

import time
from typing import Callable

import pytest

from harness.counting import counted
from harness.lab import Lab
from harness.mirror import MIRROR
from harness.spdk import Bdevperf, Job, assert_clean
from harness.transport import attach

pytestmark = pytest.mark.needs_dst

MIB = 64
ANSWERS_A_SEND = 16
READS_A_SEND = 12
LONG = 1 << 20
PART = 256 << 10
WINDOW_S = 0.5
WINDOWS = 20


def best_batch(perf: Bdevperf, seen: Callable[[], tuple[int, int]], least: int) -> float:
    """Returns the I/Os for each send, from the numbers of both that `seen` returns. The best of
    several windows counts, since a side that is delayed by other processes has less to send at
    once."""
    found: list[float] = []
    last = seen()
    while not found or max(found) < least:
        assert len(found) < WINDOWS, f"I/Os for each send: {', '.join(f'{n:.1f}' for n in found)}"
        time.sleep(WINDOW_S)
        perf.assert_running()
        now = seen()
        assert now[0] > last[0] and now[1] > last[1], "I/O flows, and the shim counts"
        found.append((now[0] - last[0]) / (now[1] - last[1]))
        last = now
    return max(found)


@pytest.mark.watchdog(120)
def test_a_send_is_for_many(lab: Lab) -> None:
    counter, variables = counted(lab, "send_count.c", "target")
    target = lab.target(variables=variables)
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=MIB * 2048, block_size=512)
    remote = lab.transport.serve(target, "Malloc0")
    perf = lab.bdevperf(remote, Job("randread", depth=128, size=4096, seconds=300), MIB * 2048)
    perf.begin_and_flow("remote0")

    def seen() -> tuple[int, int]:
        stats = target.rpc.call("dst_get_stats")
        return stats["reads"], counter.read()

    print(f"{best_batch(perf, seen, ANSWERS_A_SEND):.0f} answers for each send of the target")


@pytest.mark.watchdog(120)
def test_a_mirror_passes_on_what_came_together(lab: Lab) -> None:
    """I/O of a mirror changes its thread twice, but not in messages of its own: SPDK takes eight of
    them in a turn."""
    counter, variables = counted(lab, "send_count.c", "client")
    target = lab.target()
    perf = lab.bdevperf_unattached(
        Job("randread", depth=128, size=4096, seconds=300), MIB * 128, bdevs=[MIRROR], variables=variables
    )
    members = ["Malloc0", "Malloc1"]
    for name in members:
        target.rpc.call("bdev_malloc_create", name=name, num_blocks=MIB * 256, block_size=4096)
        attach(lab.transport, perf, lab.transport.serve(target, name), name)
    perf.rpc.call("bdev_dst_mirror_create", name=MIRROR, members=members, equal=True)
    perf.begin_and_flow(MIRROR)
    reads = best_batch(perf, lambda: (perf.iostat(MIRROR)["num_read_ops"], counter.read()), READS_A_SEND)
    print(f"{reads:.0f} reads for each send of the client")


def test_long_io_goes_in_parts(lab: Lab) -> None:
    """While one part is on the wire, the backend works on another, and small I/O does not wait for
    all parts."""
    target = lab.target()
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=MIB * 256, block_size=4096)
    remote = lab.transport.serve(target, "Malloc0")
    perf = lab.bdevperf(remote, Job("randrw", depth=4, size=LONG, seconds=1), MIB * 256)

    def moved() -> dict[str, int]:
        stats = target.rpc.call("dst_get_stats")
        return {name: stats[name] for name in ("reads", "read_bytes", "writes", "written_bytes")}

    assert_clean(perf.run())
    done, asked = moved(), perf.iostat("remote0")
    # Modules that examine the bdev read a few blocks of it, in one part each.
    long_reads = asked["bytes_read"] // LONG
    examinations = asked["num_read_ops"] - long_reads
    assert long_reads > 0 and asked["num_write_ops"] > 0
    assert done["read_bytes"] == asked["bytes_read"]
    assert done["reads"] == long_reads * (LONG // PART) + examinations
    assert done["written_bytes"] == done["writes"] * PART == asked["num_write_ops"] * LONG
