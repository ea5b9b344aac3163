#!/usr/bin/python3
"""The second part of make bench NET=1: latencies of 4 KiB at depth 1 over a memif, with the sockets
over DPDK, against the kernel's TCP over loopback; for DST and for SPDK's NVMe/TCP.

One target and one client, one core each, have both kinds of sockets, and one connection at a time.
The backend is a null bdev.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import machine  # noqa: E402
from harness.environment import environment  # noqa: E402
from harness.lab import Lab  # noqa: E402
from harness.net import CLIENT, TARGET, Net, default_implementation  # noqa: E402
from harness.ports import free_port  # noqa: E402
from harness.rpc import RpcError  # noqa: E402
from harness.spdk import Application, Bdevperf, Job  # noqa: E402
from harness.transport import Dst, Nvmf, Remote, serve_nvmf  # noqa: E402
from measure import measure  # noqa: E402
from results import save  # noqa: E402
from runs import DISTURBED, MIXED, mode  # noqa: E402
from stage import BDEV, BLOCK, BLOCKS, CONTROLLER, SMALL_ISCSI, core_masks  # noqa: E402

MTU = 9000
SECONDS = 1
WORKLOADS = ("randread", "randwrite")
PROTOCOLS = ("dst", "nvmf")
SOCKETS = ("dpdk", "posix")
MIB = 768
"""The memory of each process: 512 for SPDK, and 90 for the buffers of the port."""


@dataclass(frozen=True)
class Run:
    workload: str
    protocol: str
    sockets: str
    round: int
    mean_us: float
    p50_us: float
    p99_us: float
    mode: str
    disturbed: float


def configuration(*subsystems: dict[str, Any]) -> dict[str, Any]:
    """Returns the configuration of an application whose NVMe/TCP has sockets over DPDK."""
    chosen = default_implementation() or {"subsystems": []}
    return {"subsystems": [*chosen["subsystems"], *subsystems]}


@dataclass
class Pair:
    """A target with an export for each protocol, and a bdevperf without bdevs."""

    target: Application
    perf: Bdevperf
    places: dict[tuple[str, str], Remote]
    """By protocol and sockets."""

    def attach(self, protocol: str, sockets: str) -> None:
        place = self.places[protocol, sockets]
        if protocol == "dst":
            method, params = Dst().attach_call(BDEV, place)
            # The other protocol has no digests by default, either.
            params |= {"sock_impl": sockets, "digest": "none"}
        else:
            method, params = Nvmf().attach_call(CONTROLLER, place)
        self.perf.rpc.call(method, **params)

    def detach(self, protocol: str) -> None:
        if protocol == "dst":
            Dst().detach(self.perf, BDEV)
        else:
            Nvmf().detach(self.perf, CONTROLLER)


def serve(target: Application) -> dict[tuple[str, str], Remote]:
    """Exports a null bdev with each protocol, at an address of the interface and at the kernel's."""
    for protocol in PROTOCOLS:
        target.rpc.call("bdev_null_create", name=protocol, num_blocks=BLOCKS, block_size=BLOCK)
    dst = Dst().serve(target, "dst")
    target.rpc.call("dst_create_listener", traddr=TARGET, trsvcid=str(dst.port), sock_impl="dpdk")
    nvmf = Remote(TARGET, free_port(), "nqn.2016-06.io.spdk:nvmf")
    serve_nvmf(target, "nvmf", nvmf)
    kernels = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(nvmf.port)}
    target.rpc.call("nvmf_subsystem_add_listener", nqn=nvmf.export, listen_address=kernels)
    return {
        ("dst", "dpdk"): Remote(TARGET, dst.port, dst.export),
        ("dst", "posix"): dst,
        ("nvmf", "dpdk"): nvmf,
        ("nvmf", "posix"): Remote("127.0.0.1", nvmf.port, nvmf.export),
    }


