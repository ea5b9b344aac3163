"""What is measured: a row a case."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1 << 10


@dataclass(frozen=True)
class Case:
    workload: str
    """bdevperf's name for it."""
    size: int
    """Bytes of an I/O."""
    depth: int
    quick: bool = False
    """Whether QUICK=1 measures it too."""

    @property
    def name(self) -> str:
        return f"{self.workload}-{self.size // KIB}k-qd{self.depth}"

    @property
    def is_write(self) -> bool:
        return "write" in self.workload

    @property
    def is_deep(self) -> bool:
        """Whether there is enough to do at once that bytes a second count, and what is done with each of them."""
        return self.depth >= 32


CASES = [
    Case("randread", 4 * KIB, 128, quick=True),
    Case("randwrite", 4 * KIB, 128, quick=True),
    Case("randread", 4 * KIB, 1, quick=True),
    Case("randwrite", 4 * KIB, 1),
    Case("randread", 128 * KIB, 32, quick=True),
    Case("randwrite", 128 * KIB, 32, quick=True),
]
