"""The processes, files and other resources of one test, which must be released."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from harness.process import Process
from harness.spdk import CLIENT_CORES, TARGET_CORES, Application, Bdevperf, Job
from harness.transport import Remote, Transport, attach


class Lab:
    """Starts things, and ends them in reverse order whatever happens."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.processes: list[Process] = []
        self._undo = ExitStack()
        # The path is short, because the path of a Unix socket may have only 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="dst-test-"))
        self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def on_end(self, undo: Callable[..., Any], *arguments: Any) -> None:
        self._undo.callback(undo, *arguments)

    def close(self) -> None:
        self._undo.close()

    def adopt(self, process: Process) -> None:
        self.processes.append(process)
        self.on_end(process.stop)

    def process(
        self, name: str, command: Sequence[str | os.PathLike[str]], env: Mapping[str, str] | None = None
    ) -> Process:
        process = Process(name, command, self.folder / f"{name}.log", env)
        self.adopt(process)
        return process

    def spdk_tgt(self, name: str, cores: str = CLIENT_CORES, binary: str = "spdk_tgt", **kw: Any) -> Application:
        # A second process of the same name has its own log.
        earlier = sum(process.name.split("-")[0] == name for process in self.processes)
        name += f"-{earlier + 1}" if earlier else ""
        application = Application(binary, name, self.folder, cores, **kw)
        self.adopt(application)
        application.wait_ready()
        return application

    def target(self, cores: str = TARGET_CORES, **kw: Any) -> Application:
        return self.spdk_tgt("target", cores, **kw)

    def client(self, cores: str = CLIENT_CORES, **kw: Any) -> Application:
        return self.spdk_tgt("client", cores, **kw)

    def malloc_target(
        self, mib: int = 64, block_size: int = 512, name: str = "Malloc0", **kw: Any
    ) -> tuple[Application, Remote]:
        """Starts a target that exports a bdev in memory."""
        target = self.target(**kw)
        target.rpc.call("bdev_malloc_create", name=name, num_blocks=mib * 2**20 // block_size, block_size=block_size)
        return target, self.transport.serve(target, name)

    def aio_target(self, mib: int, block_size: int = 512, name: str = "Aio0") -> tuple[Application, Remote]:
        """Starts a target that exports a file."""
        target = self.target()
        volume = self.folder / f"{name}.img"
        with open(volume, "wb") as file:
            file.truncate(mib * 2**20)
        target.rpc.call("bdev_aio_create", name=name, filename=str(volume), block_size=block_size)
        return target, self.transport.serve(target, name)

    def bdevperf(
        self, remote: Remote, job: Job, blocks: int, reactors: int = 1, name: str = "bdevperf", **kw: Any
    ) -> Bdevperf:
        """Starts bdevperf with the remote bdev attached. Its jobs are not started yet."""
        perf = self.bdevperf_unattached(job, blocks, reactors, name, **kw)
        attach(self.transport, perf, remote)
        return perf

    def bdevperf_unattached(
        self,
        job: Job,
        blocks: int,
        reactors: int = 1,
        name: str = "bdevperf",
        bdevs: list[str] | None = None,
        **kw: Any,
    ) -> Bdevperf:
        bdevs = bdevs or [self.transport.bdev_name("remote0")]
        perf = Bdevperf(name, self.folder, job, bdevs, blocks, reactors, **kw)
        self.adopt(perf)
        perf.wait_ready()
        return perf
