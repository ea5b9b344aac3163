"""An admitted client that breaks the rules on purpose, or is merely slow.

Whatever it does, the target lives, loses no one else's data, and serves the others.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager
from typing import Iterator

import pytest

from harness.backends import await_requests, slow_export, writes_at
from harness.protocol import (
    ANSWER,
    BUSY,
    Closed,
    Connection,
    HEADER_LEN,
    KEEP_ALIVE,
    NO_SESSION,
    READ,
    REQUEST,
    SUCCESS,
    Session,
    SessionRef,
    WELCOME,
    WRITE,
    header,
    hello,
    ident,
    refusal_of,
)
from harness.served import BLOCK, Served
from harness.transport import Remote
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

# The time that the slow backend takes for each I/O.
SLOW_S = 1.0


@pytest.fixture
def served(served: Served) -> Iterator[Served]:
    yield served
    served[0].assert_running()
    assert_serves(served[1])


@pytest.fixture
def slow(served: Served) -> Iterator[Remote]:
    """An export whose backend takes a second for each I/O."""
    with slow_export(*served, SLOW_S) as remote:
        yield remote


def assert_serves(remote: Remote, host: str = "afterwards") -> None:
    """Small and large requests of another client are answered soon."""
    session = Session(remote, host)
    with session.join(1) as queue:
        began = time.monotonic()
        blocks = session.max_transfer // BLOCK
        for sequence in range(1, 20):
            assert queue.request(READ, ident(0, 2 * sequence), 0, 8).code == SUCCESS
            assert queue.request(READ, ident(0, 2 * sequence + 1), 0, blocks).code == SUCCESS
        assert time.monotonic() - began < 5


def read(slot: int, sequence: int, count: int) -> bytes:
    return header(REQUEST, READ, ident=ident(slot, sequence), count=count)


def connect(remote: Remote, receive_buffer: int | None = None) -> Connection:
    """With a small buffer, the target cannot send much before the client reads."""
    connection = Connection(remote)
    if receive_buffer is not None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(20)
        sock.connect((remote.address, remote.port))
        connection.close()
        connection.channel.socket = sock
    return connection


def deaf(session: Session, queue: int, keep_alive_ms: int = 10_000) -> Connection:
    """Returns a queue's connection whose receive buffer is small."""
    connection = connect(session.remote, 4096)
    connection.session = session
    place = SessionRef(session.id, queue, 1)
    connection.send(hello(session.export, session.host, place, keep_alive_ms=keep_alive_ms))
    assert connection.receive().kind == WELCOME
    return connection


def ask_for_all(queue: Connection, session: Session, slots: int = 128) -> None:
    blocks = session.max_transfer // BLOCK
    queue.send(b"".join(read(slot, 1, blocks) for slot in range(slots)))


def test_slot_used_again_before_its_answer_is_sent(served: Served) -> None:
    """The answer waits to be sent, so the slot is still in use and the waiting data must not
    change."""
    for attempt in range(10):
        session = Session(served[1], f"hasty-{attempt}")
        with deaf(session, 1) as queue:
            ask_for_all(queue, session, 8)
            time.sleep(0.1)
            # Slot 7's answer is after 7 MiB that do not fit into the sockets.
            queue.send(read(7, 2, 1))
            queue.assert_closed()


def test_answers_that_are_not_taken(served: Served) -> None:
    """A client that requests much and reads nothing may keep its own share of the memory, but no
    more."""
    greedy = Session(served[1], "greedy")
    queues = [deaf(greedy, number) for number in range(1, 5)]
    for queue in queues:
        ask_for_all(queue, greedy)
    time.sleep(0.3)
    assert_serves(served[1], "modest")
    for queue in queues:
        queue.close()


@contextmanager
def crowd(served: Served) -> Iterator[None]:
    """One host has more stalled connections with unread requests than the target has buffers."""
    greedy = Session(served[1], "crowd")
    queues = [deaf(greedy, number) for number in range(1, 41)]
    for queue in queues:
        ask_for_all(queue, greedy)
    time.sleep(0.3)
    yield
    for queue in queues:
        queue.close()


def test_many_who_take_nothing_do_not_silence_the_others(served: Served) -> None:
    with crowd(served), Session(served[1], "modest").join(1) as queue:
        assert queue.request(READ, ident(0, 1), 0, 8).code == SUCCESS


