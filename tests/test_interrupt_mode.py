"""A target and a client in interrupt mode: they use no CPU when idle, and nothing is lost.

Both are dst_check, since spdk_tgt contains SPDK's iSCSI target, which polls even in interrupt mode.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.checker import BLOCKS, Checker, start_checker
from harness.environment import environment
from harness.keys import KeyFile
from harness.lab import Lab
from harness.process import Process
from harness.spdk import Application
from harness.transport import Remote
from harness.ports import free_port
from harness.waiting import wait_until

pytestmark = [pytest.mark.needs_dst, pytest.mark.watchdog(120)]

# The idle time in s: several keep-alive times.
IDLE = 3.0
KEEP_ALIVE_MS = 500
UUID = "6f2f1d43-8d55-4b0e-9d4c-7c1e3f0a5b21"
# The part of a core that an idle process may use; one that polls uses all of it. SPDK itself wakes
# every 4 ms for RPCs.
IDLE_SHARE = 0.1


@pytest.fixture(autouse=True)
def has_interrupt_mode() -> None:
    version = environment().spdk_version
    if version < (24, 9):
        pytest.skip("SPDK %02d.%02d: its sockets can't wake a thread, so nothing that uses them can sleep" % version)


def cpu_seconds(process: Process) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_target(lab: Lab, name: str = "target") -> Application:
    """The backend is a file, because SPDK's malloc bdev polls."""
    target = lab.target(binary="dst_check", arguments=["--interrupt-mode"])
    volume = lab.folder / "volume.img"
    with open(volume, "ab") as file:
        file.truncate(BLOCKS * 4096)
    target.rpc.call("bdev_aio_create", name="Aio0", filename=str(volume), block_size=4096)
    return target


def serve(target: Application, port: int, key: str | None = None) -> None:
    # A file's bdev gets another UUID at each start.
    target.rpc.call("dst_create_export", name="volume", bdev_name="Aio0", uuid=UUID)
    host = {"psk_file": key} if key else {}
    target.rpc.call("dst_export_add_host", export="volume", host="me", access="rw", **host)
    target.rpc.call("dst_create_listener", traddr="127.0.0.1", trsvcid=str(port))


def attach(client: Application, remote: Remote, key: str | None = None) -> None:
    params = {"psk_file": key} if key else {}
    client.rpc.call(
        "bdev_dst_create",
        name="remote0",
        traddr=remote.address,
        trsvcid=str(remote.port),
        export=remote.export,
        host="me",
        keep_alive_timeout_ms=KEEP_ALIVE_MS,
        reconnect_delay_ms=100,
        **params,
    )


def assert_idle(*processes: Process) -> None:
    began, before = time.monotonic(), [cpu_seconds(process) for process in processes]
    time.sleep(IDLE)
    elapsed = time.monotonic() - began
    for process, used in zip(processes, before, strict=True):
        share = (cpu_seconds(process) - used) / elapsed
        print(f"{process.name}, idle: {100 * share:.1f} % of a core")
        assert share < IDLE_SHARE, f"{process.name} uses {share:.0%} of a core with nothing to do"


def info(client: Application) -> dict[str, object]:
    (found,) = client.rpc.call("bdev_dst_get_info", name="remote0")
    return found


@pytest.mark.parametrize("secured", [False, True], ids=["clear", "cipher"])
def test_idle_and_busy(lab: Lab, secured: bool) -> None:
    key = KeyFile(lab.folder, "key").path if secured else None
    target = start_target(lab)
    remote = Remote("127.0.0.1", free_port(), "volume")
    serve(target, remote.port, key)
    client = start_checker(lab, arguments=["--interrupt-mode"])
    attach(client, remote, key)
    assert_idle(target, client)
    for _ in range(2):
        # A channel, which exists for I/O only, is idle, too.
        client.begin_and_flow(depth=16)
        client.end().assert_clean()
        assert_idle(target, client)
    client.verify().assert_clean()
    counters = info(client)["counters"]
    assert isinstance(counters, dict) and counters["connections_lost"] == 0, counters


def test_depth_one(lab: Lab) -> None:
    """Each I/O waits for the previous one: if an event woke nothing, the I/O would wait for the end
    of a rest, 10 or 50 ms."""
    target = start_target(lab)
    remote = Remote("127.0.0.1", free_port(), "volume")
    serve(target, remote.port)
    client = start_checker(lab, arguments=["--interrupt-mode"])
    attach(client, remote)
    client.begin(depth=1, reads=50)
    client.wait_flow(4000)
    client.end().assert_clean()
    # This I/O comes from a timer, and not, as above, from the completion of another I/O.
    times = {f"{which}_{kind}_latency": 100 for which in ("avg", "p99") for kind in ("read", "write")}
    client.rpc.call("bdev_delay_create", name="Delay0", base_bdev_name="remote0", **times)
    client.begin("Delay0", depth=1, reads=50)
    client.wait_flow(4500)
    client.end().assert_clean()
    client.rpc.call("bdev_delay_delete", name="Delay0")
    assert_idle(target, client)


def test_outage(lab: Lab) -> None:
    """The target is killed under I/O and started again: nothing is lost, and then both are idle
    again."""
    target = start_target(lab)
    remote = Remote("127.0.0.1", free_port(), "volume")
    serve(target, remote.port)
    client: Checker = start_checker(lab, arguments=["--interrupt-mode"])
    attach(client, remote)
    client.begin_and_flow(depth=16)
    target.kill()
    wait_until(lambda: info(client)["state"] != "connected", "the client to notice")
    # Nothing wakes the client while it waits for the target.
    assert_idle(client)
    target = start_target(lab)
    serve(target, remote.port)
    client.wait_flow()
    client.end().assert_clean()
    client.verify().assert_clean()
    assert_idle(target, client)
