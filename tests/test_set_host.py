"""A host's entry changes while the host is attached: only what is withdrawn ends."""

from __future__ import annotations

import os
from typing import Any

import pytest

from harness.checker import start_checker
from harness.keys import HOST, KeyFile, KeyedService
from harness.lab import Lab
from harness.protocol import Session
from harness.rpc import RpcError
from harness.spdk import Application
from harness.transport import attach
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst


def state(client: Application) -> dict[str, Any]:
    (info,) = client.rpc.call("bdev_dst_get_info", name="remote0")
    return dict(info)


def read_only(client: Application) -> bool:
    bdev = client.bdev("remote0")
    assert bdev is not None, "the bdev stays"
    return bool(bdev["driver_specific"]["dst"]["read_only"])


def writes(client: Application) -> bool:
    bdev = client.bdev("remote0")
    assert bdev is not None, "the bdev stays"
    return bool(bdev["supported_io_types"]["write"])


def test_a_client_becomes_read_only_and_back(lab: Lab) -> None:
    target, remote = lab.malloc_target(16)
    client = lab.client()
    attach(lab.transport, client, remote)
    (session,) = target.rpc.call("dst_get_sessions")
    for access, is_read_only in (("ro", True), ("rw", False), ("ro", True)):
        assert target.rpc.call("dst_export_set_host", export=remote.export, host="*", access=access) is True
        wait_until(lambda: read_only(client) == is_read_only, "the client to hear of its rights")
        wait_until(lambda: state(client)["state"] == "connected", "the client to be back")
        assert writes(client) != is_read_only
        (now,) = target.rpc.call("dst_get_sessions")
        assert now["id"] == session["id"], "the session stays"
    assert client.text().count("is read only now") == 2
    # What is not changed ends nothing.
    before = state(client)["counters"]["connections_lost"]
    target.rpc.call("dst_export_set_host", export=remote.export, host="*", access="ro", addresses=["127.0.0.0/8"])
    assert state(client)["counters"]["connections_lost"] == before
    # What does not let the host in any more does.
    target.rpc.call("dst_export_set_host", export=remote.export, host="*", access="ro", addresses=["192.0.2.1/32"])
    wait_until(lambda: client.bdev("remote0") is None, "the bdev to go")


def test_io_goes_on_while_rights_change(lab: Lab) -> None:
    """A key is replaced by another file, and prefixes come: to the user that is latency."""
    service = KeyedService(lab)
    target = service.application
    checker = start_checker(lab)
    service.attach(checker)
    checker.begin_and_flow()
    entry = {"export": service.remote.export, "host": HOST, "access": "rw"}
    for number in range(3):
        key = os.urandom(32)
        other = KeyFile(lab.folder, f"other{number}.psk", key)
        service.at_client.write(key)
        target.rpc.call("dst_export_set_host", **entry, psk_file=other.path)
        wait_until(lambda: state(checker)["state"] == "connected", "the client to be back")
        checker.wait_flow()
    checker.end().assert_clean()
    checker.verify().assert_clean()


def test_the_call_is_answered_when_nothing_more_is_executed(lab: Lab) -> None:
    """A peer that goes on writing on its old connection is closed, not heard."""
    target, remote = lab.malloc_target(16)
    session = Session(remote, HOST)
    queue = session.join(1)
    target.rpc.call("dst_export_set_host", export=remote.export, host="*", access="ro")
    queue.assert_closed()
    session.control.assert_closed()
    with pytest.raises(RpcError, match="host: export .* no entry for host `other`"):
        target.rpc.call("dst_export_set_host", export=remote.export, host="other", access="ro")
