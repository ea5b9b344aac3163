"""SPDK's applications, with DST linked in."""

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

# Each reactor polls a whole core: the target has one core to itself, the client the other.
TARGET_CORES = "0x2"
CLIENT_CORES = "0x1"
# The client's second reactor shares the target's core.
BOTH_CORES = "0x3"


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
        """`shm_id`: for an iSCSI target. 20.07 keeps its connections in memory that all processes without such a
        number have in common: the next one that starts wipes them out."""
        env = environment()
        socket_path = folder / f"{name}.sock"
        command: list[str | os.PathLike[str]] = [env.binary(binary), "-m", cores, "-r", socket_path, *env.spdk_args]
        if shm_id is not None:
            command += ["-i", str(shm_id)]
        self._shm_id = shm_id
        if env.spdk_version >= (23, 1):
            # Reactors of two applications share a core here; newer versions lock theirs.
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
        # In 20.07 even a clean exit leaves hugepages taken, in files named after the process; an unclean one
        # its trace buffer too.
        ident = f"pid{self.pid}" if self._shm_id is None else str(self._shm_id)
        for left in [*Path("/dev/shm").glob(f"*_trace.{ident}"), Path(f"/dev/shm/spdk_iscsi_conns.{ident}")]:
            left.unlink(missing_ok=True)
        for line in Path("/proc/mounts").read_text().splitlines():
            _, folder, kind = line.split()[:3]
            if kind == "hugetlbfs":
                for page in Path(folder).glob(f"spdk_{ident}map_*" if self._shm_id is None else f"spdk{ident}map_*"):
                    page.unlink(missing_ok=True)

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Until all subsystems run, and what was in the configuration is there."""

        def answers() -> bool:
            self.assert_running()
            # 20.07 does not always end after a subsystem could not be set up.
            assert "spdk_app_stop'd on non-zero" not in self.text(), f"{self.name} could not start, see its log"
            try:
                self.rpc.call("framework_wait_init")
                return True
            except (OSError, AssertionError, RpcError):
                return False

        wait_until(answers, f"{self.name} to answer on its RPC socket", timeout)

    def bdev(self, name: str) -> dict[str, Any] | None:
        """The bdev's description, or None when there is none of that name."""
        try:
            return self.rpc.call("bdev_get_bdevs", name=name)[0]
        except RpcError:
            return None

    def io_count(self, name: str) -> int:
        """Reads and writes that the bdev has completed."""
        # Of all: newer versions have another parameter for one.
        found = self.rpc.call("bdev_get_iostat")
        stats = next(entry for entry in found["bdevs"] if entry.get("name") == name)
        return stats["num_read_ops"] + stats["num_write_ops"]

    def bdev_bytes(self, name: str) -> int:
        bdev = self.bdev(name)
        return bdev["num_blocks"] * bdev["block_size"] if bdev else 0


@dataclass(frozen=True)
class Job:
    """What bdevperf does to a bdev."""

    workload: str = "verify"
    depth: int = 32
    size: int = 4096
    seconds: int = 2
    read_percent: int = 50
    """Of a mixture, which bdevperf calls randrw."""

    def write(self, path: Path, bdevs: list[str], reactors: int, blocks: int) -> None:
        """As a job file: a job for each bdev and reactor, each on a part of its own of the `blocks`.

        (The bdevs may all be the same device. On the command line bdevperf refuses to verify I/O larger than
        its largest pool buffer.)
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
    """Every I/O succeeded and, with verify, gave back what was written."""
    iops: float
    output: str


@cache
def _without_zero_copy() -> list[str]:
    """bdevperf's option for no zero-copy API, which large I/O has no pool buffers for: newer ones have to be told to use it."""
    shown = subprocess.run([environment().binary("bdevperf"), "--help"], capture_output=True, text=True, check=False)
    return ["-x"] if " -x " in shown.stdout + shown.stderr else []


class Bdevperf(Application):
    """bdevperf, waiting for bdevs to be attached and then for its jobs to be started."""

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
        # -t: the job file has no time.
        all_arguments = ["-z", *_without_zero_copy(), "-t", str(job.seconds), "-j", os.fspath(jobs), *arguments]
        if job.depth * job.size * reactors > 64 * 2**20:
            # Room for the buffers (twice: written and read back); this -s comes later, so it wins.
            all_arguments += ["-s", "1024"]
        super().__init__(binary, name, folder, cores, all_arguments, **kw)
        self._call: PendingCall | None = None

    def begin(self) -> None:
        """Starts the jobs and returns."""
        self._call = self.rpc.start("perform_tests")

    def outcome(self, timeout: float | None = None) -> Outcome:
        """Once the jobs have ended."""
        assert self._call is not None, "begin() first"
        answered = True
        try:
            self._call.result(timeout or self.job.seconds + 30.0)
        except (RpcError, OSError):
            # Newer ones end when a job has failed.
            answered = False
        output = self.text().replace("\r", "\n")
        total = re.findall(r"^\W*Total\W+([\d.]+)", output, re.MULTILINE)
        complaints = re.search(r"\d Fail/s|[Mm]iscompare|mismatch|not read the|I/O error|Error while", output)
        # Newer ones have a column for it, and one for what took too long.
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
