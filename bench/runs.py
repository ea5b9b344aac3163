"""Runs, and ratios between runs that were neighbours in time and had the machine in the same mode. Arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Callable, Iterable

from cases import Case
from measure import Figures

# A run in which others had a larger part of a core's time than this is disturbed.
DISTURBED = 0.05

# Nanoseconds for a cache line between the two sides' cores and back, below which they share a cache. With one they take
# 60 to 120 wherever it was looked at; without, 250 and more.
NEAR_BELOW_NS = 180.0

NEAR, FAR, MIXED = "near", "far", "mixed"


def mode(before_ns: float, after_ns: float) -> str:
    """Of a run, from what the cache line took before and after it."""
    near = {ns < NEAR_BELOW_NS for ns in (before_ns, after_ns)}
    return MIXED if len(near) == 2 else NEAR if near == {True} else FAR


@dataclass(frozen=True)
class Run:
    case: Case
    peer: str
    family: str
    """Peers that are variants of one another have the same."""
    round: int
    place: int
    """How many runs of the round were before it."""
    figures: Figures
    before_ns: float
    after_ns: float
    disturbed: float = 0.0
    """Part of the time in which other processes had the cores of one of the two sides."""

    @property
    def mode(self) -> str:
        return mode(self.before_ns, self.after_ns)


def iops(figures: Figures) -> float:
    return figures.iops


def interleaved(base: str | None, others: list[str]) -> list[str]:
    """The order of a round: the base, which all others are compared with, has each of them beside it."""
    if base is None:
        return others
    order = []
    for first in range(0, len(others), 2):
        order += [others[first], base, *others[first + 1 : first + 2]]
    return order or [base]


def pairs(runs: Iterable[Run], ours: str, theirs: str) -> list[tuple[Run, Run]]:
    """Each run of theirs and the run of ours in the same round that was nearest to it; both in the same mode."""
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
    """A value a pair; never empty."""

    values: list[float]
    quiet: bool
    """Whether these are pairs that other processes left alone; else there was none."""

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        doubt = "" if self.quiet else ", all of them disturbed"
        return f"{self.median:.2f} ({min(self.values):.2f} to {max(self.values):.2f}; pairs: {len(self.values)}{doubt})"


def ratio(
    runs: Iterable[Run], ours: str, theirs: str, value: Callable[[Figures], float] = iops
) -> Ratio | None:
    """Of the pairs that other processes left alone, if there is any such pair; None if there is no pair at all."""
    found = [pair for pair in pairs(runs, ours, theirs) if all(value(run.figures) > 0 for run in pair)]
    quiet = [pair for pair in found if all(run.disturbed <= DISTURBED for run in pair)]
    if not found:
        return None
    return Ratio([value(ours.figures) / value(theirs.figures) for ours, theirs in quiet or found], bool(quiet))


def best_variant(runs: Iterable[Run], ours: str, family: str) -> str | None:
    """The family's variant that ours looks worst beside, by IOPS; None if none ran beside it."""
    runs = list(runs)
    found = {run.peer: ratio(runs, ours, run.peer) for run in runs if run.family == family}
    medians = {peer: ratio.median for peer, ratio in found.items() if ratio}
    return min(medians, key=lambda peer: medians[peer], default=None)
