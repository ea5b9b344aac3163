"""SIGTERM while RPCs wait for their answers, which SPDK 20.07's server does not outlive.

`make sanitize` runs this file with an SPDK that is built with an address sanitizer, and with
DST_STOP_SWEEP=1: at each millisecond. Otherwise the C library fills freed memory, so that most
uses of it crash.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator

import pytest

from harness.backends import await_requests
from harness.channel import Channel
from harness.fake_target import FakeTarget, Memory
from harness.lab import Lab
from harness.ports import free_port
from harness.rpc import PendingCall, RpcError
from harness.spdk import CLIENT_CORES, TARGET_CORES, Application
from harness.stopping import is_stopping
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

STEP_MS = 1 if os.environ.get("DST_STOP_SWEEP") else 10
WELCOME_MS = 20
# Freed memory is filled with the complement of this byte.
FILLED = {"MALLOC_PERTURB_": "165"}


@contextmanager
def late_target() -> Iterator[FakeTarget]:
    """A target that admits clients late."""

    class Late(Channel):
        def send(self, data: bytes) -> None:
            time.sleep(WELCOME_MS / 1000)
            super().send(data)

    def opens(sock: socket.socket) -> Channel:
        return Late(sock)

    target = FakeTarget(opens=opens, serves=Memory())
    yield target
    target.end()


def started(lab: Lab, name: str, cores: str = CLIENT_CORES) -> Application:
    return lab.spdk_tgt(name, cores, variables=FILLED)


def assert_ends(application: Application, pending: PendingCall | None = None) -> None:
    code = application.stop(30)
    assert code == 0 and "AddressSanitizer" not in application.text(), application.tail()
    if pending:
        try:
            pending.result()
        except (RpcError, OSError):
            pass


def create_call(port: int, **more: Any) -> dict[str, Any]:
    params = {"name": "remote0", "traddr": "127.0.0.1", "trsvcid": str(port), "export": "fake", "host": "client"}
    return params | {"keep_alive_timeout_ms": 1000, "transaction_timeout_ms": 3000} | more


@pytest.mark.watchdog(600 if STEP_MS == 1 else 60)
@pytest.mark.parametrize("wait", [True, False])
def test_stop_while_a_bdev_is_created(lab: Lab, wait: bool) -> None:
    with late_target() as target:
        for after_ms in range(0, 2 * WELCOME_MS + 1, STEP_MS):
            client = started(lab, "client")
            pending = client.rpc.start("bdev_dst_create", **create_call(target.remote.port, wait=wait))
            time.sleep(after_ms / 1000)
            assert_ends(client, pending)


def malloc_export(target: Application, port: int) -> None:
    call = target.rpc.call
    call("bdev_malloc_create", name="Malloc0", num_blocks=65536, block_size=512)
    call("bdev_error_create", base_name="Malloc0")
    call("dst_create_export", name="fake", bdev_name="EE_Malloc0")
    call("dst_export_add_host", export="fake", host="*", access="rw")
    call("dst_create_listener", traddr="127.0.0.1", trsvcid=str(port))


@pytest.mark.watchdog(600 if STEP_MS == 1 else 60)
def test_stop_while_a_bdev_is_deleted(lab: Lab) -> None:
    """The deletion ends with the lease of the lost connection, on which the lvstore has I/O."""
    for after_ms in range(0, 2 * WELCOME_MS + 1, 20):
        port = free_port()
        target = started(lab, "target", TARGET_CORES)
        malloc_export(target, port)
        client = started(lab, "client")
        client.rpc.call("bdev_dst_create", **create_call(port))
        client.rpc.call("bdev_lvol_create_lvstore", bdev_name="remote0", lvs_name="lvs0", cluster_sz=2**20)
        target.rpc.call("bdev_error_inject_error", name="EE_Malloc0", io_type="write", error_type="pending", num=100)
        pending = client.rpc.start("bdev_dst_delete", name="remote0")
        time.sleep(after_ms / 1000)
        assert_ends(client, pending)
        target.kill()


def test_nothing_is_deleted_while_spdk_stops(lab: Lab) -> None:
    """The lvstore of a bdev that is deleted would be freed, which SPDK's stop (21.10 and later) then
    reads."""
    port = free_port()
    target = started(lab, "target", TARGET_CORES)
    malloc_export(target, port)
    client = started(lab, "client")
    client.rpc.call("bdev_dst_create", **create_call(port, transaction_timeout_ms=10_000))
    client.rpc.call("bdev_lvol_create_lvstore", bdev_name="remote0", lvs_name="lvs0", cluster_sz=2**20)
    # The stop waits for a target that is away.
    target.kill()
    client.signal(signal.SIGTERM)
    wait_until(lambda: is_stopping(client), "the client to begin to stop")
    with pytest.raises((RpcError, OSError)):
        client.rpc.call("bdev_dst_delete", name="remote0")
    assert client.exit_code is None, client.tail()
    assert client.wait(30) == 0, client.tail()


def test_stop_while_an_export_is_deleted(lab: Lab) -> None:
    """The backend hangs, so the deletion takes as long as the stop."""
    port = free_port()
    target = started(lab, "target", TARGET_CORES)
    target.rpc.call("dst_set_options", drain_timeout_ms=1000)
    malloc_export(target, port)
    client = started(lab, "client")
    client.rpc.call("bdev_dst_create", **create_call(port))
    target.rpc.call("bdev_error_inject_error", name="EE_Malloc0", io_type="write", error_type="pending", num=100)
    creating = client.rpc.start(
        "bdev_lvol_create_lvstore", bdev_name="remote0", lvs_name="lvs0", cluster_sz=2**20
    )
    await_requests(target, "client", "writes", 1)
    pending = target.rpc.start("dst_delete_export", name="fake")
    wait_until(lambda: target.rpc.call("dst_get_exports")[0]["deleting"], "the deletion to be shown")
    assert_ends(target, pending)
    client.kill()
    with pytest.raises((RpcError, OSError)):
        creating.result()


def test_stop_while_an_export_waits_for_its_bdev(lab: Lab) -> None:
    """The bdev is being examined, so that the export is not created yet."""
    release = threading.Event()

    def silent(channel: Channel) -> None:
        release.wait(60)

    backend = FakeTarget(serves=silent)
    try:
        relay = started(lab, "relay")
        relay.rpc.call("bdev_dst_create", **create_call(backend.remote.port, wait=False))
        wait_until(lambda: relay.bdev("remote0"), "the bdev to be there")
        pending = relay.rpc.start("dst_create_export", name="waits", bdev_name="remote0")
        time.sleep(0.05)
        assert_ends(relay, pending)
    finally:
        release.set()
        backend.end()
