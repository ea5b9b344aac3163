#!/usr/bin/python3
"""Counts the instructions of an I/O over the sockets over DPDK, both ends, with callgrind in
bench/paths/net.rs, and compares them with their bounds (bench/paths/net_bounds.txt).

`bench/net_instructions.py` shows them. `bench/net_instructions.py --write` makes the current counts
the new bounds: use it if a change is intended, and give the reason in the commit.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from instructions import ROOT, Bounds, compiler, parse_bounds, table

BOUNDS = ROOT / "bench" / "paths" / "net_bounds.txt"

# The arguments of dst-net-paths: connections, depth, bytes of a request and of an answer, MTU,
# whether the ports compute the checksums, and the answers that are counted.
WORKS = {
    "read-4k": (1, 128, 48, 4144, 9000, 1, 2000),
    "read-4k-1500": (1, 128, 48, 4144, 1500, 0, 1000),
}

# What connections cost: each has as many requests under way, whatever their number.
DEPTHS = (1, 8)
CONNECTIONS = (1, 100, 1000)

# The most that an I/O on 1,000 connections may cost, relative to fewer with the same depth each. With
# 8 requests each, a connection has its turn every 10 ms, so the ACK of its requests is sent by itself
# after a millisecond, which fewer connections send with the answers.
GROWTH = {1: 1.1, 8: 1.15}


def of_connections(depth: int, connections: int) -> str:
    """Returns the name of the work of so many connections, each that deep."""
    return f"read-4k-d{depth}-c{connections}"


WORKS |= {
    of_connections(depth, connections): (connections, depth, 48, 4144, 9000, 1, max(2000, 4 * depth * connections))
    for depth in DEPTHS
    for connections in CONNECTIONS
}

# The functions whose instructions are shown, with all that they call: all of an I/O, and what an
# interface does with received frames and for those that it sends.
STEPS = {
    "io": r"dst_net_paths::counted",
    "receive": r"dst_sockets::driver::Driver<P,L>::receive",
    "send": r"dst_sockets::driver::Driver<P,L>::send",
}


def parse(annotated: str, answers: int) -> dict[str, int]:
    """Returns the instructions of each step for one I/O, from the output of callgrind_annotate
    --inclusive=yes."""
    found = {}
    for step, name in STEPS.items():
        # The first line of a function is its total; the others are parts of it that come from other
        # files.
        row = re.search(rf"^ *([\d,]+) [^\n]*:{name}(?:'2)?(?= |$)", annotated, re.MULTILINE)
        assert row, f"{name} is missing in the profile"
        found[step] = round(int(row.group(1).replace(",", "")) / answers)
    return found


def growth(counts: dict[str, int]) -> dict[str, tuple[float, float]]:
    """Returns what an I/O costs on 1,000 connections, relative to 1 and to 100 with the same depth
    each, and what it may."""
    many = max(CONNECTIONS)

    def ratio(depth: int, few: int) -> float:
        return counts[f"{of_connections(depth, many)}::io"] / counts[f"{of_connections(depth, few)}::io"]

    return {
        f"{depth} deep, {many} connections against {few}": (ratio(depth, few), GROWTH[depth])
        for depth in DEPTHS
        for few in CONNECTIONS
        if few < many
    }


def count() -> dict[str, int]:
    """Builds the program and runs each work, for some 15 s."""
    build = ["cargo", "build", "--quiet", "--release", "--package", "dst-paths", "--bin", "dst-net-paths"]
    subprocess.run(build, cwd=ROOT, check=True)
    program = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "dst-net-paths"
    # A copy by "rep movsb" counts as an instruction a byte, so it is not used, whatever the machine.
    environment = os.environ | {"GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=1000000000"}
    counts = {}
    for work, numbers in WORKS.items():
        with tempfile.TemporaryDirectory(prefix="dst-paths-") as folder:
            profile = Path(folder) / "profile"
            valgrind = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={profile}"]
            valgrind.append("--toggle-collect=dst_net_paths::counted")
            command = [*valgrind, str(program), *map(str, numbers)]
            run = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
            annotate = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--auto=no", str(profile)]
            annotated = subprocess.run(annotate, cwd=folder, check=True, capture_output=True, text=True).stdout
            for step, instructions in parse(annotated, int(run.stdout)).items():
                counts[f"{work}::{step}"] = instructions
    return counts


def bounds() -> Bounds:
    return parse_bounds(BOUNDS.read_text())


def main() -> None:
    counts, with_compiler = count(), compiler()
    if sys.argv[1:] == ["--write"]:
        comments = [line for line in BOUNDS.read_text().splitlines() if line.startswith("#")]
        rows = [f"{step} {instructions}" for step, instructions in counts.items()]
        BOUNDS.write_text("\n".join([*comments, with_compiler, *rows]) + "\n")
        print(f"written to {BOUNDS}")
    print(table(counts, bounds(), with_compiler))
    for name, (ratio, most) in growth(counts).items():
        print(f"{name}: {ratio:.2f}, at most {most}")


if __name__ == "__main__":
    main()
