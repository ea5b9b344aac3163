"""SIGTERM of processes whose targets, or whose backends, do not answer."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import pytest

from harness.backends import await_requests
from harness.lab import Lab
from harness.ports import free_port
from harness.spdk import CLIENT_CORES, TARGET_CORES, Application
from harness.stopping import is_stopping
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

PATIENCE_MS = 4000
LEASE_MS = 1000
LVSTORES = 4
# docs/failures.md promises the patience and 1.05 leases, which is less than 1.05 times the patience
# and 2 s with a lease as short as here; the rest is for a loaded machine. Each lvstore by itself takes the patience at least once.
BOUND_S = 1.05 * PATIENCE_MS / 1000 + 2 + 5
assert BOUND_S < LVSTORES * PATIENCE_MS / 1000
UUID = "6f2c1e0a-35c5-4f0e-8d0c-00000000000%d"


def stop_in_time(application: Application, bound_s: float = BOUND_S) -> float:
    """Ends the process by SIGTERM. Returns how long that took, in seconds."""
    began = time.monotonic()
    assert application.stop(bound_s) == 0, application.tail()
    return time.monotonic() - began


def files(lab: Lab) -> list[Path]:
    volumes = [lab.folder / f"volume{number}.img" for number in range(LVSTORES)]
    for volume in volumes:
        if not volume.exists():
            with open(volume, "wb") as file:
                file.truncate(32 * 2**20)
    return volumes


def serve_files(lab: Lab, port: int) -> Application:
    """Starts a target that exports files, each time the same ones."""
    target = lab.target()
    for number, volume in enumerate(files(lab)):
        call = target.rpc.call
        call("dst_create_export", name=f"disk{number}", bdev_name=f"Aio{number}", uuid=UUID % number)
        call("dst_export_add_host", export=f"disk{number}", host="*", access="rw")
        call("bdev_aio_create", name=f"Aio{number}", filename=str(volume), block_size=4096)
    target.rpc.call("dst_create_listener", traddr="127.0.0.1", trsvcid=str(port))
    return target


def create(client: Application, name: str, port: int, export: str, **more: Any) -> None:
    params: dict[str, Any] = {
        "traddr": "127.0.0.1",
        "host": "test-client",
        "transaction_timeout_ms": PATIENCE_MS,
        "keep_alive_timeout_ms": LEASE_MS,
    }
    client.rpc.call("bdev_dst_create", name=name, trsvcid=str(port), export=export, **(params | more))


def make_lvstore(client: Application, bdev: str) -> None:
    client.rpc.call("bdev_lvol_create_lvstore", bdev_name=bdev, lvs_name=f"lvs-{bdev}", cluster_sz=2**20)


def attached(lab: Lab, port: int, **more: Any) -> Application:
    """Starts a client with all of the target's files."""
    client = lab.client()
    for number in range(LVSTORES):
        create(client, f"remote{number}", port, f"disk{number}", **more)
    return client


def with_lvstores(lab: Lab, port: int, **more: Any) -> Application:
    client = attached(lab, port, **more)
    for number in range(LVSTORES):
        make_lvstore(client, f"remote{number}")
    return client


def clean_lvstores(lab: Lab) -> list[int]:
    """Returns for each file whether its lvstore was ended in order."""

    def is_clean(volume: Path) -> int:
        with open(volume, "rb") as file:
            # The super block of SPDK's blobstore.
            signature, _version, _length, clean = struct.unpack("<8sIII", file.read(20))
        assert signature == b"SPDKBLOB"
        return clean

    return [is_clean(volume) for volume in files(lab)]


def test_lvstores_on_a_dead_target_have_one_patience_together(lab: Lab) -> None:
    port = free_port()
    target = serve_files(lab, port)
    client = with_lvstores(lab, port)
    target.kill()
    assert stop_in_time(client) >= 0.9 * PATIENCE_MS / 1000, "patience was not used"
    assert clean_lvstores(lab) == LVSTORES * [0], "they cannot have been ended"


def test_lvstores_are_clean_if_the_target_is_back_in_time(lab: Lab) -> None:
    port = free_port()
    target = serve_files(lab, port)
    client = with_lvstores(lab, port, transaction_timeout_ms=30_000)
    target.kill()
    stopping = lab.process("term", ["/bin/kill", "-TERM", str(client.pid)])
    assert stopping.wait() == 0
    wait_until(lambda: is_stopping(client), "the client to begin to stop")
    time.sleep(0.5)  # Not a hope: in this time it must not end.
    assert client.exit_code is None, client.tail()
    serve_files(lab, port)
    assert client.wait(60) == 0, client.tail()
    assert clean_lvstores(lab) == LVSTORES * [1]


def test_lvstores_are_clean_with_a_target_that_answers(lab: Lab) -> None:
    """Also if another target is dead, on which the client waits first."""
    port, dead_port = free_port(), free_port()
    target = serve_files(lab, port)
    client = with_lvstores(lab, port)
    dead = lab.spdk_tgt("dead", CLIENT_CORES)
    dead.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=65536, block_size=512)
    export(dead, dead_port, "Malloc0")
    create(client, "lost0", dead_port, "Malloc0")
    make_lvstore(client, "lost0")
    dead.kill()
    stop_in_time(client)
    target.assert_running()
    assert clean_lvstores(lab) == LVSTORES * [1]


