#!/usr/bin/python3
"""make bench SCALE=1: measures the cost of many connections, in total throughput and memory.

The clients are dst-clients (bench/clients), one thread with a session for each client. They are
compared with the limit, as many plain sockets that move the same bytes. 4 KiB reads of a malloc
bdev, one core a side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import machine  # noqa: E402
from cases import parse  # noqa: E402
from charts import described, scale_chart  # noqa: E402
from harness.lab import Lab  # noqa: E402
from harness.ports import free_port  # noqa: E402
from harness.spdk import Application  # noqa: E402
from harness.transport import Dst, Remote  # noqa: E402
from harness.waiting import wait_until  # noqa: E402
from peers.dst import DstPeer  # noqa: E402
from peers.limit import HEADER  # noqa: E402
from runs import MIXED, mode  # noqa: E402
from stage import Stage, core_masks, free_hugepages_mib  # noqa: E402

CASE = parse("randread-4k-qd128")
CONNECTIONS = [1, 10, 100, 1000]
MOST_EXPORTS = 100
MS = 700


@dataclass(frozen=True)
class Point:
    connections: int
    outstanding: int
    """In all."""
    load: str
    """The load: as many requests in total, or as many for each connection."""
    exports: int = 1


@dataclass(frozen=True)
class Measured:
    point: Point
    peer: str
    iops: float
    idle: float
    """The part of the time in which DST's clients were idle."""
    mode: str
    memory_kib: float = 0.0
    """The target's own memory for each client while all are idle, without hugepages."""
    hugepages_kib: float = 0.0
    kernel_kib: float = 0.0
    """The memory of both ends' sockets for each client."""


POINTS = (
    [Point(count, 128, "128 in all") for count in CONNECTIONS]
    + [Point(count, 4 * count, "4 each") for count in CONNECTIONS]
    + [Point(1000, 4000, "4 each, 100 exports", MOST_EXPORTS)]
)


def serve(target: Application, _bdev: str) -> Remote:
    """Starts a target with one large export and a hundred small ones."""
    remote = Remote("127.0.0.1", free_port(), "scale")
    call = target.rpc.call
    call("dst_create_listener", traddr=remote.address, trsvcid=str(remote.port))
    names = {"": "Malloc0"}
    for number in range(MOST_EXPORTS):
        names[str(number)] = call("bdev_malloc_create", name=f"Small{number}", num_blocks=256, block_size=4096)
    for suffix, bdev in names.items():
        call("dst_create_export", name=remote.export + suffix, bdev_name=bdev)
        call("dst_export_add_host", export=remote.export + suffix, host="*", access="rw")
    return remote


