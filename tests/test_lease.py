"""Leases: the target executes requests of a connection only while the client certainly still
receives its acknowledgements."""

from __future__ import annotations

import os
import signal
import struct
import time

import pytest

from harness.backends import slow_export, writes_at
from harness.lab import Lab
from harness.protocol import ANSWER, Closed, Connection, KEEP_ALIVE, KEEP_ALIVE_ACK, READ, REQUEST, SUCCESS, Session
from harness.protocol import header, ident, write
from harness.served import BLOCK, Served
from harness.spdk import Application

pytestmark = pytest.mark.needs_dst


def counter(application: Application, name: str) -> int:
    return application.rpc.call("dst_get_stats")[name]


def pass_time_until_closed(connection: Connection, deadline: float, has: int | None) -> float:
    """Sends keep-alives that show the acknowledgement `has`. Returns after how many seconds the
    target closed."""
    began = time.monotonic()
    try:
        while time.monotonic() - began < deadline:
            connection.send_keep_alive(has)
            connection.receive()
            time.sleep(0.05)
    except Closed:
        return time.monotonic() - began
    raise AssertionError(f"the connection lives after {deadline:g} s")


def test_signs_of_life_do_not_renew(served: Served) -> None:
    """Bytes may be old: only the echo of an acknowledgement shows that the client receives."""
    application, remote = served
    before = counter(application, "lease_expiries")
    with Session(remote).join(1, keep_alive_ms=1000) as queue:
        assert queue.request(READ, ident(0, 1), 0, 1).code == SUCCESS
        assert pass_time_until_closed(queue, 8, has=0) > 0.9
    assert counter(application, "lease_expiries") == before + 1
    assert "its lease is over" in application.text()


def test_echoes_renew(served: Served) -> None:
    with Session(served[1]).join(1, keep_alive_ms=2000) as queue:
        began, sequence = time.monotonic(), 0
        while time.monotonic() - began < 6:
            queue.keep_alive()
            sequence += 1
            assert queue.request(READ, ident(0, sequence), 0, 1).code == SUCCESS
            time.sleep(0.1)


def test_the_session_itself_needs_echoes(served: Served) -> None:
    session = Session(served[1], keep_alive_ms=500)
    session.control.assert_closed()


def test_delayed_echoes_renew_from_the_acknowledgement(served: Served) -> None:
    """An echo that was under way for long shows only that the client received something long
    ago."""
    with Session(served[1]).join(1, keep_alive_ms=4000) as queue:
        queue.keep_alive()
        acknowledged = time.monotonic()
        time.sleep(3)
        queue.keep_alive()
        queue.assert_closed()
        # Counted from the echo's arrival, it would be 7 s.
        assert time.monotonic() - acknowledged < 6


def test_the_target_limits_the_lease(lab: Lab) -> None:
    target = lab.target()
    target.rpc.call("dst_set_options", max_keep_alive_ms=400)
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=BLOCK)
    session = Session(lab.transport.serve(target, "Malloc0"), keep_alive_ms=60_000)
    assert struct.unpack("<I", session.welcome[9])[0] == 400
    session.control.assert_closed()


def test_numbers_rise(served: Served) -> None:
    for first, second in ((1, 1), (2, 1), (1, 0)):
        with Session(served[1]).join(1) as queue:
            queue.send(header(KEEP_ALIVE, ident=first) + header(KEEP_ALIVE, ident=second))
            queue.assert_closed()


@pytest.mark.parametrize("renewal", ["none", "before", "behind"])
def test_stopped_target_executes_nothing_when_it_goes_on(served: Served, renewal: str) -> None:
    """Writes that wait in the socket while the target is stopped are outdated when it continues."""
    application, remote = served
    lease_ms = 1000
    new = os.urandom(BLOCK)
    before, dropped = writes_at(application, "Malloc0"), counter(application, "dropped")
    session = Session(remote)
    queues = [session.join(number, keep_alive_ms=lease_ms) for number in range(1, 9)]
    for queue in queues:
        queue.keep_alive()
    application.signal(signal.SIGSTOP)
    try:
        for queue in queues:
            if renewal == "before":
                queue.send_keep_alive()
            queue.send(b"".join(write(slot, 1, 8 + slot, bytes(BLOCK)) for slot in range(16)))
            if renewal == "behind":
                queue.send_keep_alive()
        time.sleep(1.5 * lease_ms / 1000)
    finally:
        application.signal(signal.SIGCONT)
    for queue in queues:
        queue.assert_closed()
    with Session(remote, "witness").join(1) as queue:
        assert queue.request(READ, ident(0, 1), 8, 16).data == bytes(16 * BLOCK)
        assert writes_at(application, "Malloc0") == before
        assert counter(application, "dropped") >= dropped + 1
        queue.send(write(0, 2, 8, new))
        assert queue.receive().code == SUCCESS
        assert queue.request(READ, ident(0, 3), 8, 1).data == new
        queue.send(write(0, 4, 8, bytes(BLOCK)))
        assert queue.receive().code == SUCCESS


def test_dropped_requests_may_come_again(served: Served) -> None:
    """Requests that the lease kept from being executed are executed on the queue's next
    connection."""
    application, remote = served
    session = Session(remote)
    data = os.urandom(BLOCK)
    queue = session.join(1, epoch=1, keep_alive_ms=500)
    application.signal(signal.SIGSTOP)
    try:
        queue.send(write(3, 1, 99, data))
        time.sleep(1)
    finally:
        application.signal(signal.SIGCONT)
    queue.assert_closed()
    before = writes_at(application, "Malloc0")
    with session.join(1, epoch=2) as queue:
        for _ in range(2):
            queue.send(write(3, 1, 99, data, flags=2))
            answer = queue.receive()
            assert (answer.kind, answer.code) == (ANSWER, SUCCESS)
        assert queue.request(READ, ident(0, 1), 99, 1).data == data
    assert writes_at(application, "Malloc0") == before + 1


def test_stall_does_not_stop_the_lease(served: Served) -> None:
    """A target that is short of memory shows that it lives, which does not renew the client's
    lease."""
    application, remote = served
    with slow_export(application, remote, 2.0) as slow:
        session = Session(slow)
        queue = session.join(1, keep_alive_ms=900)
        blocks = session.max_transfer // BLOCK
        queue.send(b"".join(header(REQUEST, READ, ident=ident(slot, 1), count=blocks) for slot in range(128)))
        frames = []
        with pytest.raises(Closed):
            while True:
                frames.append(queue.receive())
        # There was no other answer, since the backend takes longer than the lease.
        assert {(frame.kind, frame.ident) for frame in frames} == {(KEEP_ALIVE_ACK, 0)}
