"""How often the hostile tests do what they do: a few times in `make test`, more by hand (tests/endurance.py).

DST_CYCLES  so many times in each test, and the timing is asserted too
DST_SEED    of all that is random in them; by default another one each time. It is printed
"""

from __future__ import annotations

import os
import random
from typing import TypeVar

T = TypeVar("T")

BY_HAND = "DST_CYCLES" in os.environ


def by_hand(*values: T) -> list[T]:
    """More values of a test's parameter than there is time for in `make test`."""
    return list(values) if BY_HAND else []


def cycles(default: int) -> int:
    return int(os.environ.get("DST_CYCLES", default))


def watchdog_factor() -> float:
    """By hand a test may take as much longer as it has more to do; at least two are done by default."""
    return max(1.0, cycles(0) / 2)


def seeded_random() -> random.Random:
    seed = int(os.environ.get("DST_SEED", random.SystemRandom().randrange(2**32)))
    print(f"DST_SEED={seed}")
    return random.Random(seed)


def report(what: str, waits_ms: list[float], bound_ms: float) -> None:
    """Prints by how much the slowest I/O of each cycle was slower than what it had to wait for; by hand, judges it."""
    ordered = sorted(waits_ms)
    middle = ordered[len(ordered) // 2]
    print(f"{what}: {len(ordered)} times; slowest I/O beyond the outage: median {middle:.0f} ms, most {ordered[-1]:.0f} ms")
    if BY_HAND:
        assert ordered[-1] <= bound_ms, f"{what}: an I/O took {ordered[-1]:.0f} ms longer than the outage"
