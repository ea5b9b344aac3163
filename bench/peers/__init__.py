"""Who is measured. A peer moves a bdev of a target, on the target's core, to bdevperf, on the client's core.

The variants of one peer are measured like peers of their own, and are a family: the best of them counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from cases import Case
from measure import Figures, measure
from stage import BDEV, Setup, Stage

import machine
from harness.environment import environment
from harness.spdk import Application
from harness.transport import Remote


class Peer(ABC):
    name: str
    family: str
    safety = False
    """Whether it is there for what digests and ciphers cost."""

    def suits(self, case: Case) -> bool:
        """Whether this variant may win in this case."""
        return True

    def quick(self, case: Case) -> bool:
        """Whether QUICK=1 measures it too: of variants the one that wins most often."""
        return self.suits(case)

    @abstractmethod
    def missing(self, methods: set[str]) -> str | None:
        """Why it can't be measured on this machine, with an SPDK that has these RPC methods."""

    @abstractmethod
    def run(self, stage: Stage) -> tuple[Figures, float]:
        """The figures of one run of the stage's case, and how much others disturbed it."""


class SpdkPeer(Peer):
    """One whose both ends are SPDK's applications."""

    service: str
    """Peers that name the same share a target process."""
    setup = Setup(environment().bin)
    mib = 768
    """Of the target: 500 for what SPDK's applications take for themselves, the volume, the transport's buffers."""
    target_arguments: dict[str, Any] = {}

    @abstractmethod
    def serve(self, target: Application, bdev: str) -> Remote:
        """Exports the bdev, for all peers of this service."""

    @abstractmethod
    def attach(self, client: Application, remote: Remote) -> None:
        """As BDEV."""

    @abstractmethod
    def detach(self, client: Application) -> None: ...

    def run(self, stage: Stage) -> tuple[Figures, float]:
        perf = stage.client(self.setup)
        target, remote = stage.target(
            self.service, self.mib, self.serve, self.setup, **self.target_arguments
        )
        with stage.awake(target, perf):
            self.attach(perf, remote)
            try:
                pids = [perf.pid, target.pid]
                figures, disturbed = machine.watch(pids, lambda: measure(perf, BDEV, target.pid))
            finally:
                self.detach(perf)
        assert figures.clean, f"I/O failed on {self.name}:\n{perf.tail()}"
        return figures, disturbed
