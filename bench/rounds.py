"""The rounds of one case: who runs, in which order, and what is done about a machine that changes its mode."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable

import machine
from peers import Peer
from peers.registry import BASE
from runs import DISTURBED, MIXED, Run, interleaved, pairs
from stage import Stage


# So many rounds are made, if need be, to have a pair of each, even when there is no time for them.
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Plan:
    pairs: int
    """Rounds, if the machine keeps to its mode and others let it alone."""
    seconds: int
    limit_ms: int
    safety_rounds: int
    """In how many of the rounds peers run that are compared with DST's digests and ciphers, and these."""
    seconds_in_all: float
    """After how long no case begins another round, beyond its first."""

    @property
    def most_rounds(self) -> int:
        """Rounds that a change of mode spoiled are made up for, so often."""
        return 2 * self.pairs


def run_case(stage: Stage, peers: list[Peer], plan: Plan, say: Callable[[str], None], until: float) -> list[Run]:
    """Of the stage's case. `until`: monotonic time after which no more rounds begin, nor is a run repeated."""
    runs: list[Run] = []
    say(f"{stage.case.name}:")
    done = number = 0
    while done < plan.pairs and number < plan.most_rounds:
        if time.monotonic() >= until and not (number < LEAST_ROUNDS and _lacks_pairs(runs, peers)):
            break
        order = _round(peers, number, plan)
        these = [_run(stage, peer, number, place, say, until) for place, peer in enumerate(order)]
        runs += these
        done += all(run.mode == these[0].mode != MIXED for run in these)
        number += 1
    return runs


def _lacks_pairs(runs: list[Run], peers: list[Peer]) -> bool:
    """Whether one that is always measured has no run beside DST's yet, in the same mode."""
    names = [peer.name for peer in peers if not peer.safety and peer.name != BASE]
    return not runs or any(not pairs(runs, BASE, name) for name in names)


def _round(peers: list[Peer], number: int, plan: Plan) -> list[Peer]:
    here = {peer.name: peer for peer in peers if number < plan.safety_rounds or not peer.safety}
    base = BASE if BASE in here else None
    order = interleaved(base, [name for name in here if name != base])
    # What drifts in one direction is not always for the same one's good.
    return [here[name] for name in (order if number % 2 == 0 else order[::-1])]


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
