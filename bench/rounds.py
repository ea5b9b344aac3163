"""The rounds of one case: who runs, in which order, and what is done about a machine that changes its mode."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import Callable

import machine
from cases import Case
from peers import Peer
from peers.registry import BASE
from runs import DISTURBED, MIXED, Run, best_variant, interleaved
from stage import Stage


@dataclass(frozen=True)
class Plan:
    pairs: int
    """Rounds, if the machine keeps to its mode and others let it alone."""
    seconds: int
    limit_ms: int
    all_rounds: bool
    """Whether variants that lost the first round still run in the next ones."""
    safety_rounds: int
    """In how many of the rounds peers run that are compared with DST's digests and ciphers, and these."""
    seconds_in_all: float | None = None
    """After how long no case begins another round, beyond its first."""

    @property
    def most_rounds(self) -> int:
        """Rounds that a change of mode spoiled are made up for, so often."""
        return 2 * self.pairs


def run_case(case: Case, peers: list[Peer], plan: Plan, say: Callable[[str], None], until: float) -> list[Run]:
    """`until`: monotonic time after which no more rounds begin, nor is a run repeated."""
    runs: list[Run] = []
    by_name = {peer.name: peer for peer in peers}
    say(f"{case.name}:")
    with closing(Stage(case, plan.seconds, plan.limit_ms)) as stage:
        done = number = 0
        while done < plan.pairs and number < plan.most_rounds and (number == 0 or time.monotonic() < until):
            names = _round(list(by_name.values()), number, plan)
            these = [_run(stage, by_name[name], number, place, say, until) for place, name in enumerate(names)]
            runs += these
            done += all(run.mode == these[0].mode != MIXED for run in these)
            if number == 0 and not plan.all_rounds:
                by_name = _without_losers(by_name, runs)
            number += 1
    return runs


def _round(peers: list[Peer], number: int, plan: Plan) -> list[str]:
    names = [peer.name for peer in peers if number < plan.safety_rounds or not peer.safety]
    base = BASE if BASE in names else None
    order = interleaved(base, [name for name in names if name != base])
    # What drifts in one direction is not always for the same one's good.
    return order if number % 2 == 0 else order[::-1]


def _run(stage: Stage, peer: Peer, number: int, place: int, say: Callable[[str], None], until: float) -> Run:
    """Once more, if the mode changed meanwhile and there is time."""
    run = _run_once(stage, peer, number, place, say)
    if run.mode == MIXED and time.monotonic() < until:
        run = _run_once(stage, peer, number, place, say)
    return run


def _run_once(stage: Stage, peer: Peer, number: int, place: int, say: Callable[[str], None]) -> Run:
    before = machine.round_trip_ns()
    figures, disturbed = peer.run(stage)
    run = Run(stage.case, peer.name, peer.family, number, place, figures, before, machine.round_trip_ns(), disturbed)
    shown = f"  disturbed {disturbed:.0%}" if disturbed > DISTURBED else ""
    rates = f"{figures.iops:>10,.0f} IOPS  {figures.mean_us:>8,.1f} µs"
    say(f"  round {number + 1}  {peer.name:<17} {rates}  {run.mode}{shown}")
    return run


def _without_losers(peers: dict[str, Peer], runs: list[Run]) -> dict[str, Peer]:
    """Only the best variant of each family."""
    families = {peer.family for peer in peers.values()}
    best = {family: best_variant(runs, BASE, family) for family in families - {BASE}}
    return {name: peer for name, peer in peers.items() if best.get(peer.family) in (None, name)}
