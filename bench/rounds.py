"""The rounds of one case: the order of the peers, and the handling of a machine that changes its
mode."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable

import machine
from peers import Peer
from peers.registry import BASE
from runs import DISTURBED, MIXED, Run, interleaved, pairs
from stage import Stage


# The number of rounds that are run, if necessary, to get a pair of each peer, even if time is up.
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Plan:
    pairs: int
    """The number of rounds, if the machine keeps its mode and is not disturbed."""
    seconds: int
    limit_ms: int
    safety_rounds: int
    """The number of rounds that include DST with digests and ciphers, and the peers compared with
    those."""
    seconds_in_all: float
    """The time after which no case begins another round, except its first."""

    @property
    def most_rounds(self) -> int:
        """The number of extra rounds that replace those spoiled by a change of mode."""
        return 2 * self.pairs


def run_case(stage: Stage, peers: list[Peer], plan: Plan, say: Callable[[str], None], until: float) -> list[Run]:
    """Runs the stage's case. After the monotonic time `until`, no more rounds begin and no run is
    repeated."""
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
    """Returns whether a peer that is always measured has no run beside DST's in the same mode
    yet."""
    names = [peer.name for peer in peers if not peer.safety and peer.name != BASE]
    return not runs or any(not pairs(runs, BASE, name) for name in names)


def _round(peers: list[Peer], number: int, plan: Plan) -> list[Peer]:
    here = {peer.name: peer for peer in peers if number < plan.safety_rounds or not peer.safety}
    base = BASE if BASE in here else None
    order = interleaved(base, [name for name in here if name != base])
    # The order is reversed in every other round, so that a drift does not always favour the same
    # peer.
    return [here[name] for name in (order if number % 2 == 0 else order[::-1])]


def _run(stage: Stage, peer: Peer, number: int, place: int, say: Callable[[str], None], until: float) -> Run:
    """Repeats a run if the mode changed during it and there is time."""
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
