"""A session that replaces another one: everything sent in the previous session is finished when the
welcome comes."""

from __future__ import annotations

import os
import time
from typing import Iterator

import pytest

from harness.backends import await_requests, session_of, slow_export, writes_at
from harness.lab import Lab
from harness.ports import free_port
from harness.protocol import Connection, NOT_ALLOWED, NO_SESSION, PROTECTION, READ, SUCCESS, Session, WELCOME
from harness.protocol import hello, ident, previous, refusal_of, write
from harness.served import BLOCK, MIB, Served
from harness.spdk import Application, CLIENT_CORES
from harness.transport import Remote
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

# This is long enough for several steps of a test.
SLOW_S = 2.0

# The attribute "previous ended" of a Welcome.
CACHE_KEPT = 11


@pytest.fixture(scope="module")
def target(needs_dst: None, module_lab: Lab) -> Served:
    application = module_lab.target()
    # No test waits for this long, so anything that ends has another reason.
    application.rpc.call("dst_set_options", handshake_timeout_ms=60_000)
    application.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=MIB * 2048, block_size=BLOCK)
    return application, module_lab.transport.serve(application, "Malloc0")


@pytest.fixture
def slow(served: Served) -> Iterator[Remote]:
    with slow_export(*served, SLOW_S) as remote:
        yield remote


def busy(application: Application, remote: Remote, host: str) -> tuple[Session, Connection]:
    """Returns a session with a write in the backend."""
    session = Session(remote, host)
    queue = session.join(1)
    queue.send(write(0, 1, 0, os.urandom(BLOCK)))
    await_requests(application, host, "writes", 1)
    return session, queue


def named(session: Session) -> bytes:
    return previous(session.id, session.instance)


def test_new_session_waits_for_the_one_before(served: Served, slow: Remote) -> None:
    application = served[0]
    before = writes_at(application, "Slow0")
    fences = application.rpc.call("dst_get_stats")["fences"]
    old, queue = busy(application, slow, "comes-back")
    # A connection waits for its turn in the old session, too.
    waiting = old.say_hello(1, epoch=2)
    queue.assert_closed()
    assert writes_at(application, "Slow0") == before
    new = Session(slow, "comes-back", more=named(old))
    assert writes_at(application, "Slow0") == before + 1, "welcomed while the old session's write was in the backend"
    assert new.previous_ended
    waiting.assert_closed()
    old.control.assert_closed()
    with new.join(1) as queue:
        queue.send(write(0, 1, 0, bytes(BLOCK)))
        assert queue.receive().code == SUCCESS
    shown = session_of(application, "comes-back")
    assert shown is not None and shown["counters"]["fences"] == 1
    # Each hello that has waited counts, and those that wait for long are repeated.
    assert application.rpc.call("dst_get_stats")["fences"] >= fences + 2
    assert "ends: its client opens another one" in application.text()


def test_closed_connections_are_waited_for_whoever_had_them(served: Served, slow: Remote) -> None:
    """The client was restarted and knows no session: its host's earlier requests are fenced all the
    same."""
    application = served[0]
    before = writes_at(application, "Slow0")
    old, queue = busy(application, slow, "reborn")
    # While that session is connected, it belongs to another client of the same name and is not
    # fenced.
    other = Session(slow, "reborn")
    assert writes_at(application, "Slow0") == before and not other.previous_ended
    queue.close()
    wait_until(lambda: application.rpc.call("dst_get_stats")["closing"] == 1, "the target to notice", SLOW_S)
    stranger = Session(slow, "stranger")
    assert writes_at(application, "Slow0") == before, "another host had to wait"
    new = Session(slow, "reborn")
    assert writes_at(application, "Slow0") == before + 1
    assert not new.previous_ended
    for session in (old, other, stranger, new):
        session.control.keep_alive()


def test_session_of_another_is_left_alone(served: Served, slow: Remote) -> None:
    _, remote = served
    victim = Session(remote, "victim")
    for place, host in ((remote, "thief"), (slow, "victim")):
        new = Session(place, host, more=named(victim))
        assert not new.previous_ended
    with victim.join(1) as queue:
        assert queue.request(READ, ident(0, 1), 0, 1).code == SUCCESS
    victim.control.keep_alive()


@pytest.mark.parametrize(
    "offer, reason",
    [({"export": "no-such-export"}, NOT_ALLOWED), ({"ciphers": b"\1"}, PROTECTION)],
    ids=["not-allowed", "protection"],
)
def test_who_is_refused_ends_nothing(served: Served, offer: dict[str, object], reason: int) -> None:
    _, remote = served
    session = Session(remote, "careful")
    with Connection(remote) as connection:
        fields: dict[str, object] = {"export": remote.export, "host": "careful", "more": named(session)}
        connection.send(hello(**(fields | offer)))  # type: ignore[arg-type]
        assert refusal_of(connection.receive())[0] == reason
    session.control.keep_alive()


