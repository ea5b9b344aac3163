"""dst_check (spdk/apps/check): a client that writes blocks which identify themselves, and knows
what it must read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.lab import Lab
from harness.rpc import PendingCall
from harness.spdk import BOTH_CORES, CLIENT_CORES, Application
from harness.waiting import wait_until

# So few blocks that each is written repeatedly.
BLOCKS = 1024


@dataclass(frozen=True)
class Findings:
    """The findings of a run so far."""

    done: dict[str, int]
    failed: dict[str, int]
    slowest_ms: int
    """Of successful I/O."""
    failed_fastest_ms: int
    failed_slowest_ms: int
    failed_reactors: int
    """The number of reactors with failed I/O."""
    bad_blocks: int
    compared_blocks: int
    settled_blocks: int
    """The number of blocks with an unknown outcome that a read decided."""
    complaints: list[str]
    active: bool
    removed: bool

    @property
    def all_done(self) -> int:
        return sum(self.done.values())

    @property
    def all_failed(self) -> int:
        return sum(self.failed.values())

    def assert_no_bad_block(self) -> None:
        assert self.bad_blocks == 0, f"{self.bad_blocks} bad blocks, among them: {'; '.join(self.complaints)}"

    def assert_clean(self) -> None:
        self.assert_no_bad_block()
        assert self.all_failed == 0, f"I/O failed: {self.failed}"


class Checker(Application):
    """A checker process. Only one at a time uses a bdev; the journal outlives the process."""

    def __init__(
        self,
        name: str,
        folder: Path,
        journal: Path | None = None,
        reactors: int = 1,
        blocks: int = BLOCKS,
        arguments: list[str] | None = None,
        binary: str = "dst_check",
    ) -> None:
        cores = CLIENT_CORES if reactors == 1 else BOTH_CORES
        self.reactors = reactors
        self.blocks = blocks
        self.journal = journal or folder / "journal"
        super().__init__(binary, name, folder, cores, arguments)

    def begin(self, bdev: str = "remote0", **options: Any) -> None:
        """Starts I/O that continues until `end`: depth, io_blocks, and the percentages of reads,
        zeroes, compares and flushes."""
        self.rpc.call("check_start", **self._place(bdev), **options)

    def begin_and_flow(self, bdev: str = "remote0", **options: Any) -> None:
        self.begin(bdev, **options)
        self.wait_flow()

    def wait_flow(self, count: int = 200, timeout: float = 30.0) -> None:
        """Waits until this many more I/Os have succeeded."""
        before = self.findings().all_done
        wait_until(lambda: self.findings().all_done >= before + count, "I/O to flow", timeout)

    def findings(self, again: bool = False) -> Findings:
        """Returns the findings. With `again`, the slowest I/O is reset."""
        return Findings(**self.rpc.call("check_stats", again=again))

    def end(self, timeout: float = 60.0) -> Findings:
        """Stops submitting I/O, waits for the outstanding I/O, and returns the findings."""
        return Findings(**self.rpc.call("check_stop", rpc_timeout=timeout))

    def start_end(self) -> PendingCall:
        return self.rpc.start("check_stop")

    def verify(self, bdev: str = "remote0", timeout: float = 60.0) -> Findings:
        """Reads all blocks back and returns the findings."""
        found = Findings(**self.rpc.call("check_verify", rpc_timeout=timeout, **self._place(bdev)))
        assert found.compared_blocks == self.blocks or found.all_failed, found
        return found

    def flush(self, bdev: str = "remote0") -> bool:
        """Sends one flush on its own channel, and returns whether it succeeded."""
        return self.rpc.call("check_flush", bdev=bdev)["success"]

    def _place(self, bdev: str) -> dict[str, Any]:
        return {"bdev": bdev, "journal": str(self.journal), "blocks": self.blocks, "reactors": self.reactors}


def start_checker(lab: Lab, name: str = "checker", **kw: Any) -> Checker:
    checker = Checker(name, lab.folder, **kw)
    lab.adopt(checker)
    checker.wait_ready()
    return checker