def start(lab: Lab, workload: str) -> Pair:
    net, memory = Net(lab, MTU), ["-s", str(MIB)]
    target = lab.target(core_masks(1)[1], arguments=memory, config=configuration(SMALL_ISCSI))
    net.join(target, TARGET, "master")
    places = serve(target)
    job = Job(workload, 1, BLOCK, SECONDS)
    perf = lab.bdevperf_unattached(job, BLOCKS, bdevs=[BDEV], arguments=memory, config=configuration())
    net.join(perf, CLIENT, "slave")
    return Pair(target, perf, places)


def run_one(pair: Pair, workload: str, protocol: str, sockets: str, number: int) -> Run:
    pair.attach(protocol, sockets)
    before_ns = machine.round_trip_ns()
    pids = [pair.perf.pid, pair.target.pid]
    figures, disturbed = machine.watch(pids, lambda: measure(pair.perf, BDEV, pair.target.pid))
    assert figures.clean, f"{workload} with {protocol} over {sockets}: I/O failed\n{pair.perf.tail()}"
    seen = mode(before_ns, machine.round_trip_ns())
    # The sockets are those that were asked for.
    over_dpdk = [found["remote"] for found in pair.target.rpc.call("dpdk_sock_get_connections")]
    found = any(remote.startswith(f"{CLIENT}:") for remote in over_dpdk)
    pair.detach(protocol)
    assert found == (sockets == "dpdk"), f"{protocol} over {sockets}: {over_dpdk}"
    return Run(
        workload, protocol, sockets, number, figures.mean_us, figures.p50_us, figures.p99_us, seen, disturbed
    )


def measure_workload(workload: str, rounds: int) -> list[Run]:
    runs = []
    with closing(Lab(Dst())) as lab:
        pair = start(lab, workload)
        for number in range(rounds):
            for protocol in PROTOCOLS:
                # Either comes first as often as the other, give or take one.
                for sockets in SOCKETS[:: 1 if number % 2 == 0 else -1]:
                    run = run_one(pair, workload, protocol, sockets, number)
                    noise = f"  disturbed {run.disturbed:.0%}" if run.disturbed > DISTURBED else ""
                    text = f"  {workload:<9} {protocol:<4} over {sockets:<5} {run.mean_us:>8.2f} us"
                    print(f"{text}  p99 {run.p99_us:.2f}  {run.mode}{noise}", flush=True)
                    runs.append(run)
    return runs


def summary(runs: list[Run]) -> list[str]:
    """Returns a line for each workload and protocol: medians, and the median of the ratios of runs
    that were neighbours in the same mode."""
    lines = []
    for workload in WORKLOADS:
        for protocol in PROTOCOLS:
            here = {
                (run.sockets, run.round): run
                for run in runs
                if (run.workload, run.protocol) == (workload, protocol) and run.mode != MIXED
            }
            pairs = [(ours, here.get(("posix", number))) for (sockets, number), ours in here.items() if sockets == "dpdk"]
            both = [(ours, theirs) for ours, theirs in pairs if theirs is not None and ours.mode == theirs.mode]
            if not both:
                continue
            ratios = [ours.mean_us / theirs.mean_us for ours, theirs in both]
            ours_us, theirs_us = (median(run.mean_us for run in side) for side in zip(*both))
            modes = ", ".join(sorted({ours.mode for ours, _ in both}))
            lines.append(
                f"{workload} {protocol}: dpdk {ours_us:.1f} us, posix {theirs_us:.1f} us, ratio {median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f}; pairs: {len(both)}; {modes})"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7, help="number of rounds")
    parser.add_argument("--workloads", default=" ".join(WORKLOADS), help="only these, separated by spaces")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the results")
    args = parser.parse_args()
    words = args.workloads.split()
    if unknown := set(words) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    about = machine.describe() | {"congestion_control": machine.own_network()}
    runs = [run for workload in WORKLOADS if workload in words for run in measure_workload(workload, args.pairs)]
    whole = {"machine": about, "runs": [asdict(run) for run in runs]}
    save(args.results, "net_latency", whole, summary(runs))


if __name__ == "__main__":
    environment()
    try:
        main()
    except (AssertionError, RpcError) as error:
        sys.exit(f"dst: error: {error}")