def test_sessions_that_are_not_there(served: Served) -> None:
    """The target knows all sessions of its own instance, and nothing about an instance that may run
    elsewhere."""
    _, remote = served
    instance = Session(remote).instance
    assert Session(remote, more=previous(os.urandom(16), instance)).previous_ended
    assert not Session(remote, more=previous(os.urandom(16), os.urandom(16))).previous_ended


def test_other_starts_on_this_machine(served: Served, module_lab: Lab) -> None:
    other = module_lab.spdk_tgt("other", CLIENT_CORES)
    other.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=BLOCK)
    elsewhere = module_lab.transport.serve(other, "Malloc0")
    old = Session(elsewhere)
    assert old.instance != Session(served[1]).instance
    assert not Session(served[1], more=named(old)).previous_ended
    other.kill()
    assert Session(served[1], more=named(old)).previous_ended


def test_cache_is_kept_by_what_has_ended_here_only(lab: Lab) -> None:
    """The export's option does not apply to a target on another machine, whose cache is a different
    one."""
    target, other = lab.target(), lab.spdk_tgt("other", CLIENT_CORES)
    for application in (target, other):
        for bdev in ("Malloc0", "Malloc1"):
            application.rpc.call("bdev_malloc_create", name=bdev, num_blocks=2048, block_size=BLOCK)
    elsewhere, here = lab.transport.serve(other, "Malloc0"), lab.transport.serve(target, "Malloc0")
    target.rpc.call("dst_create_export", name="kept", bdev_name="Malloc1", cache_outlives_target=True)
    target.rpc.call("dst_export_add_host", export="kept", host="*", access="rw")
    kept = Remote(here.address, here.port, "kept")
    assert CACHE_KEPT not in Session(kept).welcome
    strange = previous(os.urandom(16), os.urandom(16))
    assert CACHE_KEPT not in Session(kept, more=strange).welcome
    old = Session(elsewhere)
    assert CACHE_KEPT not in Session(kept, more=named(old)).welcome, "it runs"
    other.kill()
    assert Session(kept, more=named(old)).welcome[CACHE_KEPT] == b"\1"
    # Without the option, the cache does not count as kept, whatever has ended.
    assert CACHE_KEPT not in Session(here, more=named(old)).welcome


def test_who_waits_has_the_time_of_a_handshake(lab: Lab) -> None:
    target = lab.target()
    target.rpc.call("dst_set_options", handshake_timeout_ms=500)
    port = free_port()
    target.rpc.call("dst_create_listener", traddr="127.0.0.1", trsvcid=str(port))
    with slow_export(target, Remote("127.0.0.1", port, ""), SLOW_S) as slow:
        before = writes_at(target, "Slow0")
        old, _ = busy(target, slow, "impatient")
        began = time.monotonic()
        with Connection(slow) as connection, Connection(slow) as gone:
            for waits in (gone, connection):
                waits.send(hello("slow", "impatient", more=named(old)))
            wait_until(lambda: "waits until the backend has" in target.text(), "the hello to wait")
            gone.close()
            connection.assert_closed()
        assert time.monotonic() - began > 0.4
        assert target.rpc.call("dst_get_sessions") == []

        def pending() -> int:
            stats = target.rpc.call("dst_get_stats")
            return stats["handshakes"] + stats["waiting"]

        wait_until(lambda: pending() == 0, "the handshakes to be over")
        wait_until(lambda: writes_at(target, "Slow0") == before + 1, "the write")
        # A connection that has gone is not admitted.
        assert target.rpc.call("dst_get_sessions") == []
        with Connection(slow) as connection:
            connection.send(hello("slow", "impatient", more=named(old)))
            assert connection.receive().kind == WELCOME


def test_queue_that_comes_back_after_its_record_was_given_up(lab: Lab) -> None:
    """The target no longer knows what was executed, so it ends the session and does not start the
    queue again."""
    target = lab.target()
    target.rpc.call("dst_set_options", session_timeout_ms=1000)
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=BLOCK)
    remote = lab.transport.serve(target, "Malloc0")
    session = Session(remote, "forgetful")
    other = session.join(2)
    with session.join(1) as queue:
        queue.send(write(0, 1, 0, bytes(BLOCK)))
        assert queue.receive().code == SUCCESS
    time.sleep(2.5)
    # The others are not affected.
    other.keep_alive()
    session.control.keep_alive()
    with session.say_hello(1, epoch=2) as late:
        assert refusal_of(late.receive())[0] == NO_SESSION
    for connection in (other, session.control):
        connection.assert_closed()
    with session.say_hello(0, epoch=1) as control:
        assert refusal_of(control.receive())[0] == NO_SESSION
    assert Session(remote, "forgetful", more=named(session)).previous_ended
