#!/usr/bin/python3
"""Shows who waits for whom: the system calls on the sockets of both sides, in order of time, while a
case runs.

`bench/timeline.py randwrite-4k-qd128 dst`, as root and with `perf`. Each line is a call that moved
bytes: when it began, how long it took, the time since the side's previous such call, and how many polls
in between found nothing. Tracing takes some 0.5 µs a call, so the times compare with each other, not
with an untraced run.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import machine  # noqa: E402
from cases import NAMES, parse as parse_case  # noqa: E402
from peers.registry import peers  # noqa: E402
from stage import Stage  # noqa: E402

CALLS = ("sendmsg", "readv", "recvfrom", "recvmsg", "epoll_wait")
# Of these, a call that finds nothing returns 0, the others EAGAIN.
POLLS = ("epoll_wait",)
EAGAIN = -11

SECONDS = 4
# When tracing begins, in seconds before which the I/O has become steady, and how long it lasts.
FROM, FOR = 1.0, 0.03

SIDES = {machine.CLIENT_CPU: "client", machine.TARGET_CPU: "target"}

LINE = re.compile(r"\s*\[(\d+)\]\s+([\d.]+):\s+syscalls:sys_(enter|exit)_(\w+):(.*)")


@dataclass(frozen=True)
class Call:
    cpu: int
    name: str
    begun: float
    """In seconds, as `ended`."""
    ended: float
    result: int

    @property
    def found_nothing(self) -> bool:
        return self.result == (0 if self.name in POLLS else EAGAIN)


def calls(printed: str) -> list[Call]:
    """Returns the calls in the output of `perf script -F cpu,time,event,trace`, in order of their
    beginning."""
    begun: dict[int, float] = {}
    found = []
    for line in printed.splitlines():
        if not (match := LINE.match(line)):
            continue
        cpu, at, what, name, rest = int(match[1]), float(match[2]), match[3], match[4], match[5]
        if what == "enter":
            begun[cpu] = at
        elif cpu in begun:
            result = int(rest.strip(), 16)
            # Printed as an unsigned number of 64 bits.
            result -= (result >> 63) << 64
            found.append(Call(cpu, name, begun.pop(cpu), at, result))
    return sorted(found, key=lambda call: call.begun)


def shown(found: list[Call]) -> list[str]:
    """Returns a line for each call that moved bytes."""
    lines, empty, last = [], dict.fromkeys(SIDES, 0), {}
    for call in found:
        if call.cpu not in SIDES:
            continue
        if call.found_nothing:
            empty[call.cpu] += 1
        elif call.name not in POLLS:
            since = call.begun - last.get(call.cpu, call.begun)
            polls = f", {empty[call.cpu]} empty polls" if empty[call.cpu] else ""
            column = "" if call.cpu == machine.CLIENT_CPU else 40 * " "
            lines.append(
                f"{(call.begun - found[0].begun) * 1e6:9.1f}  {column}{SIDES[call.cpu]} {call.name} {call.result:,}"
                f" in {(call.ended - call.begun) * 1e6:.1f}, {since * 1e6:.1f} after the last{polls}"
            )
            empty[call.cpu], last[call.cpu] = 0, call.ended
    return lines


def begin_tracing(into: Path) -> subprocess.Popen[bytes]:
    """Starts a process that traces once the I/O is steady."""
    events = ",".join(f"syscalls:sys_{what}_{name}" for name in CALLS for what in ("enter", "exit"))
    cpus = ",".join(map(str, SIDES))
    record = f"exec perf record -q -C {cpus} -m 4096 -e {events} -o {into} sleep {FOR}"
    return subprocess.Popen(["sh", "-c", f"sleep {FROM}; {record}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", type=parse_case, help=NAMES)
    parser.add_argument("peer", help="its name in the table of bench/bench.py, as dst or nvmf-small")
    parser.add_argument("--lines", type=int, default=60, help="the number of lines to show; default 60")
    args = parser.parse_args()
    known = {peer.name: peer for peer in peers()}
    if args.peer not in known:
        parser.error(f"no such peer: {args.peer}; the peers are {', '.join(known)}")
    machine.own_network()
    with tempfile.TemporaryDirectory() as folder, closing(Stage(args.case, SECONDS, SECONDS * 1000)) as stage:
        file = Path(folder) / "perf.data"
        # Once without tracing, which also starts the processes.
        figures, _ = known[args.peer].run(stage)
        tracing = begin_tracing(file)
        known[args.peer].run(stage)
        if tracing.wait() != 0:
            sys.exit("dst: error: perf cannot trace system calls here; run as root, with /sys/kernel/tracing mounted")
        script = ["perf", "script", "-i", str(file), "--ns", "-F", "cpu,time,event,trace"]
        printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    if not (found := calls(printed)):
        sys.exit("dst: error: perf began after the run had ended; run it again when the machine is idle")
    print(f"{args.case.name}, {args.peer}: {figures.iops:,.0f} IOPS without tracing; times in µs")
    print("\n".join(shown(found)[: args.lines]))


if __name__ == "__main__":
    main()
