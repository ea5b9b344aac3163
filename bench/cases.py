"""The cases: workload, size, depth, backend and cores. Each case has a name, and any such name can
be run."""

from __future__ import annotations

import re
from dataclasses import dataclass

KIB = 1 << 10

READ_PERCENT = 70
"""The percentage of reads in `randrw`, bdevperf's name for a mixture."""

WORKLOADS = ("randread", "randwrite", "randrw")
BACKENDS = ("malloc", "null")


@dataclass(frozen=True)
class Case:
    workload: str
    """The workload's name in bdevperf."""
    size: int
    """The size of an I/O in bytes."""
    depth: int
    """The number of I/Os outstanding on each of the client's cores."""
    backend: str = "malloc"
    cores: int = 1
    """The number of cores of each side."""

    @property
    def name(self) -> str:
        name = f"{self.workload}-{self.size // KIB}k-qd{self.depth}"
        name += "" if self.backend == "malloc" else f"-{self.backend}"
        return name + ("" if self.cores == 1 else f"-{self.cores}cores")

    @property
    def is_deep(self) -> bool:
        """Whether so much I/O is outstanding that throughput matters, and with it the cost for each
        byte."""
        return self.depth >= 32


NAMES = "WORKLOAD-SIZEk-qdDEPTH[-null][-2cores], as randread-4k-qd128; the workloads are " + ", ".join(WORKLOADS)


def parse(name: str) -> Case:
    """Returns the case of this name. Raises ValueError if the name is not valid."""
    found = re.fullmatch(r"([a-z]+)-(\d+)k-qd(\d+)(?:-(null))?(?:-(2)cores)?", name)
    if not found or found[1] not in WORKLOADS or not int(found[2]) or not int(found[3]):
        raise ValueError(f"no such case: {name} (a name is {NAMES})")
    return Case(found[1], int(found[2]) * KIB, int(found[3]), found[4] or "malloc", int(found[5] or 1))


def _cases(names: str) -> list[Case]:
    return [parse(name) for name in names.split()]


# Measured with every peer, and with QUICK=1 with the most important ones.
MAIN = _cases(
    "randread-4k-qd128 randwrite-4k-qd128 randread-4k-qd1 randwrite-4k-qd1 "
    "randwrite-128k-qd1 randread-128k-qd32 randwrite-128k-qd32"
)

# Measured only with DST, NVMe/TCP and the limit. This is a selection, since all possible cases
# would take hours.
MORE = _cases(
    "randrw-4k-qd128 randread-4k-qd32 randwrite-4k-qd32 randrw-4k-qd1 "
    "randread-16k-qd128 randwrite-16k-qd128 randrw-16k-qd32 randread-16k-qd1 randwrite-16k-qd1 "
    "randread-128k-qd1 randrw-128k-qd32 randread-1024k-qd1 randwrite-1024k-qd1 randread-1024k-qd32 "
    "randwrite-1024k-qd32 randread-4k-qd128-null randwrite-4k-qd128-null randread-128k-qd32-null"
)

# Measured only if each side can have two CPUs of its own.
TWO_CORES = _cases("randread-4k-qd128-2cores randwrite-4k-qd128-2cores randread-128k-qd32-2cores")
