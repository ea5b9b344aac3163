"""The number of cycles of the hostile tests: a few in `make test`, more when run by hand
(tests/endurance.py).

DST_CYCLES  the number of cycles in each test; if set, the timing is asserted, too
DST_SEED    the seed of all random choices; by default a new one each time, which is printed
"""

from __future__ import annotations

import os
import random
from typing import TypeVar

T = TypeVar("T")

BY_HAND = "DST_CYCLES" in os.environ


def by_hand(*values: T) -> list[T]:
    """Returns all values of a test's parameter when run by hand, and only a few in `make test`."""
    return list(values) if BY_HAND else []


def cycles(default: int) -> int:
    return int(os.environ.get("DST_CYCLES", default))


def watchdog_factor() -> float:
    """Returns the factor for the time limits of tests when they are run by hand. They allow for two
    cycles, which are the default."""
    return max(1.0, cycles(0) / 2)


def seeded_random() -> random.Random:
    seed = int(os.environ.get("DST_SEED", random.SystemRandom().randrange(2**32)))
    print(f"DST_SEED={seed}")
    return random.Random(seed)


def report(what: str, waits_ms: list[float], bound_ms: float) -> None:
    """Prints by how much the slowest I/O of each cycle exceeded the outage. When run by hand,
    asserts a bound."""
    ordered = sorted(waits_ms)
    middle = ordered[len(ordered) // 2]
    print(f"{what}: {len(ordered)} times; slowest I/O beyond the outage: median {middle:.0f} ms, most {ordered[-1]:.0f} ms")
    if BY_HAND:
        assert ordered[-1] <= bound_ms, f"{what}: an I/O took {ordered[-1]:.0f} ms longer than the outage"
