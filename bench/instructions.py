#!/usr/bin/python3
"""Counts the instructions of an I/O's hot paths with callgrind in bench/paths, and compares them
with their bounds (bench/paths/bounds.txt).

`bench/instructions.py` shows them. `bench/instructions.py --write` makes the current counts the new
bounds: use it if a change is intended, and give the reason in the commit.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOUNDS = ROOT / "bench" / "paths" / "bounds.txt"

BATCHES = 200
# BATCH in bench/paths/main.rs, for reads and for writes.
IOS = 2 * 64 * BATCHES

# The compiler's choices change a little with unrelated code.
SLACK = 1.03
# Another compiler or library makes other choices, so then only large increases are reported.
OTHER_COMPILER_SLACK = 1.3

# SCRAPES in bench/paths/main.rs.
SCRAPES = 10

# Each step, and how often it is done: a digest is computed for one I/O of each batch. A scrape is
# one call of dst_get_metrics with 100 bdevs and 100 exports; `scrape::…` are its parts.
STEPS = {
    "client::Client::submit": IOS,
    "client::Client::send": IOS,
    "client::Client::complete": IOS,
    "target::Target::parse": IOS,
    "target::Target::answer": IOS,
    "digest": 2 * BATCHES,
    "one_mirror_write": IOS // 2,
    "one_mirror_read": IOS // 2,
    "scrape::Scrape::sum_channels": SCRAPES,
    "scrape::Scrape::copy_connections": SCRAPES,
    "scrape::Scrape::answer": SCRAPES,
    "one_scrape": SCRAPES,
}


@dataclass(frozen=True)
class Bounds:
    compiler: str
    counts: dict[str, int]

    def allowed(self, step: str, compiler: str) -> int:
        return int(self.counts[step] * (SLACK if compiler == self.compiler else OTHER_COMPILER_SLACK))


def parse_bounds(text: str) -> Bounds:
    rows = [line for line in text.splitlines() if line and not line.startswith("#")]
    return Bounds(rows[0], {step: int(count) for step, count in (row.split() for row in rows[1:])})


def bounds() -> Bounds:
    return parse_bounds(BOUNDS.read_text())


def write_bounds(compiler: str, counts: dict[str, int]) -> None:
    comments = [line for line in BOUNDS.read_text().splitlines() if line.startswith("#")]
    rows = [f"{step} {count}" for step, count in counts.items()]
    BOUNDS.write_text("\n".join([*comments, compiler, *rows]) + "\n")


def compiler() -> str:
    return subprocess.run(["rustc", "--version"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def parse(annotated: str) -> dict[str, int]:
    """Returns the instructions of each step for one I/O or one scrape, from the output of
    callgrind_annotate --inclusive=yes."""
    found: dict[str, int] = {}
    # A line is "8,664,832 (28.80%)  …/bench/paths/target.rs:dst_paths::target::Target::parse
    # […/dst-paths]". The first line of a step is its total; the others are parts of it that come
    # from other files.
    row = re.compile(r"^ *([\d,]+) .*bench/paths/\w+\.rs:dst_paths::(\S+)", re.MULTILINE)
    for count, name in row.findall(annotated):
        if name in STEPS and name not in found:
            found[name] = round(int(count.replace(",", "")) / STEPS[name])
    assert found.keys() == STEPS.keys(), f"steps are missing in the profile: {STEPS.keys() - found.keys()}"
    return {step: found[step] for step in STEPS}


def count() -> dict[str, int]:
    """Builds the program and runs it for some 5 s."""
    build = ["cargo", "build", "--quiet", "--release", "--package", "dst-paths"]
    subprocess.run(build, cwd=ROOT, check=True)
    target_folder = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    with tempfile.TemporaryDirectory(prefix="dst-paths-") as folder:
        profile = Path(folder) / "profile"
        program = [str(target_folder / "release" / "dst-paths"), str(BATCHES)]
        valgrind = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={profile}"]
        # callgrind_annotate shortens the names of files below its working folder and then no longer
        # finds their functions, so it runs elsewhere.
        subprocess.run([*valgrind, *program], cwd=folder, check=True)
        annotate = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--auto=no", str(profile)]
        return parse(subprocess.run(annotate, cwd=folder, check=True, capture_output=True, text=True).stdout)


def table(counts: dict[str, int], limits: Bounds, with_compiler: str) -> str:
    lines = [f"{'instructions an I/O, a scrape':<32}{'now':>8}{'bound':>8}{'allowed':>9}"]
    for step, now in counts.items():
        over = "  TOO MANY" if now > limits.allowed(step, with_compiler) else ""
        lines.append(f"{step:<32}{now:>8}{limits.counts[step]:>8}{limits.allowed(step, with_compiler):>9}{over}")
    if with_compiler != limits.compiler:
        lines.append(f"(bounds are of {limits.compiler}, this is {with_compiler}: more is allowed)")
    return "\n".join(lines)


def main() -> None:
    counts, with_compiler = count(), compiler()
    if sys.argv[1:] == ["--write"]:
        write_bounds(with_compiler, counts)
        print(f"written to {BOUNDS}")
    print(table(counts, bounds(), with_compiler))


if __name__ == "__main__":
    main()
