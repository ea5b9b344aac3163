"""The limit on sessions; a session whose client is gone makes room after its time."""

from __future__ import annotations

import time

import pytest

from harness.lab import Lab
from harness.protocol import BUSY, READ, SUCCESS, Connection, Session, hello, ident, refusal_of
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

SESSIONS = 2
TIMEOUT_MS = 1000


def test_no_more_sessions_than_there_may_be(lab: Lab) -> None:
    target = lab.target()
    call = target.rpc.call
    call("dst_set_options", max_sessions=SESSIONS, session_timeout_ms=TIMEOUT_MS)
    call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=512)
    remote = lab.transport.serve(target, "Malloc0")
    first, second = Session(remote, "first"), Session(remote, "second")
    refused = call("dst_get_stats")["refused_busy"]

    def say_hello() -> Connection:
        connection = Connection(remote)
        connection.send(hello(remote.export, "third"))
        return connection

    with say_hello() as third:
        assert refusal_of(third.receive()) == (BUSY, "the target has too many sessions, all of them in use")
        third.assert_closed()
    assert call("dst_get_stats")["refused_busy"] == refused + 1
    # The others are not affected; an existing session may have more connections.
    for session in (first, second):
        session.control.keep_alive()
        with session.join(1) as queue:
            assert queue.request(READ, ident(0, 1), 0, 1).code == SUCCESS
    began = time.monotonic()
    for session in (first, second):
        session.control.close()
    wait_until(lambda: call("dst_get_sessions") == [], "the sessions to be forgotten", 5 * TIMEOUT_MS / 1000)
    assert time.monotonic() - began > 0.9 * TIMEOUT_MS / 1000, "forgotten too early"
    again = [Session(remote, "third"), Session(remote, "fourth")]
    assert {session["host"] for session in call("dst_get_sessions")} == {"third", "fourth"}
    for session in again:
        session.control.keep_alive()
