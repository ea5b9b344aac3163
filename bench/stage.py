"""The processes of the peers, of which all but the two being measured are stopped.

Each process polls a whole core. Starting and ending one takes longer than a short run, so as many
as fit into memory stay for the next round.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from cases import READ_PERCENT, Case
from harness.environment import environment
from harness.lab import Lab
from harness.process import Process
from harness.rpc import RpcError
from harness.spdk import Application, Bdevperf, Job
from harness.transport import Dst

BLOCK = 4096
# The volume is larger than the caches.
VOLUME_MIB = 256
BLOCKS = VOLUME_MIB * 2**20 // BLOCK

# The name of the bdev for bdevperf, which follows that of a controller's first namespace in the
# NVMe module.
CONTROLLER = "Remote0"
BDEV = f"{CONTROLLER}n1"

# The memory of bdevperf in MiB: its own pools, and its buffers, which are read and written.
CLIENT_MIB = 512


def core_masks(cores: int) -> tuple[str, str]:
    """Returns the core masks of the client and of the target."""
    return ("0x1", "0x2") if cores == 1 else ("0x3", "0xc")


@dataclass(frozen=True)
class Sockets:
    """SPDK's socket options; empty for its defaults."""

    implementation: str = "posix"
    zero_copy: bool | None = None

    def config(self) -> dict[str, Any] | None:
        if self.zero_copy is None:
            return None
        names = ["enable_zerocopy_send_server", "enable_zerocopy_send_client"]
        if environment().spdk_version < (22, 1):
            names = ["enable_zerocopy_send"]
        params = {"impl_name": self.implementation} | {name: self.zero_copy for name in names}
        calls: list[dict[str, Any]] = [{"method": "sock_impl_set_options", "params": params}]
        if self.implementation != "posix":
            calls.append({"method": "sock_set_default_impl", "params": {"impl_name": self.implementation}})
        return {"subsystem": "sock", "config": calls}


# For applications without iSCSI: with its defaults, SPDK's iSCSI target takes 700 MiB in every
# application.
SMALL_ISCSI = {"subsystem": "iscsi", "config": [{"method": "iscsi_set_options", "params": {"max_sessions": 16}}]}


@dataclass(frozen=True)
class Setup:
    """How to start an SPDK application."""

    folder: Path
    """The folder of spdk_tgt and bdevperf."""
    sockets: Sockets = Sockets()
    iscsi: bool = False
    """Whether the iSCSI target is used, with its defaults."""

    def config(self, target: bool) -> dict[str, Any]:
        # bdevperf has no iSCSI target.
        parts = [self.sockets.config(), SMALL_ISCSI if target and not self.iscsi else None]
        return {"subsystems": [part for part in parts if part]}


# The memory that an application takes beyond its initial amount. With newer SPDKs this is much: 1.7
# GiB were taken when a target of 26.09 that began with 768 MiB was attached by a running bdevperf.
GROWTH_MIB = 1024 if environment().variables.get("SPDK_VERSION", "") >= "24.01" else 0


class Stage:
    def __init__(self, case: Case, seconds: int, limit_ms: int) -> None:
        """`seconds` and `limit_ms` are the durations of a run of the peers and of the limit, which
        is steady sooner. The case may be changed at any time."""
        self.case = case
        self.seconds = seconds
        self.limit_ms = limit_ms
        self.lab = Lab(Dst())
        self._kept: dict[Any, tuple[Process, Any]] = {}

    def close(self) -> None:
        self.clear()
        self.lab.close()

    def clear(self) -> None:
        """Ends all processes."""
        # The processes are killed, since a clean end takes time and does not matter here.
        while self._kept:
            self._kept.popitem()[1][0].kill()

    def client(self, setup: Setup) -> Bdevperf:
        """Returns a stopped bdevperf with this case's job. A new one has no bdev."""

        def start() -> tuple[Bdevperf, None]:
            case = self.case
            job = Job(case.workload, case.depth, case.size, self.seconds, READ_PERCENT)
            return (
                self.lab.bdevperf_unattached(
                    job,
                    BLOCKS,
                    case.cores,
                    name=f"bdevperf{len(self.lab.processes)}",
                    bdevs=[BDEV],
                    binary=str(setup.folder / "bdevperf"),
                    config=setup.config(target=False),
                ),
                None,
            )

        buffers = 2 * self.case.depth * self.case.size * self.case.cores // 2**20
        return self._keep(("client", self.case, setup), CLIENT_MIB if buffers <= 128 else 1024, start)[0]

    def target(self, key: Any, mib: int, serve: Any, setup: Setup, **kw: Any) -> tuple[Application, Any]:
        """Returns a stopped spdk_tgt with this much memory and a bdev of the case's kind, and the
        result of `serve`."""

        def start() -> tuple[Application, Any]:
            target = self.lab.target(
                core_masks(self.case.cores)[1],
                binary=str(setup.folder / "spdk_tgt"),
                arguments=["-s", str(mib)],
                config=setup.config(target=True),
                **kw,
            )
            bdev = f"{self.case.backend.capitalize()}0"
            target.rpc.call(f"bdev_{self.case.backend}_create", name=bdev, num_blocks=BLOCKS, block_size=BLOCK)
            try:
                return target, serve(target, bdev)
            except RpcError as error:
                raise AssertionError(f"{error}\n{target.tail()}") from error

        return self._keep(("target", key, self.case.backend, self.case.cores, setup), mib, start)

    @contextmanager
    def awake(self, *processes: Process) -> Iterator[None]:
        for process in processes:
            process.signal(signal.SIGCONT)
        try:
            yield
        finally:
            for process in processes:
                if process.exit_code is None:
                    process.signal(signal.SIGSTOP)

    def _keep(self, key: Any, mib: int, start: Any) -> tuple[Any, Any]:
        if key in self._kept:
            # Moved to the end, as the most recently used.
            self._kept[key] = self._kept.pop(key)
            return self._kept[key]
        self._make_room(mib + GROWTH_MIB)
        process, made = start()
        process.signal(signal.SIGSTOP)
        self._kept[key] = process, made
        return process, made

    def _make_room(self, mib: int) -> None:
        """Ends the least recently used processes until there are enough free hugepages, but never
        the most recent one, which is the other half of this pair."""
        while environment().variables.get("DST_HUGEPAGES") == "reserved" and free_hugepages_mib() < mib:
            if len(self._kept) < 2:
                return
            self._kept.pop(next(iter(self._kept)))[0].kill()


def free_hugepages_mib() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    page_kib = int(fields.get("Hugepagesize", "0 kB").split()[0])
    return int(fields.get("HugePages_Free", "0")) * page_kib // 1024
