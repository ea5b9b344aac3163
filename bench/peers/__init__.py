"""The peers that are measured. A peer carries a bdev from a target, on the target's core, to
bdevperf, on the client's core.

Variants of one peer are measured like separate peers and form a family, of which the best counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from cases import Case
from measure import Figures, measure
from stage import BDEV, Setup, Stage

import machine
from harness.environment import environment
from harness.spdk import Application
from harness.transport import Remote


@dataclass(frozen=True)
class Spdk:
    """What the SPDK in use can do."""

    methods: set[str]
    """Its RPC methods."""
    sockets: set[str]
    """Its socket implementations."""


class Peer(ABC):
    name: str
    family: str
    safety = False
    """Whether the peer is measured only for the cost of digests and ciphers."""

    def suits(self, case: Case) -> bool:
        """Whether this variant may be the best one in this case."""
        return True

    def quick(self, case: Case) -> bool:
        """Whether QUICK=1 measures it, too: of the variants, only the one that is usually the
        best."""
        return self.suits(case)

    @abstractmethod
    def missing(self, spdk: Spdk) -> str | None:
        """Returns the reason why the peer cannot be measured on this machine with this SPDK, or
        None."""

    @abstractmethod
    def run(self, stage: Stage) -> tuple[Figures, float]:
        """Returns the figures of one run of the stage's case, and how much other processes
        disturbed it."""


class SpdkPeer(Peer):
    """A peer whose ends are both SPDK applications."""

    service: str
    """Peers with the same service share a target process."""
    setup = Setup(environment().bin)
    mib = 768
    """The target's memory: 500 for the SPDK application itself, the volume, and the transport's
    buffers."""
    target_arguments: dict[str, Any] = {}

    def missing_sockets(self, spdk: Spdk) -> str | None:
        """Returns the reason why the peer's sockets cannot be used, or None."""
        kind = self.setup.sockets.implementation
        return None if kind in spdk.sockets else f"the SPDK in use has no {kind} sockets"

    @abstractmethod
    def serve(self, target: Application, bdev: str) -> Remote:
        """Exports the bdev for all peers of this service."""

    @abstractmethod
    def attach(self, client: Application, remote: Remote) -> None:
        """Attaches the bdev under the name BDEV."""

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
