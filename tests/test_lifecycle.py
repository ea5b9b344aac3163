"""Creating, changing and removing bdevs, exports and hosts, mostly while I/O runs."""

from __future__ import annotations

from typing import Any

import pytest

from harness.backends import writes_at
from harness.checker import Checker, start_checker
from harness.environment import environment
from harness.lab import Lab
from harness.ports import free_port
from harness.rpc import RpcError
from harness.spdk import Application, Job, assert_clean, lvol_size
from harness.transport import attach
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

MIB = 64
BLOCKS = MIB * 2048


def target_with_malloc(lab: Lab) -> Application:
    target = lab.target()
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=BLOCKS, block_size=512)
    return target


def listen(target: Application, address: str = "127.0.0.1") -> int:
    port = free_port(address)
    target.rpc.call(
        "dst_create_listener", traddr=address, trsvcid=str(port), adrfam="ipv6" if ":" in address else "ipv4"
    )
    return port


def create(client: Application, name: str, port: int, export: str, **more: Any) -> str:
    params: dict[str, Any] = {"traddr": "127.0.0.1", "host": "test-client", "attach_timeout_ms": 5000}
    return client.rpc.call("bdev_dst_create", name=name, trsvcid=str(port), export=export, **(params | more))


def assert_refused(client: Application, port: int, export: str, **more: Any) -> None:
    with pytest.raises(RpcError):
        create(client, "refused", port, export, attach_timeout_ms=500, **more)
    assert client.bdev("refused") is None
    assert all(info["name"] != "refused" for info in client.rpc.call("bdev_dst_get_info"))


def no_sessions(target: Application) -> bool:
    return all(session["connections"] in (0, []) for session in target.rpc.call("dst_get_sessions"))


def assert_removed(client: Application, name: str) -> None:
    """The target removed the export: the client's bdev disappears like a disk that was pulled
    out."""
    wait_until(lambda: client.bdev(name) is None, f"{name} to go away")
    assert all(info["name"] != name for info in client.rpc.call("bdev_dst_get_info"))


def attached_under_io(lab: Lab) -> tuple[Application, Checker]:
    """bdevperf is not used, since newer versions end when their bdev disappears."""
    target, remote = lab.malloc_target(MIB)
    client = start_checker(lab)
    attach(lab.transport, client, remote)
    client.begin_and_flow(depth=64)
    return target, client


def test_delete_bdev_under_io(lab: Lab) -> None:
    target, client = attached_under_io(lab)
    assert client.rpc.call("bdev_dst_delete", name="remote0") is True
    assert client.bdev("remote0") is None
    assert client.rpc.call("bdev_dst_get_info") == []
    client.end().assert_no_bad_block()
    wait_until(lambda: no_sessions(target), "the session to end")
    assert client.stop() == 0


def test_stop_while_an_attach_is_waited_for(lab: Lab) -> None:
    """SPDK closes the call's connection before the attempt ends."""
    client = lab.client()
    pending = client.rpc.start(
        "bdev_dst_create",
        name="never0",
        traddr="127.0.0.1",
        trsvcid=str(free_port()),
        export="none",
        attach_timeout_ms=60_000,
    )
    wait_until(lambda: client.rpc.call("bdev_dst_get_info"), "the attempt to be shown")
    assert client.stop() == 0, client.tail()
    with pytest.raises((RpcError, OSError)):
        pending.result()


def test_delete_bdev_while_target_is_gone(lab: Lab) -> None:
    """The deletion ends although nothing in flight is answered."""
    target, client = attached_under_io(lab)
    target.kill()
    assert client.rpc.call("bdev_dst_delete", name="remote0") is True
    assert client.rpc.call("bdev_dst_get_info") == []
    client.end()


