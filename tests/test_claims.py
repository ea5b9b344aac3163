"""An exported bdev belongs to its export; resets are serialised; a stopping process answers no
calls."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from harness.lab import Lab
from harness.ports import free_port
from harness.protocol import RESET, REQUEST, Session, header, ident
from harness.rpc import RpcError
from harness.spdk import BOTH_CORES, Application, Job, assert_clean, lvol_size
from harness.transport import Remote, attach
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

MIB = 64


def volume(lab: Lab) -> Path:
    path = lab.folder / "volume.img"
    if not path.exists():
        with open(path, "wb") as file:
            file.truncate(MIB * 2**20)
    return path


def aio(application: Application, path: Path) -> None:
    application.rpc.call("bdev_aio_create", name="Aio0", filename=str(path), block_size=512)


def lvstore(application: Application, bdev: str) -> Any:
    return application.rpc.call("bdev_lvol_create_lvstore", bdev_name=bdev, lvs_name="lvs", cluster_sz=2**20)


def test_nobody_else_writes_to_an_exported_bdev(lab: Lab) -> None:
    target = lab.target()
    call = target.rpc.call
    aio(target, volume(lab))
    call("dst_create_export", name="first", bdev_name="Aio0")
    call("dst_create_export", name="second", bdev_name="Aio0", read_only=True)
    call("dst_create_export", name="third", bdev_name="Aio0")
    for export in ("first", "third", "second"):
        with pytest.raises(RpcError):
            lvstore(target, "Aio0")
        call("dst_delete_export", name=export)
    lvstore(target, "Aio0")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_bdev_of_another_module_is_not_exported(lab: Lab, read_only: bool) -> None:
    target = lab.target()
    aio(target, volume(lab))
    lvstore(target, "Aio0")
    with pytest.raises(RpcError, match="module `lvol` has it") as error:
        target.rpc.call("dst_create_export", name="volume", bdev_name="Aio0", read_only=read_only)
    assert error.value.code == -1
    target.rpc.call("bdev_lvol_delete_lvstore", lvs_name="lvs")
    target.rpc.call("dst_create_export", name="volume", bdev_name="Aio0", read_only=read_only)


def test_examination_is_waited_for(lab: Lab) -> None:
    """A target that finds a client's lvstore in its bdev never opens it beside the export."""
    maker = lab.target()
    aio(maker, volume(lab))
    remote = lab.transport.serve(maker, "Aio0")
    client = lab.client()
    lvstore(client, attach(lab.transport, client, remote))
    assert client.stop() == 0
    assert maker.stop() == 0

    target = lab.target()
    pending = [
        target.rpc.start("bdev_aio_create", name="Aio0", filename=str(volume(lab)), block_size=512),
        target.rpc.start("dst_create_export", name="volume", bdev_name="Aio0"),
    ]
    assert pending[0].result() == "Aio0"
    with pytest.raises(RpcError, match="module `lvol` has it"):
        pending[1].result()


def test_a_restart_leaves_a_clients_lvstore_alone(lab: Lab) -> None:
    """A saved configuration exports the bdev before it exists, so the target's own lvol module
    never sees it."""
    target = lab.target()
    aio(target, volume(lab))
    remote = lab.transport.serve(target, "Aio0")
    client = lab.client()
    lvstore(client, attach(lab.transport, client, remote))
    assert client.stop() == 0
    names = [entry["subsystem"] for entry in target.rpc.call("framework_get_subsystems")]
    saved = [{"subsystem": name, "config": target.rpc.call("framework_get_config", name=name)} for name in names]
    assert target.stop() == 0
    before = volume(lab).read_bytes()

    target = lab.target(config={"subsystems": saved})
    assert [export["bdev_name"] for export in target.rpc.call("dst_get_exports")] == ["Aio0"]
    assert target.rpc.call("bdev_lvol_get_lvstores") == []
    assert volume(lab).read_bytes() == before
    target.rpc.call("dst_delete_export", name=remote.export)
    lvs = target.rpc.call("bdev_lvol_get_lvstores")
    assert lvs == []
    assert target.stop() == 0


def test_an_export_takes_its_bdev_when_that_appears(lab: Lab) -> None:
    """The bdev is claimed before any other module examines it, in whatever order two exports of it
    were created."""
    target, client = lab.target(), lab.client()
    aio(target, volume(lab))
    remote = lab.transport.serve(target, "Aio0")
    lvstore(client, attach(lab.transport, client, remote))
    assert client.stop() == 0
    assert target.stop() == 0

    target = lab.target()
    call = target.rpc.call
    call("dst_create_export", name="volume", bdev_name="Aio0")
    call("dst_create_export", name="again", bdev_name="Aio0", read_only=True)
    for export in call("dst_get_exports"):
        assert (export["state"], export["num_blocks"]) == ("offline", None)
        assert export["offline_reason"] == "there is no bdev named `Aio0`"
    aio(target, volume(lab))
    for export in call("dst_get_exports"):
        assert (export["state"], export["num_blocks"]) == ("online", MIB * 2048)
    assert call("bdev_lvol_get_lvstores") == []
    with pytest.raises(RpcError):
        lvstore(target, "Aio0")
    call("dst_delete_export", name="volume")
    call("dst_delete_export", name="again")
    assert target.stop() == 0


