"""A target that can be killed and restarted with the same ports, configuration and data."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from harness.checker import Checker
from harness.lab import Lab
from harness.net import Net
from harness.ports import free_port
from harness.spdk import Application
from harness.transport import Remote

BLOCK = 4096


@dataclass
class Backend:
    """Returns the RPCs that create the bdev `name`."""

    name: str
    calls: list[tuple[str, dict[str, Any]]]
    binary: str = "spdk_tgt"


def file_backend(lab: Lab, mib: int = 64) -> Backend:
    """Files, which keep what the killed process wrote. SPDK reports a volatile cache for them, so
    flushes matter."""
    volume = lab.folder / "volume.img"
    with open(volume, "wb") as file:
        file.truncate(mib * 2**20)
    return Backend("Aio0", [("bdev_aio_create", {"name": "Aio0", "filename": str(volume), "block_size": BLOCK})])


def durable_backend(lab: Lab, mib: int = 64) -> Backend:
    """Two striped files. SPDK's raid reports no write cache, so a restart can lose nothing."""
    calls: list[tuple[str, dict[str, Any]]] = []
    for number in range(2):
        volume = lab.folder / f"volume{number}.img"
        with open(volume, "wb") as file:
            file.truncate(mib * 2**20 // 2)
        calls.append(("bdev_aio_create", {"name": f"Aio{number}", "filename": str(volume), "block_size": BLOCK}))
    raid = {"name": "Raid0", "raid_level": "0", "strip_size_kb": 64, "base_bdevs": ["Aio0", "Aio1"]}
    return Backend("Raid0", [*calls, ("bdev_raid_create", raid)])


def memory_backend(mib: int = 64) -> Backend:
    """Memory, which loses everything: a volatile cache without a disk."""
    blocks = mib * 2**20 // BLOCK
    return Backend("Malloc0", [("bdev_malloc_create", {"name": "Malloc0", "num_blocks": blocks, "block_size": BLOCK})])


def late_backend(write_ms: int, mib: int = 64) -> Backend:
    """Memory whose writes are executed up to `write_ms` later, in any order. Only for a target that
    is a dst_check."""
    params = {"name": "Late0", "blocks": mib * 2**20 // BLOCK, "block_size": BLOCK, "write_ms": write_ms}
    return Backend("Late0", [("check_late_create", params)], "dst_check")


def answering_late(backend: Backend, ms: int) -> Backend:
    """The same, but reads and writes are executed at once and completed later."""
    delay: dict[str, Any] = {f"{kind}_{op}_latency": ms * 1000 for kind in ("avg", "p99") for op in ("read", "write")}
    delay |= {"base_bdev_name": backend.name, "name": "Delay0"}
    return Backend("Delay0", [*backend.calls, ("bdev_delay_create", delay)])


def attach_to(client: Application, remote: Remote, name: str = "remote0", **options: Any) -> None:
    """`options`: options of bdev_dst_create."""
    place = {"traddr": remote.address, "trsvcid": str(remote.port), "export": remote.export, "host": "test-client"}
    client.rpc.call("bdev_dst_create", name=name, **(place | options))


class Service:
    def __init__(
        self,
        lab: Lab,
        backend: Backend,
        entry: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        stop_note: Path | None = None,
        net: Net | None = None,
        **export: Any,
    ) -> None:
        """`entry`: parameters of dst_export_add_host, by default for every host. `options`: of the
        target. `stop_note`: the file for the note of an orderly stop. `net`: a memif, whose other end
        is there, in place of the kernel's loopback. `export`: of dst_create_export."""
        self._lab = lab
        self.backend = backend
        self.remote = net.remote if net else Remote("127.0.0.1", free_port(), "volume")
        self._sock_impl = {"sock_impl": "dpdk"} if net else {}
        self._config = lab.folder / f"service{self.remote.port}.json"
        self.application = lab.target(binary=backend.binary)
        if net:
            net.join(self.application, net.target_address, "slave")
        call = self.application.rpc.call
        for method, params in backend.calls:
            call(method, **params)
        if options:
            call("dst_set_options", **options)
        self._note = [("dst_set_stop_note", {"path": str(stop_note)})] if stop_note else []
        for method, params in self._note:
            call(method, **params)
        # Some bdevs get another UUID at each start; the export keeps its own.
        made = {"name": "volume", "bdev_name": backend.name, "uuid": str(uuid.uuid4()), **export}
        host = {"export": "volume", **(entry or {"host": "*", "access": "rw"})}
        self._exports = [("dst_create_export", made), ("dst_export_add_host", host)]
        for method, params in self._exports:
            call(method, **params)
        call("dst_create_listener", traddr=self.remote.address, trsvcid=str(self.remote.port), **self._sock_impl)
        self._save()

    def _save(self) -> None:
        # The configuration as `save_config` of rpc.py writes it; but 20.07 cannot save a delay
        # bdev: it never answers.
        call = self.application.rpc.call
        options = ("dst_set_options", call("dst_get_options"))
        bdev = [{"method": method, "params": params} for method, params in [options, *self._note, *self._exports, *self.backend.calls]]
        names = [entry["subsystem"] for entry in call("framework_get_subsystems")]
        configs = {name: bdev if name == "bdev" else call("framework_get_config", name=name) for name in names}
        subsystems = [{"subsystem": name, "config": config} for name, config in configs.items()]
        self._config.write_text(json.dumps({"subsystems": subsystems}))

    def attach(
        self, client: Application, name: str = "remote0", remote: Remote | None = None, **options: Any
    ) -> None:
        """`remote`: the address of a proxy. `options`: options of bdev_dst_create."""
        attach_to(client, remote or self.remote, name, **(self._sock_impl | options))

    def kill(self) -> None:
        self.application.kill()

    def start(self, binary: str = "spdk_tgt") -> None:
        """Restarts the target, and returns when it is up. `binary`: the name or the path of its program."""
        self.application = self._lab.target(binary=binary, config=self._config)

    def restart(self, pause_s: float = 0.0) -> float:
        """Kills the target and restarts it after a time. Returns how long it was away, in
        seconds."""
        began = time.monotonic()
        self.kill()
        # This sleep is the intended outage, not a wait for something.
        time.sleep(pause_s)
        self.start()
        return time.monotonic() - began

    def restart_under_load(self, checker: Checker, random: Random, times: int) -> list[float]:
        """Kills and restarts the target so often while the checker does I/O. Returns by how much the
        slowest I/O exceeded each outage, in ms."""
        beyond: list[float] = []
        for _ in range(times):
            checker.wait_flow(random.randrange(2000))
            checker.findings(again=True)
            outage_s = self.restart(random.uniform(0, 0.5))
            checker.wait_flow()
            beyond.append(checker.findings(again=True).slowest_ms - outage_s * 1000)
        return beyond

    def restart_with(self, old: str, new: str) -> None:
        """Kills the target and restarts it with a changed configuration."""
        self.kill()
        text = self._config.read_text()
        assert old in text, f"{old} is not in the target's configuration"
        self._config.write_text(text.replace(old, new))
        self.start()