def kernel_kib() -> int:
    """Returns the memory of all TCP sockets' buffers."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            fields = line.split()
            return int(fields[fields.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return 0


def run_dst(stage: Stage, point: Point, programs: Path) -> Measured:
    """Measures with a new target, since memory that earlier clients had used would be reused for
    the next ones."""
    peer = DstPeer()
    target, remote = stage.target("scale", peer.mib, serve, peer.setup)
    options = {
        "port": remote.port,
        "export": remote.export,
        "exports": point.exports,
        "clients": point.connections,
        "outstanding": point.outstanding,
        "op": "read",
        "bytes": CASE.size,
        "ms": MS,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    before_ns = machine.round_trip_ns()
    with stage.awake(target):
        before = target.rss_mib() * 1024, free_hugepages_mib() * 1024, kernel_kib()
        clients = subprocess.Popen(
            ["taskset", core_masks(1)[0], str(programs / "dst-clients"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert clients.stdin and clients.stdout
        assert clients.stdout.readline() == "attached\n", "the clients can't attach"
        after = target.rss_mib() * 1024, free_hugepages_mib() * 1024, kernel_kib()
        found = json.loads(clients.communicate("\n", timeout=60)[0])
    stage.clear()
    count = point.connections
    return Measured(
        point,
        "dst",
        found["iops"],
        found["idle"],
        mode(before_ns, machine.round_trip_ns()),
        (after[0] - before[0]) / count,
        (before[1] - after[1]) / count,
        max(after[2] - before[2], 0) / count,
    )


def run_limit(point: Point) -> Measured:
    client_core, target_core = core_masks(1)
    many = ["--connections", str(point.connections)] if point.connections > 1 else []
    before_ns = machine.round_trip_ns()
    with closing(Lab(Dst())) as lab:
        program = machine.limit_program()
        server = lab.process("limit-serve", ["taskset", target_core, program, "serve", *many])
        port = wait_until(lambda: server.text().split("\n")[1:-1], "dst-limit to listen")[0]
        numbers = {"port": port, "request": HEADER, "reply": HEADER + CASE.size, "depth": point.outstanding, "ms": MS}
        words = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
        driver = lab.process("limit-drive", ["taskset", client_core, program, "drive", *words, *many])
        assert driver.wait(60) == 0, driver.tail()
        iops = float(json.loads(driver.text().splitlines()[-1])["iops"])
    return Measured(point, "limit", iops, 0.0, mode(before_ns, machine.round_trip_ns()))


def measure(rounds: int, programs: Path) -> list[Measured]:
    found = []
    with closing(Stage(CASE, 1, MS)) as stage:
        for number in range(rounds):
            for point in POINTS:
                runs = [run_dst(stage, point, programs)]
                if point.exports == 1:
                    runs.append(run_limit(point))
                for run in runs:
                    shown = f"{point.connections:>5} connections, {point.load:<20} {run.peer:<6}"
                    print(f"  round {number + 1} {shown} {run.iops:>10,.0f} IOPS  {run.mode}", flush=True)
                found += runs
    return found


def summed_up(found: list[Measured]) -> list[dict[str, Any]]:
    """Returns a row for each point, peer and mode: the median, and its ratio to that of one
    connection in the same mode."""
    rows: list[dict[str, Any]] = []
    groups: dict[tuple[Point, str, str], list[Measured]] = {}
    for one in found:
        if one.mode != MIXED:
            groups.setdefault((one.point, one.peer, one.mode), []).append(one)
    for (point, peer, seen), members in groups.items():
        row = asdict(point) | {"peer": peer, "mode": seen}
        for name in ("iops", "idle", "memory_kib", "hugepages_kib", "kernel_kib"):
            row[name] = median(getattr(member, name) for member in members)
        load = point.load.split(",")[0]
        alone = groups.get((next(p for p in POINTS if p.load == load), peer, seen))
        row["of_one"] = row["iops"] / median(member.iops for member in alone) if alone else None
        rows.append(row)
    return rows


def lines(rows: list[dict[str, Any]]) -> list[str]:
    shown = []
    for row in rows:
        of_one = f" of one's {row['of_one']:.2f}" if row["of_one"] else ""
        line = f"scale {row['connections']} ({row['load']}) {row['peer']} {row['mode']}: "
        line += f"{row['iops']:,.0f} IOPS{of_one}"
        if row["peer"] == "dst":
            line += f", clients idle {row['idle']:.0%}"
            line += f", KiB a client: {row['memory_kib']:.1f} + {row['hugepages_kib']:.1f} hugepages"
            line += f" + {row['kernel_kib']:.1f} the kernel's"
        shown.append(line)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3, help="number of rounds")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the results")
    args = parser.parse_args()
    build = ["cargo", "build", "--quiet", "--release", "-p", "dst-limit", "-p", "dst-clients"]
    subprocess.run(build, cwd=ROOT, check=True)
    programs = machine.limit_program().parent
    described_machine = machine.describe() | {"congestion_control": machine.own_network()}
    found = measure(args.pairs, programs)
    rows = summed_up(found)
    args.results.mkdir(parents=True, exist_ok=True)
    whole = {"machine": described_machine, "rows": rows, "runs": [asdict(one) for one in found]}
    (args.results / "scale.json").write_text(json.dumps(whole, indent=2) + "\n")
    (args.results / "scale.txt").write_text("\n".join(lines(rows)) + "\n")
    (args.results / "scale.svg").write_text(scale_chart(rows, described(described_machine)))
    print("\n".join(lines(rows)))
    print("a client on two threads: " + two_threads())
    print(f"scale.json, scale.txt and scale.svg are in {os.path.relpath(args.results)}")


def two_threads() -> str:
    if (os.cpu_count() or 1) < 4:
        return "not measured, it wants CPUs of its own for them, four in all"
    return "see the cases that end in -2cores"


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"dst: error: {error}")