def test_many_of_one_host_leave_something_to_the_others(served: Served) -> None:
    """Each connection may take a part of the free memory, but many of them together must leave some
    for others."""
    with crowd(served):
        assert_serves(served[1], "modest")


def test_who_takes_a_little_now_and_then_is_closed(served: Served) -> None:
    """A slow reader occupies memory that others need, just like one that reads nothing."""
    session = Session(served[1], "trickle")
    queue = deaf(session, 1, keep_alive_ms=2000)
    ask_for_all(queue, session, 8)
    began = time.monotonic()

    def closed() -> bool:
        try:
            # The client can predict the acknowledgements, and so keeps its lease without reading.
            queue.send_keep_alive(has=queue.asked)
            time.sleep(0.2)
            return not queue.channel.socket.recv(2048)
        except (Closed, OSError):
            return True

    wait_until(closed, "the target to give the connection up", 10)
    assert time.monotonic() - began > 1.9


def test_who_takes_nothing_is_closed(served: Served) -> None:
    """Signs of life do not help: the target needs the memory of the answers back."""
    session = Session(served[1], "undead")
    queue = deaf(session, 1, keep_alive_ms=1000)
    ask_for_all(queue, session)
    began = time.monotonic()

    def closed() -> bool:
        session.control.send_keep_alive()
        try:
            queue.send_keep_alive()
            return False
        except Closed:
            return True

    wait_until(closed, "the target to give the connection up", 10)
    assert time.monotonic() - began > 0.9


def test_keep_alives_without_end(served: Served) -> None:
    """Unread answers of a slow reader do not pile up."""
    application, remote = served
    session = Session(remote, "chatty")
    before = application.rss_mib()
    with deaf(session, 1) as queue:
        for round in range(300):
            queue.send(b"".join(header(KEEP_ALIVE, ident=1000 * round + number) for number in range(1, 1001)))
            # Only a little is read, so that some always remains.
            queue.channel.socket.recv(4096)
    assert application.rss_mib() < before + 8


def test_half_a_write_holds_up_nobody(served: Served) -> None:
    session = Session(served[1], "half")
    blocks = session.max_transfer // BLOCK
    queues = [session.join(number) for number in range(1, 17)]
    for queue in queues:
        queue.send(header(REQUEST, WRITE, 0, blocks * BLOCK, ident(0, 1), 0, blocks) + bytes(100))
    assert_serves(served[1], "modest")
    for queue in queues:
        queue.close()


def test_hello_in_front_of_what_ends_the_connection(served: Served) -> None:
    """Hello and close come with one read, so the session that the hello opens would have no
    client."""
    application, remote = served
    with connect(remote) as connection:
        connection.send(hello(remote.export, "too-hasty") + bytes(HEADER_LEN))
        connection.assert_closed()
    Session(remote, "afterwards")
    assert 'host "too-hasty"' not in application.text()


def test_session_of_another(served: Served) -> None:
    application, remote = served
    session = Session(remote, "owner")
    application.rpc.call("bdev_malloc_create", name="Malloc2", num_blocks=2048, block_size=BLOCK)
    application.rpc.call("dst_create_export", name="other", bdev_name="Malloc2")
    application.rpc.call("dst_export_add_host", export="other", host="*", access="rw")
    for export, host in ((remote.export, "thief"), ("other", "owner")):
        with connect(remote) as connection:
            connection.send(hello(export, host, SessionRef(session.id, 1, 1)))
            assert refusal_of(connection.receive())[0] == NO_SESSION
            connection.assert_closed()
    with session.join(1) as queue:
        assert queue.request(READ, ident(0, 1), 0, 1).code == SUCCESS
    application.rpc.call("dst_delete_export", name="other")
    application.rpc.call("bdev_malloc_delete", name="Malloc2")


def test_greatest_queue_and_epoch(served: Served) -> None:
    session = Session(served[1], "extreme")
    with session.join(65535, epoch=2**32 - 1) as queue:
        assert queue.request(READ, ident(0, 2**48 - 1), 0, 1).code == SUCCESS
    with session.join(0, epoch=2**32 - 1) as control:
        session.control.assert_closed()
        control.keep_alive()


