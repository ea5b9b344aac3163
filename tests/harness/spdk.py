"""SPDK's applications with DST."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Sequence

from harness.environment import environment
from harness.process import Process
from harness.rpc import PendingCall, RpcClient, RpcError
from harness.waiting import wait_until

# Each reactor polls a whole core, so target and client have one core each.
TARGET_CORES = "0x2"
CLIENT_CORES = "0x1"
# The client's second reactor shares the target's core.
BOTH_CORES = "0x3"


def lvol_size(mib: int) -> dict[str, int]:
    """Returns the parameter for the size of bdev_lvol_create and bdev_lvol_resize."""
    return {"size_in_mib": mib} if environment().spdk_version >= (23, 5) else {"size": mib * 2**20}


class Application(Process):
    """A running SPDK application that answers on its RPC socket."""

    def __init__(
        self,
        binary: str,
        name: str,
        folder: Path,
        cores: str,
        arguments: list[str] | None = None,
        config: dict[str, Any] | Path | None = None,
        variables: dict[str, str] | None = None,
        shm_id: int | None = None,
    ) -> None:
        """`shm_id`: for an iSCSI target. 20.07 keeps its connections in memory that all processes
        without this number share, and which the next such process wipes at its start."""
        env = environment()
        socket_path = folder / f"{name}.sock"
        command: list[str | os.PathLike[str]] = [env.binary(binary), "-m", cores, "-r", socket_path, *env.spdk_args]
        if shm_id is not None:
            command += ["-i", str(shm_id)]
        self._shm_id = shm_id
        if env.spdk_version >= (23, 1):
            # Two applications may share a core here, which newer versions prevent by locks.
            command.append("--disable-cpumask-locks")
        if config is not None:
            if isinstance(config, dict):
                path = folder / f"{name}.json"
                path.write_text(json.dumps(config, indent=2))
                config = path
            command += ["--json", config]
        super().__init__(
            name, command + (arguments or []), folder / f"{name}.log", dict(env.variables) | (variables or {})
        )
        self.socket_path = socket_path
        self.rpc = RpcClient(socket_path)

    def after_end(self) -> None:
        # In 20.07, even a clean exit leaves hugepages allocated, in files named after the process;
        # an unclean exit also leaves the trace buffer.
        ident = f"pid{self.pid}" if self._shm_id is None else str(self._shm_id)
        for left in [*Path("/dev/shm").glob(f"*_trace.{ident}"), Path(f"/dev/shm/spdk_iscsi_conns.{ident}")]:
            left.unlink(missing_ok=True)
        for line in Path("/proc/mounts").read_text().splitlines():
            _, folder, kind = line.split()[:3]
            if kind == "hugetlbfs":
                for page in Path(folder).glob(f"spdk_{ident}map_*" if self._shm_id is None else f"spdk{ident}map_*"):
                    page.unlink(missing_ok=True)

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Waits until all subsystems run and the configuration is loaded."""

        def answers() -> bool:
            self.assert_running()
            # 20.07 does not always exit if the initialisation of a subsystem fails.
            assert "spdk_app_stop'd on non-zero" not in self.text(), f"{self.name} can't start, see its log"
            try:
                self.rpc.call("framework_wait_init")
                return True
            except (OSError, AssertionError, RpcError):
                return False

        wait_until(answers, f"{self.name} to answer on its RPC socket", timeout)

    def open_files(self) -> int:
        """Returns the number of open files without those of hugepages, which SPDK opens as memory is
        needed."""
        count = 0
        for fd in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                count += "map_" not in os.readlink(fd)
            except FileNotFoundError:
                # Closed in the meantime.
                pass
        return count

    def bdev(self, name: str) -> dict[str, Any] | None:
        """Returns the bdev's description, or None if there is no such bdev."""
        try:
            return self.rpc.call("bdev_get_bdevs", name=name)[0]
        except RpcError:
            return None

    def iostat(self, name: str) -> dict[str, Any]:
        """Returns SPDK's own counts of the bdev."""
        # All bdevs are requested, since the parameter for one bdev depends on the version.
        found = self.rpc.call("bdev_get_iostat")
        return next(entry for entry in found["bdevs"] if entry.get("name") == name)

    def io_count(self, name: str) -> int:
        """Returns the numbers of reads and writes that the bdev has completed."""
        stats = self.iostat(name)
        return stats["num_read_ops"] + stats["num_write_ops"]

    def bdev_bytes(self, name: str) -> int:
        bdev = self.bdev(name)
        return bdev["num_blocks"] * bdev["block_size"] if bdev else 0


