#!/usr/bin/python3
"""Runs the hostile tests for long, by hand: many cycles each, with timing asserted and figures
printed.

    . build/env.sh; tests/endurance.py [--cycles 100] [-k EXPRESSION]

`-k "aes or chacha"` selects the tests with a cipher. DST_SEED=N repeats the random choices of a run
(not the timing of the processes).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ["test_restarts.py", "test_cuts.py", "test_stale.py", "test_deadlines.py", "test_filesystem_outages.py", "test_flips.py",
         "test_mirror_cycles.py", "test_mirror_takeovers.py", "test_dpdk.py"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("-k", default="", metavar="EXPRESSION", help="run only these tests, as pytest's -k")
    arguments = parser.parse_args()
    began = time.monotonic()
    # -s shows the figures, which are the purpose of this program.
    command = [sys.executable, "-m", "pytest", "-s", "-v", "--durations=0", *(str(HERE / file) for file in FILES)]
    if arguments.k:
        command += ["-k", arguments.k]
    result = subprocess.run(command, env=os.environ | {"DST_CYCLES": str(arguments.cycles)}, check=False)
    print(f"{arguments.cycles} cycles of each: {time.monotonic() - began:.0f} s")
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
