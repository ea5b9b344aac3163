#!/usr/bin/python3
"""make demo: a file in one process becomes a block device in another, over TCP.

`--net dpdk` (make demo NET=dpdk) takes sockets over DPDK and a memif between the processes, in place of
the kernel's sockets (docs/dpdk.md).

Exits 0 only if every I/O succeeded and all data read back matched what was written.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
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
EXPORT = "volume0"

JOBS = [
    Job("verify", depth=32, size=4096),
    Job("randread", depth=1, size=4096),
    Job("randwrite", depth=1, size=4096),
    Job("randread", depth=128, size=4096),
    Job("randwrite", depth=128, size=4096),
    Job("randread", depth=32, size=128 << 10),
    Job("randwrite", depth=32, size=128 << 10),
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
    return call_silently(application, method, **params)


def call_silently(application: Application, method: str, **params: Any) -> Any:
    return application.rpc.call(method, **params)


class Kernel:
    """The kernel's sockets, over loopback."""

    title = "over TCP"
    socket_params: dict[str, str] = {}

    def __init__(self, _lab: Lab) -> None:
        self.remote = Remote("127.0.0.1", free_port(), EXPORT)

    def join_target(self, target: Application) -> None:
        """Has loopback already."""

    def join_client(self, client: Application, show: bool) -> None:
        """Has loopback already."""


class Dpdk:
    """Sockets over DPDK: an interface in each process, and a memif between them."""

    title = "over TCP past the kernel, on a memif of DPDK"
    socket_params = {"sock_impl": "dpdk"}

    def __init__(self, lab: Lab) -> None:
        # Addresses for documents (RFC 5737), which no interface of the kernel needs to have.
        self.remote = Remote("192.0.2.1", 4460, EXPORT)
        self._device = f"net_memif0,id=0,socket={lab.folder}/memif"

    def _params(self, role: str, address: str) -> dict[str, Any]:
        return {"name": "net0", "port": f"{self._device},role={role}", "addresses": [f"{address}/24"], "mtu": 9000}

    def join_target(self, target: Application) -> None:
        # A memif's master takes one client after another.
        call(target, "dpdk_sock_create_interface", **self._params("master", self.remote.address))

    def join_client(self, client: Application, show: bool) -> None:
        do = call if show else call_silently
        do(client, "dpdk_sock_create_interface", **self._params("slave", "192.0.2.2"))


NETWORKS: dict[str, type[Kernel] | type[Dpdk]] = {"kernel": Kernel, "dpdk": Dpdk}


def start_target(lab: Lab, network: Kernel | Dpdk) -> Application:
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
    remote = network.remote
    network.join_target(target)
    call(target, "dst_create_export", name=remote.export, bdev_name="File0")
    call(target, "dst_export_add_host", export=remote.export, host="*", access="rw")
    call(target, "bdev_aio_create", name="File0", filename=str(volume), block_size=BLOCK)
    listener = {"traddr": remote.address, "trsvcid": str(remote.port)} | network.socket_params
    call(target, "dst_create_listener", **listener)
    return target


def run(lab: Lab, target: Application, network: Kernel | Dpdk, job: Job, show: bool) -> Row:
    """Starts a client process, attaches the export, runs `job`, and stops the process."""
    perf = lab.bdevperf_unattached(job, VOLUME_MIB * MIB // BLOCK, bdevs=[BDEV])
    network.join_client(perf, show)
    method, params = lab.transport.attach_call(BDEV, network.remote)
    params |= network.socket_params
    if show:
        call(perf, method, **params)
        device = perf.bdev(BDEV)
        assert device is not None
        say(f"   {BDEV} is attached: {device['num_blocks']} blocks of {device['block_size']} bytes, UUID {device['uuid']}")
        say()
        say(f"3. I/O through it, {job.seconds} s of each kind:")
        say(HEADING)
    else:
        call_silently(perf, method, **params)
    figures = measure(perf, BDEV, target.pid)
    counters = perf.rpc.call("bdev_dst_get_info", name=BDEV)[0]["counters"]
    lab.transport.detach(perf, BDEV)
    clean = figures.clean and perf.stop() == 0
    row = Row(job, figures, max(counters["errors"], 0 if clean else 1))
    say(str(row))
    if row.errors:
        say(f"   Last lines of the client's log:\n{perf.tail()}")
    return row


def demo(kind: type[Kernel] | type[Dpdk], seconds: int) -> bool:
    began = time.monotonic()
    say(f"DST demo: a file in one process becomes a block device in another, {kind.title}.")
    if environment().variables.get("DST_HUGEPAGES") == "none":
        say("(No hugepages are available, which costs some speed.)")
    say()
    with closing(Lab(Dst())) as lab:
        network = kind(lab)
        target = start_target(lab, network)
        say()
        say(f"2. The client: another process (bdevperf, core mask {CLIENT_CORES}). It attaches the export:")
        try:
            jobs = [replace(job, seconds=seconds) for job in JOBS]
            rows = [run(lab, target, network, job, show=job is jobs[0]) for job in jobs]
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


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Exports a file from one process and attaches it in another.")
    parser.add_argument("--net", choices=NETWORKS, default="kernel", help="whose sockets carry it (default: kernel)")
    parser.add_argument("--seconds", type=int, default=3, help="how long each kind of I/O runs (default: 3)")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = arguments()
    signal.signal(signal.SIGTERM, on_term)
    try:
        sys.exit(0 if demo(NETWORKS[chosen.net], chosen.seconds) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(f"dst: error: the demo failed: {error}")