def export(target: Application, port: int, bdev: str) -> None:
    target.rpc.call("dst_create_export", name=bdev, bdev_name=bdev)
    target.rpc.call("dst_export_add_host", export=bdev, host="*", access="rw")
    if not target.rpc.call("dst_get_listeners"):
        target.rpc.call("dst_create_listener", traddr="127.0.0.1", trsvcid=str(port))


def test_backends_that_hang_while_bdevs_are_examined(lab: Lab) -> None:
    port = free_port()
    target = lab.target()
    client = lab.client()
    for number in range(3):
        call = target.rpc.call
        call("bdev_malloc_create", name=f"Malloc{number}", num_blocks=65536, block_size=512)
        call("bdev_error_create", base_name=f"Malloc{number}")
        call("bdev_error_inject_error", name=f"EE_Malloc{number}", io_type="read", error_type="pending", num=100)
        export(target, port, f"EE_Malloc{number}")
        create(client, f"remote{number}", port, f"EE_Malloc{number}", host=f"client{number}")
        await_requests(target, f"client{number}", "reads", 1)
    stop_in_time(client)


def test_backends_that_hang_when_lvstores_end(lab: Lab) -> None:
    """One after another: the client waits for the first, and then not for the others."""
    port = free_port()
    target = lab.target()
    client = lab.client()
    for number in range(LVSTORES):
        target.rpc.call("bdev_malloc_create", name=f"Malloc{number}", num_blocks=65536, block_size=512)
        target.rpc.call("bdev_error_create", base_name=f"Malloc{number}")
        export(target, port, f"EE_Malloc{number}")
        create(client, f"remote{number}", port, f"EE_Malloc{number}", host=f"client{number}")
        make_lvstore(client, f"remote{number}")
    for number in range(LVSTORES):
        name = f"EE_Malloc{number}"
        target.rpc.call("bdev_error_inject_error", name=name, io_type="write", error_type="pending", num=100)
    # The second one has the lease to be answered, and then its own lease ends.
    stop_in_time(client, BOUND_S + 2.1 * LEASE_MS / 1000)


def node(lab: Lab, name: str, cores: str) -> tuple[Application, int]:
    """Starts a process that exports a bdev in memory."""
    application, port = lab.spdk_tgt(name, cores), free_port()
    application.rpc.call("bdev_malloc_create", name=f"{name}-disk", num_blocks=65536, block_size=512)
    export(application, port, f"{name}-disk")
    return application, port


def test_a_process_that_attached_its_own_export(lab: Lab) -> None:
    application, port = lab.spdk_tgt("self", CLIENT_CORES), free_port()
    for number in range(LVSTORES):
        application.rpc.call("bdev_malloc_create", name=f"Malloc{number}", num_blocks=65536, block_size=512)
        export(application, port, f"Malloc{number}")
        create(application, f"remote{number}", port, f"Malloc{number}")
        make_lvstore(application, f"remote{number}")
    stop_in_time(application)


@pytest.mark.parametrize("order", ["together", "one after another"])
def test_processes_that_attached_each_other(lab: Lab, order: str) -> None:
    left, left_port = node(lab, "left", CLIENT_CORES)
    right, right_port = node(lab, "right", TARGET_CORES)
    create(left, "remote0", right_port, "right-disk")
    create(right, "remote0", left_port, "left-disk")
    make_lvstore(left, "remote0")
    make_lvstore(right, "remote0")
    if order == "together":
        assert lab.process("term", ["/bin/kill", "-TERM", str(left.pid), str(right.pid)]).wait() == 0
    stop_in_time(left)
    stop_in_time(right)


@pytest.mark.parametrize("order", ["first, middle, last", "last, middle, first", "middle, last, first"])
def test_a_chain_of_exports(lab: Lab, order: str) -> None:
    first, first_port = node(lab, "first", TARGET_CORES)
    middle, middle_port = lab.spdk_tgt("middle", CLIENT_CORES), free_port()
    create(middle, "relay0", first_port, "first-disk")
    export(middle, middle_port, "relay0")
    last = lab.spdk_tgt("last", CLIENT_CORES)
    create(last, "remote0", middle_port, "relay0")
    make_lvstore(last, "remote0")
    chain = {"first": first, "middle": middle, "last": last}
    for name in order.split(", "):
        stop_in_time(chain[name])


def test_an_attach_that_waits_ends_with_the_stop(lab: Lab) -> None:
    """With a configuration's `wait: false`, and with an RPC that is not answered yet."""
    client = lab.client()
    for number, wait in enumerate([False, True]):
        pending = client.rpc.start(
            "bdev_dst_create",
            name=f"never{number}",
            traddr="127.0.0.1",
            trsvcid=str(free_port()),
            export="none",
            attach_timeout_ms=600_000,
            wait=wait,
        )
        if not wait:
            pending.result()
    wait_until(lambda: len(client.rpc.call("bdev_dst_get_info")) == 2, "the attempts to be shown")
    stop_in_time(client)
