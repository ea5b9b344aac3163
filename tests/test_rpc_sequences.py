"""Random sequences of RPCs, several at once, with kills, stops and restarts: no crash, no hang,
nothing half-made, bounded stop.

`make test` runs them for a minute. By hand:

    DST_FUZZ_SECONDS=3600 pytest -s tests/test_rpc_sequences.py

DST_FUZZ_SECONDS  how long to begin new sequences
DST_FUZZ_SEED     the seed of the first sequence; each next one has the next number. With
                  DST_FUZZ_SECONDS=0, only this sequence is run
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter

import pytest

from harness.environment import ROOT
from harness.lab import Lab
from harness.rpc_plan import VOCABULARY, Send, plan
from harness.rpc_runner import Runner, logs
from harness.transport import Transport

pytestmark = pytest.mark.needs_dst

SECONDS = float(os.environ.get("DST_FUZZ_SECONDS", 60))
# More than one sequence may take on a loaded machine.
GRACE_S = 240.0


def test_a_sequence_is_a_function_of_its_seed() -> None:
    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


def test_every_method_of_dst_is_called() -> None:
    sys.path.insert(0, str(ROOT / "rpc"))
    try:
        import dst_rpc
    finally:
        sys.path.pop(0)
    sent = Counter(
        call.method for seed in range(50) for step in plan(seed).steps if isinstance(step, Send) for call in step.calls
    )
    known = {method for vocabulary in VOCABULARY.values() for method in vocabulary}
    assert {method.name for method in dst_rpc.METHODS} <= known, "harness/rpc_plan.py lacks a method"
    assert known == set(sent), "a method is never called"


def run_one(transport: Transport, seed: int) -> str:
    """Runs one sequence in processes of its own, and returns what is worth a line."""
    lab = Lab(transport)
    runner = Runner(lab, plan(seed))
    try:
        runner.run()
    except Exception as error:
        again = f"DST_FUZZ_SEED={seed} DST_FUZZ_SECONDS=0"
        raise AssertionError(f"{again}: {error}\n{logs(runner)}") from error
    finally:
        lab.close()
    return f"{runner.calls} calls, slowest stop {runner.longest_stop_s:.1f} s"


@pytest.mark.watchdog(SECONDS + GRACE_S)
def test_sequences(transport: Transport) -> None:
    seed = int(os.environ.get("DST_FUZZ_SEED", random.SystemRandom().randrange(2**32)))
    began = time.monotonic()
    while True:
        print(f"DST_FUZZ_SEED={seed}", flush=True)
        print(f"  {run_one(transport, seed)}, {time.monotonic() - began:.0f} s in all", flush=True)
        seed += 1
        if time.monotonic() - began >= SECONDS:
            break
