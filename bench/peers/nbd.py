"""NBD, with nbdkit or qemu-nbd as the server and fio's nbd engine (libnbd) as the client, since
SPDK has no NBD initiator.

Each side is one process on its core; neither polls.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from cases import READ_PERCENT, Case
from harness.lab import Lab
from harness.ports import free_port
from harness.process import Process
from harness.transport import Dst
from harness.waiting import wait_until
from measure import Figures
from peers import Peer, Spdk
from stage import VOLUME_MIB, Stage, core_masks

PERCENTILES = ("50.000000", "99.000000", "99.900000")


class NbdPeer(Peer):
    family = "nbd"

    def __init__(self, server: str) -> None:
        self.name = f"nbd-{server}"
        self._server = server

    def suits(self, case: Case) -> bool:
        return case.cores == 1

    def quick(self, case: Case) -> bool:
        return False

    def missing(self, spdk: Spdk) -> str | None:
        for tool in ("fio", self._server):
            if not shutil.which(tool):
                return f"{tool} is not installed"
        engines = subprocess.run(["fio", "--enghelp"], capture_output=True, text=True, check=False).stdout.split()
        return None if "nbd" in engines else "fio has no nbd engine here"

    def run(self, stage: Stage) -> tuple[Figures, float]:
        case = stage.case
        client_core, target_core = core_masks(1)
        # A separate lab for this run's processes and logs, in memory because of qemu-nbd's file.
        with closing(Lab(Dst())) as lab, tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            port = free_port()
            server = lab.process(self.name, ["taskset", target_core, *self._command(case, port, Path(memory))])
            wait_until(lambda: _listens(port, server), f"{self.name} to listen")
            driver = lab.process("fio", ["taskset", client_core, *_fio(case, port, stage.seconds)])
            assert driver.wait(stage.seconds + 20.0) == 0, driver.tail()
            # The threads of a server wait for each other's core, which does not count as a
            # disturbance.
            return parse(driver.text()), 0.0

    def _command(self, case: Case, port: int, memory: Path) -> list[str]:
        null = case.backend == "null"
        size = VOLUME_MIB << 20
        if self._server == "nbdkit":
            plugin = ["null", str(size)] if null else ["memory", str(size), "allocator=malloc"]
            return ["nbdkit", "--foreground", "--ipaddr", "127.0.0.1", "--port", str(port), *plugin]
        command = ["qemu-nbd", "--persistent", "--bind", "127.0.0.1", "--port", str(port)]
        if null:
            return [*command, "--image-opts", f"driver=null-co,size={size},read-zeroes=on"]
        file = memory / "volume"
        file.write_bytes(bytes(size))
        return [*command, "--format", "raw", str(file)]


def _fio(case: Case, port: int, seconds: int) -> list[str]:
    options = {
        "name": "bench",
        "ioengine": "nbd",
        "uri": f"nbd://127.0.0.1:{port}",
        "rw": case.workload,
        "rwmixread": READ_PERCENT,
        "bs": case.size,
        "iodepth": case.depth,
        "runtime": seconds,
        "time_based": 1,
        "norandommap": 1,
        "unified_rw_reporting": 1,
        "output-format": "json",
    }
    return ["fio", "--thread", *(f"--{name}={value}" for name, value in options.items())]


def parse(log: str) -> Figures:
    """Parses fio's output: JSON, possibly after other lines."""
    found: Any = json.loads(log[log.index("\n{") :])["jobs"][0]["mixed"]
    percentiles = (found["clat_ns"]["percentile"][name] / 1e3 for name in PERCENTILES)
    return Figures(found["iops"], found["lat_ns"]["mean"] / 1e3, *percentiles)


def _listens(port: int, server: Process) -> bool:
    server.assert_running()
    shown = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return bool(shown)