def test_an_export_finds_a_bdev_under_an_alias(lab: Lab) -> None:
    """An lvol gets its alias a moment after it has appeared, and its configuration is saved without
    the alias."""
    target = lab.target()
    call = target.rpc.call
    call("dst_create_export", name="volume", bdev_name="lvs/lvol")
    aio(target, volume(lab))
    lvstore(target, "Aio0")
    uuid = call("bdev_lvol_create", lvol_name="lvol", lvs_name="lvs", **lvol_size(4))
    wait_until(lambda: call("dst_get_exports")[0]["state"] == "online", "the export to find its bdev")
    saved = target.rpc.call("framework_get_config", name="bdev")
    (create,) = [entry for entry in saved if entry["method"] == "dst_create_export"]
    assert create["params"]["bdev_name"] == uuid


def test_a_bdev_that_is_pulled_leaves_its_export(lab: Lab) -> None:
    """Clients wait for the bdev of their export, as they wait for a target that restarts."""
    target = lab.target()
    call = target.rpc.call
    aio(target, volume(lab))
    remote = Remote("127.0.0.1", free_port(), "volume")
    call("dst_create_listener", traddr=remote.address, trsvcid=str(remote.port))
    call("dst_create_export", name="volume", bdev_name="Aio0", uuid=str(UUID(int=7)))
    call("dst_export_add_host", export="volume", host="*", access="rw")
    perf = lab.bdevperf(remote, Job(seconds=6), MIB * 2048)
    perf.begin_and_flow("remote0")
    for _ in range(3):
        call("bdev_aio_delete", name="Aio0")
        (export,) = call("dst_get_exports")
        assert (export["state"], export["sessions"]) == ("offline", 0)
        before = perf.io_count("remote0")
        aio(target, volume(lab))
        wait_until(lambda: perf.io_count("remote0") > before + 100, "I/O to flow again")
    assert_clean(perf.outcome())


def test_another_bdev_under_the_name_stays_out(lab: Lab) -> None:
    target = lab.target()
    call = target.rpc.call

    def export() -> Any:
        return call("dst_get_exports")[0]

    call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=512)
    call("dst_create_export", name="volume", bdev_name="Malloc0", uuid=str(UUID(int=7)))
    call("bdev_malloc_delete", name="Malloc0")
    for blocks, size, word in ((1024, 512, "smaller"), (2048, 4096, "another block size")):
        call("bdev_malloc_create", name="Malloc0", num_blocks=blocks, block_size=size)
        assert export()["state"] == "offline" and word in export()["offline_reason"], export()
        call("bdev_malloc_delete", name="Malloc0")
    call("bdev_malloc_create", name="Malloc0", num_blocks=4096, block_size=512)
    assert (export()["state"], export()["num_blocks"]) == ("online", 4096)
    call("dst_delete_export", name="volume")
    # Without `uuid` the identity is the bdev's.
    call("dst_create_export", name="volume", bdev_name="Malloc0")
    call("bdev_malloc_delete", name="Malloc0")
    call("bdev_malloc_create", name="Malloc0", num_blocks=4096, block_size=512)
    assert export()["state"] == "offline" and "another UUID" in export()["offline_reason"], export()


@pytest.mark.parametrize("reach", ["host", "backend"])
def test_streams_of_resets(lab: Lab, reach: str) -> None:
    """SPDK 20.07's bdev layer cannot handle two simultaneous resets of a bdev, least of all from
    two threads. A flood of them costs its senders time."""
    target, remote = lab.malloc_target(16, cores=BOTH_CORES)
    call = target.rpc.call
    call("dst_delete_export", name=remote.export)
    for name in (remote.export, "other"):
        call("dst_create_export", name=name, bdev_name="Malloc0", reset=reach)
    call("dst_export_add_host", export=remote.export, host="*", access="rw")
    call("dst_export_add_host", export="other", host="*", access="rw")
    other = Remote(remote.address, remote.port, "other")
    sessions = [Session(remote, "one"), Session(remote, "two"), Session(other, "three")]
    deadline = time.monotonic() + 3
    counts = [0] * len(sessions)

    def reset(number: int) -> None:
        queue = sessions[number].join(1)
        sequence = 0
        while time.monotonic() < deadline:
            sequence += 1
            queue.send(b"".join(header(REQUEST, RESET, ident=ident(slot, sequence)) for slot in range(8)))
            for _ in range(8):
                assert queue.receive().code == 0
            counts[number] += 8

    threads = [threading.Thread(target=reset, args=(number,)) for number in range(len(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    target.assert_running()
    # Of eight at once, one begins a round and seven share the next one, half a second later.
    assert 8 <= min(counts) and max(counts) <= 100, counts
    assert call("dst_get_stats")["in_flight"] == 0


def test_stop_while_attaches_end(lab: Lab) -> None:
    """SPDK frees the connections of calls when it begins to stop, some time before it stops DST."""
    for milliseconds in (5, 10, 15, 20):
        client = lab.client()
        pending = [
            client.rpc.start(
                "bdev_dst_create",
                name=f"never{number}",
                traddr="127.0.0.1",
                trsvcid=str(free_port()),
                export="none",
                attach_timeout_ms=1000 + number,
            )
            for number in range(0, 60, 2)
        ]
        time.sleep(1.0 + milliseconds / 1000)
        assert client.stop() == 0, client.tail()
        for call in pending:
            with pytest.raises((RpcError, OSError)):
                call.result()