def test_delete_export_under_io(lab: Lab) -> None:
    target, client = attached_under_io(lab)
    assert target.rpc.call("dst_delete_export", name="export-Malloc0") is True
    assert target.rpc.call("dst_get_exports") == []
    wait_until(lambda: no_sessions(target), "the session to end")
    # The export no longer holds the bdev.
    assert target.rpc.call("bdev_malloc_delete", name="Malloc0") is True
    client.end()
    assert_removed(client, "remote0")


def test_backend_removed_under_io(lab: Lab) -> None:
    target, client = attached_under_io(lab)
    assert target.rpc.call("bdev_malloc_delete", name="Malloc0") is True
    assert target.bdev("Malloc0") is None
    (export,) = target.rpc.call("dst_get_exports")
    assert (export["state"], export["sessions"]) == ("offline", 0)
    # For the client the target is down, and its bdev stays until somebody takes it away.
    assert client.bdev("remote0")
    client.rpc.call("bdev_dst_delete", name="remote0")
    client.end()
    target.assert_running()
    assert_removed(client, "remote0")


def test_resize_reaches_client(lab: Lab) -> None:
    target = target_with_malloc(lab)
    call = target.rpc.call
    call("bdev_lvol_create_lvstore", bdev_name="Malloc0", lvs_name="lvs", cluster_sz=2**20)
    call("bdev_lvol_create", lvs_name="lvs", lvol_name="volume", **lvol_size(16))
    remote = lab.transport.serve(target, "lvs/volume")
    client = lab.client()
    bdev = attach(lab.transport, client, remote)
    assert client.bdev_bytes(bdev) == 16 * 2**20
    call("bdev_lvol_resize", name="lvs/volume", **lvol_size(32))
    wait_until(lambda: client.bdev_bytes(bdev) == 32 * 2**20, "the client's bdev to grow")


@pytest.mark.parametrize("how", ["export", "host"])
def test_read_only(lab: Lab, how: str) -> None:
    target = target_with_malloc(lab)
    port = listen(target)
    target.rpc.call("dst_create_export", name="fixed", bdev_name="Malloc0", read_only=how == "export")
    target.rpc.call("dst_export_add_host", export="fixed", host="*", access="ro" if how == "host" else "rw")
    reader = lab.bdevperf_unattached(Job("randread", seconds=1), BLOCKS)
    create(reader, "remote0", port, "fixed")
    bdev = reader.bdev("remote0")
    assert bdev is not None
    types = bdev["supported_io_types"]
    assert types["read"]
    assert not any(types[kind] for kind in ("write", "unmap", "write_zeroes")), types
    assert_clean(reader.run())
    reader.stop()

    writer = lab.bdevperf_unattached(Job("randwrite", seconds=1), BLOCKS, name="writer")
    create(writer, "remote0", port, "fixed")
    writer.begin()
    assert not writer.outcome().clean
    writer.assert_running()
    assert target.io_count("Malloc0") > 0
    assert writes_at(target, "Malloc0") == 0


def test_hosts_and_addresses(lab: Lab) -> None:
    target = target_with_malloc(lab)
    call = target.rpc.call
    port = listen(target)
    client = lab.client()

    call("dst_create_export", name="volume", bdev_name="Malloc0")
    assert_refused(client, port, "volume")  # the default is nobody
    call("dst_export_add_host", export="volume", host="somebody-else", access="rw")
    assert_refused(client, port, "volume")
    call("dst_export_add_host", export="volume", host="test-client", access="rw", addresses=["10.0.0.0/8"])
    assert_refused(client, port, "volume")
    call("dst_export_remove_host", export="volume", host="test-client")
    call("dst_export_add_host", export="volume", host="test-client", access="rw", addresses=["127.0.0.0/8"])
    assert_refused(client, port, "another-volume")
    assert_refused(client, port, "volume", host="an-impostor")

    create(client, "remote0", port, "volume")
    session = wait_until(lambda: call("dst_get_sessions", export="volume"), "the session")[0]
    assert session["host"] == "test-client"
    call("dst_export_remove_host", export="volume", host="test-client")
    wait_until(lambda: no_sessions(target), "the session of the removed host to end")
    assert_removed(client, "remote0")
    assert_refused(client, port, "volume")


