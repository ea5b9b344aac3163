"""Runs, and ratios between runs that were neighbours in time while the machine was in the same
mode. Only arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Callable, Iterable

from cases import Case
from measure import Figures

# A run is disturbed if other processes had more than this part of a core's time.
DISTURBED = 0.05

# The round-trip time of a cache line between the two sides' cores, in ns, below which they share a
# cache. On all machines measured, it is 60 to 120 with a shared cache and 250 or more without.
NEAR_BELOW_NS = 180.0

NEAR, FAR, MIXED = "near", "far", "mixed"


def mode(before_ns: float, after_ns: float) -> str:
    """Returns the mode of a run from the round-trip times of the cache line before and after it."""
    near = {ns < NEAR_BELOW_NS for ns in (before_ns, after_ns)}
    return MIXED if len(near) == 2 else NEAR if near == {True} else FAR


@dataclass(frozen=True)
class Run:
    case: Case
    peer: str
    family: str
    """The family, which variants of one peer share."""
    round: int
    place: int
    """The number of earlier runs in the round."""
    figures: Figures
    before_ns: float
    after_ns: float
    disturbed: float = 0.0
    """The part of the time in which other processes had the cores of one of the two sides."""

    @property
    def mode(self) -> str:
        return mode(self.before_ns, self.after_ns)


def iops(figures: Figures) -> float:
    return figures.iops


def interleaved(base: str | None, others: list[str]) -> list[str]:
    """Returns the order of a round, in which the base runs next to each peer that is compared with
    it."""
    if base is None:
        return others
    order = []
    for first in range(0, len(others), 2):
        order += [others[first], base, *others[first + 1 : first + 2]]
    return order or [base]


def pairs(runs: Iterable[Run], ours: str, theirs: str) -> list[tuple[Run, Run]]:
    """Pairs each run of `theirs` with the nearest run of `ours` in the same round and mode."""
    rounds: dict[int, list[Run]] = {}
    for run in runs:
        if run.mode != MIXED:
            rounds.setdefault(run.round, []).append(run)
    found = []
    for members in rounds.values():
        mine = [run for run in members if run.peer == ours]
        for other in (run for run in members if run.peer == theirs):
            same = [run for run in mine if run.mode == other.mode]
            if same:
                found.append((min(same, key=lambda run: abs(run.place - other.place)), other))
    return found


@dataclass(frozen=True)
class Ratio:
    """One value for each pair; never empty."""

    values: list[float]
    quiet: bool
    """Whether these pairs were undisturbed. If not, there was no undisturbed pair."""

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        doubt = "" if self.quiet else ", all of them disturbed"
        return f"{self.median:.2f} ({min(self.values):.2f} to {max(self.values):.2f}; pairs: {len(self.values)}{doubt})"


def ratio(
    runs: Iterable[Run], ours: str, theirs: str, value: Callable[[Figures], float] = iops
) -> Ratio | None:
    """Returns the ratio over the undisturbed pairs, or over all pairs if none was undisturbed, or
    None if there is no pair."""
    found = [pair for pair in pairs(runs, ours, theirs) if all(value(run.figures) > 0 for run in pair)]
    quiet = [pair for pair in found if all(run.disturbed <= DISTURBED for run in pair)]
    if not found:
        return None
    return Ratio([value(ours.figures) / value(theirs.figures) for ours, theirs in quiet or found], bool(quiet))


def best_variant(runs: Iterable[Run], ours: str, family: str) -> str | None:
    """Returns the family's variant against which `ours` has the lowest ratio of IOPS, or None if
    none ran beside it."""
    runs = list(runs)
    found = {run.peer: ratio(runs, ours, run.peer) for run in runs if run.family == family}
    medians = {peer: ratio.median for peer, ratio in found.items() if ratio}
    return min(medians, key=lambda peer: medians[peer], default=None)
