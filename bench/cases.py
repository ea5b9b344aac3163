"""What is measured: workload, size, depth, backend and cores; each has one name, and any name can be asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass

KIB = 1 << 10

READ_PERCENT = 70
"""Of `randrw`, as bdevperf calls a mixture."""

WORKLOADS = ("randread", "randwrite", "randrw")
BACKENDS = ("malloc", "null")


@dataclass(frozen=True)
class Case:
    workload: str
    """bdevperf's name for it."""
    size: int
    """Bytes of an I/O."""
    depth: int
    """I/O outstanding, on each of the client's cores."""
    backend: str = "malloc"
    cores: int = 1
    """Of each side."""

    @property
    def name(self) -> str:
        name = f"{self.workload}-{self.size // KIB}k-qd{self.depth}"
        name += "" if self.backend == "malloc" else f"-{self.backend}"
        return name + ("" if self.cores == 1 else f"-{self.cores}cores")

    @property
    def is_deep(self) -> bool:
        """Whether there is enough to do at once that bytes a second count, and what is done with each of them."""
        return self.depth >= 32


NAMES = "WORKLOAD-SIZEk-qdDEPTH[-null][-2cores], as randread-4k-qd128; the workloads are " + ", ".join(WORKLOADS)


def parse(name: str) -> Case:
    """The case of that name; ValueError if there can't be one."""
    found = re.fullmatch(r"([a-z]+)-(\d+)k-qd(\d+)(?:-(null))?(?:-(2)cores)?", name)
    if not found or found[1] not in WORKLOADS or not int(found[2]) or not int(found[3]):
        raise ValueError(f"no such case: {name} (a name is {NAMES})")
    return Case(found[1], int(found[2]) * KIB, int(found[3]), found[4] or "malloc", int(found[5] or 1))


def _cases(names: str) -> list[Case]:
    return [parse(name) for name in names.split()]


# Measured with every peer, and by QUICK=1 with those that count.
MAIN = _cases(
    "randread-4k-qd128 randwrite-4k-qd128 randread-4k-qd1 randwrite-4k-qd1 "
    "randwrite-128k-qd1 randread-128k-qd32 randwrite-128k-qd32"
)

# Measured with DST, NVMe/TCP and the limit only. A selection: all names there are would take hours.
MORE = _cases(
    "randrw-4k-qd128 randread-4k-qd32 randwrite-4k-qd32 randrw-4k-qd1 "
    "randread-16k-qd128 randwrite-16k-qd128 randrw-16k-qd32 randread-16k-qd1 randwrite-16k-qd1 "
    "randread-128k-qd1 randrw-128k-qd32 randread-1024k-qd1 randwrite-1024k-qd1 randread-1024k-qd32 "
    "randwrite-1024k-qd32 randread-4k-qd128-null randwrite-4k-qd128-null randread-128k-qd32-null"
)

# Only where each side can have two CPUs of its own.
TWO_CORES = _cases("randread-4k-qd128-2cores randwrite-4k-qd128-2cores randread-128k-qd32-2cores")
