"""An exported bdev belongs to its export; resets are serialised; a stopping process answers no
calls."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness.lab import Lab
from harness.ports import free_port
from harness.protocol import RESET, REQUEST, Session, header, ident
from harness.rpc import RpcError
from harness.spdk import BOTH_CORES, Application
from harness.transport import Remote, attach

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
    """A saved configuration reserves the bdev before it exists, so the target's own lvol module
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


def test_a_reserved_bdev_is_claimed_when_it_appears(lab: Lab) -> None:
    target = lab.target()
    target.rpc.call("dst_reserve_bdev", name="Aio0")
    aio(target, volume(lab))
    with pytest.raises(RpcError):
        lvstore(target, "Aio0")
    target.rpc.call("bdev_aio_delete", name="Aio0")
    aio(target, volume(lab))
    target.rpc.call("dst_create_export", name="volume", bdev_name="Aio0")
    target.rpc.call("dst_delete_export", name="volume")
    lvstore(target, "Aio0")
    assert target.stop() == 0


def test_streams_of_resets(lab: Lab) -> None:
    """SPDK 20.07's bdev layer cannot handle two simultaneous resets of a bdev, least of all from
    two threads."""
    target, remote = lab.malloc_target(16, cores=BOTH_CORES)
    call = target.rpc.call
    call("dst_create_export", name="other", bdev_name="Malloc0")
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
    assert min(counts) >= 80, counts
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