@dataclass(frozen=True)
class Job:
    """A job for bdevperf."""

    workload: str = "verify"
    depth: int = 32
    size: int = 4096
    seconds: int = 2
    read_percent: int = 50
    """The percentage of reads in a mixture, which bdevperf calls randrw."""

    def write(self, path: Path, bdevs: list[str], reactors: int, blocks: int) -> None:
        """Returns the job file, with a job for each bdev and reactor on its own part of the
        `blocks`.

        (All bdevs may be the same device. On its command line, bdevperf refuses to verify I/O
        larger than its largest pool buffer.)
        """
        jobs = [(bdev, reactor) for bdev in bdevs for reactor in range(reactors)]
        share = blocks // len(jobs)
        lines: list[str] = []
        for number, (bdev, reactor) in enumerate(jobs):
            lines += [
                f"[job{number}]",
                f"filename={bdev}",
                f"rw={self.workload}",
                f"bs={self.size}",
                *([f"rwmixread={self.read_percent}"] if self.workload in ("rw", "randrw") else []),
                f"iodepth={self.depth}",
                f"offset={number * share}",
                f"length={share}",
                f"cpumask={1 << reactor:#x}",
            ]
        path.write_text("\n".join(lines) + "\n")


@dataclass(frozen=True)
class Outcome:
    clean: bool
    """Whether every I/O succeeded and, with verify, returned what was written."""
    iops: float
    output: str


@cache
def _without_zero_copy() -> list[str]:
    """Returns bdevperf's option against the zero-copy API, for which large I/O has no pool buffers.
    Only newer versions need the option."""
    shown = subprocess.run([environment().binary("bdevperf"), "--help"], capture_output=True, text=True, check=False)
    return ["-x"] if " -x " in shown.stdout + shown.stderr else []


class Bdevperf(Application):
    """bdevperf, which waits until bdevs are attached and its jobs are started."""

    def __init__(
        self,
        name: str,
        folder: Path,
        job: Job,
        bdevs: list[str],
        blocks: int,
        reactors: int = 1,
        binary: str = "bdevperf",
        arguments: Sequence[str] = (),
        **kw: Any,
    ) -> None:
        jobs = folder / f"{name}.jobs"
        job.write(jobs, bdevs, reactors, blocks)
        cores = CLIENT_CORES if reactors == 1 else BOTH_CORES
        self.job = job
        # -t is needed, since the job file has no time.
        all_arguments = ["-z", *_without_zero_copy(), "-t", str(job.seconds), "-j", os.fspath(jobs), *arguments]
        if job.depth * job.size * reactors > 64 * 2**20:
            # Memory for the buffers, for writing and for reading back. This -s comes last, so it
            # overrides others.
            all_arguments += ["-s", "1024"]
        super().__init__(binary, name, folder, cores, all_arguments, **kw)
        self._call: PendingCall | None = None

    def begin(self) -> None:
        """Starts the jobs and returns at once."""
        self._call = self.rpc.start("perform_tests")

    def is_answered(self) -> bool:
        """Returns whether the jobs have ended, so that `outcome` need not wait."""
        assert self._call is not None, "begin() first"
        return self._call.is_answered()

    def outcome(self, timeout: float | None = None) -> Outcome:
        """Returns the outcome, once the jobs have ended."""
        assert self._call is not None, "begin() first"
        answered = True
        try:
            self._call.result(timeout or self.job.seconds + 30.0)
        except (RpcError, OSError):
            # Newer versions exit if a job has failed.
            answered = False
        output = self.text().replace("\r", "\n")
        total = re.findall(r"^\W*Total\W+([\d.]+)", output, re.MULTILINE)
        complaints = re.search(r"\d Fail/s|[Mm]iscompare|mismatch|not read the|I/O error|Error while", output)
        # Newer versions have a column for it, and one for timeouts.
        rates = re.findall(r"^\W*Total *: +[\d.]+ +[\d.]+ +([\d.]+) +([\d.]+)", output, re.MULTILINE)
        clean = answered and bool(total) and complaints is None and not any(float(rate) for row in rates for rate in row)
        return Outcome(clean, float(total[-1]) if total else 0.0, output)

    def begin_and_flow(self, bdev: str) -> None:
        """Starts the jobs and returns when I/O flows."""
        before = self.io_count(bdev)
        self.begin()
        wait_until(lambda: self.io_count(bdev) > before + 100, "I/O to flow")

    def run(self) -> Outcome:
        self.begin()
        return self.outcome()


def assert_clean(outcome: Outcome) -> None:
    assert outcome.clean, "bdevperf was not clean, see its log"
    assert outcome.iops > 0, "bdevperf moved nothing, see its log"