def test_ipv6(lab: Lab) -> None:
    target = target_with_malloc(lab)
    port = listen(target, "::1")
    target.rpc.call("dst_create_export", name="volume", bdev_name="Malloc0")
    target.rpc.call("dst_export_add_host", export="volume", host="*", access="rw", addresses=["::1/128"])
    perf = lab.bdevperf_unattached(Job(seconds=1), BLOCKS)
    create(perf, "remote0", port, "volume", traddr="::1", adrfam="ipv6")
    assert_clean(perf.run())


def test_listener_goes_and_its_port_is_free_again(lab: Lab) -> None:
    target, remote = lab.malloc_target(MIB)
    client = lab.client()
    attach(lab.transport, client, remote)
    client.rpc.call("bdev_dst_delete", name="remote0")
    where = {"traddr": remote.address, "trsvcid": str(remote.port)}
    for _ in range(3):
        target.rpc.call("dst_delete_listener", **where)
        assert target.rpc.call("dst_get_listeners") == []
        target.rpc.call("dst_create_listener", **where)
    attach(lab.transport, client, remote)


def test_one_export_twice(lab: Lab) -> None:
    """If SPDK requires unique UUIDs, one process cannot attach an export twice, and the error says
    why."""
    if environment().spdk_version < (22, 5):
        pytest.skip("SPDK %02d.%02d takes two bdevs with one UUID" % environment().spdk_version)
    _, remote = lab.malloc_target(MIB)
    client = lab.client()
    create(client, "remote0", remote.port, remote.export)
    with pytest.raises(RpcError, match="with this export's UUID already exists") as error:
        create(client, "remote1", remote.port, remote.export)
    assert error.value.code == -17
    assert [info["name"] for info in client.rpc.call("bdev_dst_get_info")] == ["remote0"]


def test_two_sessions_on_one_export(lab: Lab) -> None:
    """Two processes, one of them with I/O."""
    target, remote = lab.malloc_target(MIB)
    perf = lab.bdevperf_unattached(Job(seconds=2), BLOCKS)
    # Not another spdk_tgt, whose iSCSI target needs much memory.
    other = start_checker(lab)
    create(perf, "remote0", remote.port, remote.export, host="first")
    create(other, "remote0", remote.port, remote.export, host="second")
    sessions = target.rpc.call("dst_get_sessions", export=remote.export)
    assert sorted(session["host"] for session in sessions) == ["first", "second"]
    uuids = {bdev["uuid"] for client in (perf, other) if (bdev := client.bdev("remote0")) and bdev.get("uuid")}
    assert len(uuids) <= 1, "one export, one identity"
    assert_clean(perf.run())
    perf.rpc.call("bdev_dst_delete", name="remote0")
    wait_until(
        lambda: [s["host"] for s in target.rpc.call("dst_get_sessions") if s["connections"]] == ["second"],
        "only the second session to be left",
    )


def test_attach_and_delete_again_and_again(lab: Lab) -> None:
    """A detached bdev leaves neither files nor memory nor sessions behind."""
    target, remote = lab.malloc_target(MIB)
    client = lab.client()

    def cycle() -> None:
        attach(lab.transport, client, remote)
        assert client.rpc.call("bdev_dst_delete", name="remote0") is True

    for _ in range(5):
        cycle()
    wait_until(lambda: no_sessions(target), "the sessions to end")
    before = [(process, process.open_files(), process.rss_mib()) for process in (client, target)]
    for _ in range(100):
        cycle()
    wait_until(lambda: no_sessions(target), "the sessions to end")
    for process, files, rss in before:
        wait_until(lambda p=process, n=files: p.open_files() <= n, f"{process.name} to close its sockets")
        assert process.rss_mib() < rss + 16, process.name
