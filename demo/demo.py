#!/usr/bin/python3
"""make demo: a file in one process becomes a block device in another, over TCP.

Exits 0 only if every I/O succeeded and all data read back matched what was written.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The demo shares code with the tests and the benchmarks; none of it needs more than the standard
# library.
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from harness.environment import environment  # noqa: E402
from harness.lab import Lab  # noqa: E402
from harness.ports import free_port  # noqa: E402
from harness.spdk import CLIENT_CORES, TARGET_CORES, Application, Job  # noqa: E402
from harness.transport import Dst, Remote  # noqa: E402
from measure import Figures, measure  # noqa: E402

MIB = 2**20
VOLUME_MIB = 256
BLOCK = 4096
BDEV = "Remote0"
SECONDS = 3

JOBS = [
    Job("verify", depth=32, size=4096, seconds=SECONDS),
    Job("randread", depth=1, size=4096, seconds=SECONDS),
    Job("randwrite", depth=1, size=4096, seconds=SECONDS),
    Job("randread", depth=128, size=4096, seconds=SECONDS),
    Job("randwrite", depth=128, size=4096, seconds=SECONDS),
    Job("randread", depth=32, size=128 << 10, seconds=SECONDS),
    Job("randwrite", depth=32, size=128 << 10, seconds=SECONDS),
]
NAMES = {"verify": "write, read back, compare", "randread": "random read", "randwrite": "random write"}


@dataclass(frozen=True)
class Row:
    job: Job
    figures: Figures
    errors: int
    """Number of failed I/Os; at least 1 if bdevperf failed for another reason, such as a
    miscompare."""

    def __str__(self) -> str:
        found = self.figures
        return (
            f"   {NAMES[self.job.workload]:<27}{self.job.size >> 10:>4} KiB{self.job.depth:>7}{found.iops:>10,.0f}"
            f"{found.iops * self.job.size / MIB:>9,.0f}{found.p50_us:>9,.1f}{found.p99_us:>9,.1f}{self.errors:>8}"
        )


HEADING = f"   {'':<27}{'I/O':>8}{'depth':>7}{'IOPS':>10}{'MiB/s':>9}{'p50 µs':>9}{'p99 µs':>9}{'errors':>8}"


def say(text: str = "") -> None:
    print(text, flush=True)


def call(application: Application, method: str, **params: Any) -> Any:
    """Calls an RPC method and prints the call."""
    say(f"      {method} " + " ".join(f"{key}={value}" for key, value in params.items()))
    return application.rpc.call(method, **params)


def start_target(lab: Lab) -> tuple[Application, Remote]:
    # The target polls a core of its own if the machine has more than one.
    cores = TARGET_CORES if len(os.sched_getaffinity(0)) > 1 else CLIENT_CORES
    say(f"1. The target: a process (spdk_tgt, core mask {cores}) with a file of {VOLUME_MIB} MiB. It exports the file:")
    target = lab.target(cores)
    volume = lab.folder / "volume.img"
    # The file is written in full, so that reads find allocated blocks and the disk space is known
    # to suffice.
    with open(volume, "wb") as file:
        for _ in range(VOLUME_MIB):
            file.write(b"\xd5" * MIB)
    remote = Remote("127.0.0.1", free_port(), "volume0")
    call(target, "dst_create_export", name=remote.export, bdev_name="File0")
    call(target, "dst_export_add_host", export=remote.export, host="*", access="rw")
    call(target, "bdev_aio_create", name="File0", filename=str(volume), block_size=BLOCK)
    call(target, "dst_create_listener", traddr=remote.address, trsvcid=str(remote.port))
    return target, remote


def run(lab: Lab, target: Application, remote: Remote, job: Job, show: bool) -> Row:
    """Starts a client process, attaches the export, runs `job`, and stops the process."""
    perf = lab.bdevperf_unattached(job, VOLUME_MIB * MIB // BLOCK, bdevs=[BDEV])
    method, params = lab.transport.attach_call(BDEV, remote)
    if show:
        call(perf, method, **params)
        device = perf.bdev(BDEV)
        assert device is not None
        say(f"   {BDEV} is attached: {device['num_blocks']} blocks of {device['block_size']} bytes, UUID {device['uuid']}")
        say()
        say(f"3. I/O through it, {SECONDS} s of each kind:")
        say(HEADING)
    else:
        perf.rpc.call(method, **params)
    figures = measure(perf, BDEV, target.pid)
    counters = perf.rpc.call("bdev_dst_get_info", name=BDEV)[0]["counters"]
    lab.transport.detach(perf, BDEV)
    clean = figures.clean and perf.stop() == 0
    row = Row(job, figures, max(counters["errors"], 0 if clean else 1))
    say(str(row))
    if row.errors:
        say(f"   Last lines of the client's log:\n{perf.tail()}")
    return row


def demo() -> bool:
    began = time.monotonic()
    say("DST demo: a file in one process becomes a block device in another, over TCP.")
    if environment().variables.get("DST_HUGEPAGES") == "none":
        say("(No hugepages are available, which costs some speed.)")
    say()
    with closing(Lab(Dst())) as lab:
        target, remote = start_target(lab)
        say()
        say(f"2. The client: another process (bdevperf, core mask {CLIENT_CORES}). It attaches the export:")
        try:
            rows = [run(lab, target, remote, job, show=job is JOBS[0]) for job in JOBS]
            target.assert_running()
            stats = target.rpc.call("dst_get_stats")
            ended_well = target.stop() == 0
        except Exception:
            for process in lab.processes:
                say(f"\n   Last lines of the log of {process.name}:\n{process.tail()}")
            raise
    say()
    errors = sum(row.errors for row in rows) + (0 if ended_well else 1)
    say(f"The target executed {stats['reads']:,} reads and {stats['writes']:,} writes for these clients.")
    verdict = "All I/O succeeded, and all data read back matched what was written." if not errors else f"{errors} errors."
    say(f"{verdict} ({time.monotonic() - began:.0f} s)")
    return not errors


def on_term(_number: int, _frame: Any) -> None:
    # The exception runs the `with` block's cleanup, which stops the processes.
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_term)
    try:
        sys.exit(0 if demo() else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(f"dst: error: the demo failed: {error}")
