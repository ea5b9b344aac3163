"""What the target shows about its sessions and itself, as far as no other test covers it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from harness.backends import await_requests, hanging_export, session_of
from harness.protocol import Connection, FLUSH, NOT_ALLOWED, READ, SUCCESS, Session, hello, ident, previous, refusal_of
from harness.protocol import write
from harness.served import BLOCK, Served
from harness.spdk import Application
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst


def shown(application: Application, host: str) -> dict[str, Any]:
    session = session_of(application, host)
    assert session is not None
    return session


def test_session_with_its_connections(served: Served) -> None:
    application, remote = served
    session = Session(remote, "seen")
    with session.join(1) as first, session.join(7, epoch=3) as second:
        assert first.request(READ, ident(0, 1), 0, 8).code == SUCCESS
        second.send(write(0, 1, 0, os.urandom(BLOCK)))
        assert second.receive().code == SUCCESS
        assert second.request(FLUSH, ident(0, 2)).code == SUCCESS
        told = shown(application, "seen")
        assert (told["export"], told["connections"]) == (remote.export, 3)
        assert [(q["queue"], q["epoch"], q["in_flight"], q["state"]) for q in told["queues"]] == [
            (0, 0, 0, "ready"),
            (1, 1, 0, "ready"),
            (7, 3, 0, "ready"),
        ]
        assert [q["peer"].rpartition(":")[0] for q in told["queues"]] == ["127.0.0.1"] * 3
        assert len({q["peer"] for q in told["queues"]}) == 3
        counters = told["counters"]
        assert (counters["reads"], counters["writes"], counters["other_operations"]) == (1, 1, 1)
        assert (counters["reconnects"], counters["fences"], counters["dropped"]) == (0, 0, 0)
        wait_until(lambda: shown(application, "seen")["age_ms"] > told["age_ms"], "time to pass")
        later = shown(application, "seen")["queues"]
        assert all(new["age_ms"] > old["age_ms"] for new, old in zip(later, told["queues"]))
    # The work of closed connections still counts.
    with session.join(1, epoch=2):
        told = shown(application, "seen")["counters"]
        assert (told["reads"], told["writes"], told["reconnects"]) == (1, 1, 1)


def test_what_is_in_the_backend_and_who_waits_for_it(served: Served) -> None:
    application, remote = served
    stats = application.rpc.call("dst_get_stats")
    with hanging_export(application, remote) as hanging:
        application.rpc.call("bdev_error_inject_error", name="EE_Malloc2", io_type="write", error_type="pending", num=5)
        session = Session(hanging, "hung")
        queue = session.join(1)
        queue.send(b"".join(write(slot, 1, slot, bytes(BLOCK)) for slot in range(5)))
        await_requests(application, "hung", "writes", 5)
        told = shown(application, "hung")["queues"]
        assert [(q["queue"], q["in_flight"], q["state"]) for q in told] == [(0, 0, "ready"), (1, 5, "ready")]
        waiting = session.say_hello(1, epoch=2)
        queue.assert_closed()
        wait_until(lambda: len(shown(application, "hung")["queues"]) == 3, "the waiting connection to be shown")
        told = shown(application, "hung")["queues"]
        assert [(q["queue"], q["epoch"], q["in_flight"], q["state"]) for q in told] == [
            (0, 0, 0, "ready"),
            (1, 1, 5, "closing"),
            (1, 2, 0, "waiting"),
        ]
        now = application.rpc.call("dst_get_stats")
        assert (now["in_flight"], now["handshakes"], now["waiting"], now["closing"]) == (5, 0, 1, 1)
        assert now["fences"] == stats["fences"] + 1
        assert "comes back as queue 1 of session" in application.text()
        # The deletion resets the hanging writes and closes the waiting connection.
        application.rpc.start("dst_delete_export", name="hanging")
        waiting.assert_closed()
    wait_until(lambda: application.rpc.call("dst_get_stats")["in_flight"] == 0, "the backend to be empty")
    assert application.rpc.call("dst_get_stats")["errors"] >= stats["errors"] + 5


def test_repeats_and_refusals_are_counted(served: Served) -> None:
    application, remote = served
    before = application.rpc.call("dst_get_stats")
    session = Session(remote, "counted")
    with session.join(1) as queue:
        for _ in range(3):
            queue.send(write(0, 1, 0, bytes(BLOCK)))
            assert queue.receive().code == SUCCESS
        assert shown(application, "counted")["counters"]["answered_from_record"] == 2
    with Connection(remote) as connection:
        connection.send(hello("no-such-export", "counted"))
        assert refusal_of(connection.receive())[0] == NOT_ALLOWED
    after = application.rpc.call("dst_get_stats")
    assert after["refused_hellos"] == before["refused_hellos"] + 1
    assert after["answered_from_record"] == before["answered_from_record"] + 2
    # Each read and write is counted in a histogram.
    for kind in ("reads", "writes"):
        assert sum(bucket["count"] for bucket in after["backend_latency"][kind]) == after[kind]


def test_each_change_of_state_has_its_line(served: Served) -> None:
    application, remote = served
    session = Session(remote, "talked-about")
    name = session.id[:4].hex()
    with session.join(1):
        pass
    with session.join(1, epoch=2):
        pass
    Session(remote, "talked-about", more=previous(session.id, session.instance))
    text = application.text()
    for line in (
        'DST host "talked-about" from 127.0.0.1',
        f"opens session {name} at export",
        f"comes back as queue 1 of session {name}, epoch 2",
        f'DST session {name} of host "talked-about" at export "{remote.export}" ends: its client opens another one',
        ", the one before has ended",
    ):
        assert line in text, line