def test_takeover_waits_for_the_backend_and_keeps_the_record(served: Served, slow: Remote) -> None:
    """Connections of a queue that come and go while the first one's write is still in the
    backend."""
    application = served[0]
    session = Session(slow, "hectic")
    write = header(REQUEST, WRITE, 0, BLOCK, ident(3, 1), 0, 1) + os.urandom(BLOCK)
    before = writes_at(application, "Slow0")
    first = session.join(1, epoch=1)
    began = time.monotonic()
    first.send(write)
    await_requests(application, "hectic", "writes", 1)

    def say_hello(epoch: int) -> Connection:
        connection = connect(slow)
        connection.send(hello("slow", "hectic", SessionRef(session.id, 1, epoch)))
        return connection

    gone = say_hello(2)
    time.sleep(0.05)
    gone.close()
    superseded = say_hello(3)
    time.sleep(0.05)
    waiting = say_hello(5)
    superseded.assert_closed()
    with say_hello(4) as late:
        assert refusal_of(late.receive())[0] == BUSY
    first.assert_closed()
    assert waiting.receive().kind == WELCOME
    assert time.monotonic() - began > 0.9 * SLOW_S, "welcomed while the old connection's write was in the backend"
    # A connection that waited for its turn and left does not take the record with it.
    waiting.send(write)
    answer = waiting.receive()
    assert (answer.kind, answer.code, answer.ident) == (ANSWER, SUCCESS, ident(3, 1))
    assert writes_at(application, "Slow0") == before + 1
    waiting.close()


def test_join_and_leave_at_once_keeps_the_record(served: Served) -> None:
    """The record is handed to a connection that is gone when it arrives, and must come back."""
    application, remote = served
    session = Session(remote, "fleeting")
    data = os.urandom(BLOCK)
    write = header(REQUEST, WRITE, 0, BLOCK, ident(0, 1), 9, 1) + data
    with session.join(1, epoch=1) as queue:
        assert queue.request(WRITE, ident(0, 1), 9, 1, data).code == SUCCESS
    before = writes_at(application, "Malloc0")
    for epoch in range(2, 302):
        with connect(remote) as connection:
            connection.send(hello(session.export, session.host, SessionRef(session.id, 1, epoch)))
    with session.join(1, epoch=302) as queue:
        queue.send(write)
        assert queue.receive().code == SUCCESS
    assert writes_at(application, "Malloc0") == before


@pytest.mark.parametrize("while_joining", [False, True], ids=["", "while-joining"])
def test_export_is_deleted_under_slow_requests(served: Served, slow: Remote, while_joining: bool) -> None:
    application = served[0]
    session = Session(slow, "surprised")
    queue = session.join(1, epoch=1)
    queue.send(b"".join(read(slot, 1, 1) for slot in range(64)))
    await_requests(application, "surprised", "reads", 64)
    if while_joining:
        with connect(slow) as connection:
            connection.send(hello("slow", "surprised", SessionRef(session.id, 1, 2)))
            time.sleep(0.05)
            assert application.rpc.call("dst_delete_export", name="slow") is True
            connection.assert_closed()
    else:
        assert application.rpc.call("dst_delete_export", name="slow") is True
    queue.assert_closed()
    session.control.assert_closed()


def test_rights_that_get_less_end_the_session(served: Served) -> None:
    """Rights are checked at the attach, so a session must not outlive the rights with which it was
    attached."""
    application, remote = served
    call = application.rpc.call
    call("bdev_malloc_create", name="Malloc3", num_blocks=2048, block_size=BLOCK)
    call("dst_create_export", name="rights", bdev_name="Malloc3")
    call("dst_export_add_host", export="rights", host="*", access="ro")
    call("dst_export_add_host", export="rights", host="writer", access="rw")
    other = Session(remote, "reader", "rights")
    # Its own entry is removed; `*`, which may only read, would still admit it.
    session = Session(remote, "writer", "rights")
    queue = session.join(1)
    call("dst_export_remove_host", export="rights", host="writer")
    queue.assert_closed()
    session.control.assert_closed()
    # The host gets its own entry, which grants less than `*` does.
    call("dst_export_remove_host", export="rights", host="*")
    other.control.assert_closed()
    call("dst_export_add_host", export="rights", host="*", access="rw")
    session, other = Session(remote, "writer", "rights"), Session(remote, "reader", "rights")
    call("dst_export_add_host", export="rights", host="writer", access="ro")
    session.control.assert_closed()
    other.control.keep_alive()
    call("dst_delete_export", name="rights")
    call("bdev_malloc_delete", name="Malloc3")
