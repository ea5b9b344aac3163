"""Tests the target against docs/protocol.md with a client that was written from it."""

from __future__ import annotations

import os
import random
import struct
from typing import Any, Iterator

import pytest

from harness.protocol import (
    ANSWER,
    BUSY,
    Closed,
    Connection,
    EVENT,
    FLUSH,
    KEEP_ALIVE,
    KEEP_ALIVE_ACK,
    NOT_ALLOWED,
    NOT_SUPPORTED,
    NO_SESSION,
    OUT_OF_RANGE,
    PROTECTION,
    READ,
    REMOVED,
    REQUEST,
    SUCCESS,
    Session,
    SessionRef,
    UNMAP,
    VERSION,
    WELCOME,
    WRITE,
    WRITE_ZEROES,
    header,
    hello,
    ident,
    refusal_of,
)
from harness.served import BLOCK, MIB, Served
from harness.specification import example


def test_examples() -> None:
    """The scripts' encoder agrees with the document, so the other tests test the target and not the
    script."""
    assert hello("vol0", "alpha") == example("hello")
    session = SessionRef(bytes(range(0xA0, 0xB0)), queue=1, epoch=1)
    assert hello("vol0", "alpha", session) == example("join")
    assert header(REQUEST, READ, ident=ident(4, 2), start=256, count=2) == example("read")
    assert header(REQUEST, WRITE, length=8192, ident=ident(3, 1), start=256, count=2) == example("write")
    assert header(KEEP_ALIVE, ident=7) == example("keep-alive")


@pytest.fixture
def served(served: Served) -> Iterator[Served]:
    yield served
    served[0].assert_running()
    # Whatever was sent, the target still serves.
    with Session(served[1], "afterwards").join(1) as queue:
        assert queue.request(READ, ident(0, 1), 0, 1).code == SUCCESS




def test_reads_what_it_wrote(served: Served) -> None:
    session = Session(served[1])
    assert (session.blocks, session.block_size) == (MIB * 2**20 // BLOCK, BLOCK)
    data = os.urandom(8 * BLOCK)
    with session.join(1) as queue:
        assert queue.request(WRITE, ident(0, 1), 16, 8, data).code == SUCCESS
        assert queue.request(FLUSH, ident(1, 1)).code in (SUCCESS, NOT_SUPPORTED)
        assert queue.request(READ, ident(0, 2), 16, 8).data == data
        assert queue.request(WRITE_ZEROES, ident(0, 3), 18, 2).code == SUCCESS
        expected = data[: 2 * BLOCK] + bytes(2 * BLOCK) + data[4 * BLOCK :]
        assert queue.request(READ, ident(0, 4), 16, 8).data == expected


def test_largest_transfer(served: Served) -> None:
    session = Session(served[1])
    count = session.max_transfer // BLOCK
    data = os.urandom(session.max_transfer)
    with session.join(1) as queue:
        assert queue.request(WRITE, ident(0, 1), 0, count, data).code == SUCCESS
        assert queue.request(READ, ident(0, 2), 0, count).data == data
        # One block more is answered, and its data is consumed.
        assert queue.request(READ, ident(0, 3), 0, count + 1).code == OUT_OF_RANGE
        assert queue.request(WRITE, ident(0, 4), 0, count + 1, data + bytes(BLOCK)).code == OUT_OF_RANGE
        assert queue.request(READ, ident(0, 5), 0, count).data == data


@pytest.mark.parametrize("start, count", [(MIB * 2048, 1), (MIB * 2048 - 1, 2), (0, 0), (2**64 - 1, 1), (2**63, 2)])
def test_out_of_range(served: Served, start: int, count: int) -> None:
    with Session(served[1]).join(1) as queue:
        assert queue.request(READ, ident(0, 1), start, count).code == OUT_OF_RANGE
        assert queue.request(UNMAP, ident(0, 2), start, count).code in (OUT_OF_RANGE, NOT_SUPPORTED)
        assert queue.request(WRITE, ident(0, 3), start, count, bytes((count % 2**20) * BLOCK)).code == OUT_OF_RANGE


def test_resent_write_is_executed_once(served: Served) -> None:
    """Another write came later: executing the first one again would bring the old data back."""
    session = Session(served[1])
    old, new = bytes([1]) * BLOCK, bytes([2]) * BLOCK
    first = session.join(1, epoch=1)
    assert first.request(WRITE, ident(0, 1), 5, 1, old).code == SUCCESS
    with session.join(2) as other:
        assert other.request(WRITE, ident(0, 1), 5, 1, new).code == SUCCESS
        # The client never received the answer: the connection is lost, and the queue's next one
        # sends the request again.
        with session.join(1, epoch=2) as second:
            second.send(header(REQUEST, WRITE, 2, BLOCK, ident(0, 1), 5, 1) + old)
            answer = second.receive()
            assert (answer.kind, answer.code, answer.ident) == (ANSWER, SUCCESS, ident(0, 1))
        first.assert_closed()
        assert other.request(READ, ident(0, 2), 5, 1).data == new


def test_late_connection_is_refused(served: Served) -> None:
    session = Session(served[1])
    with session.join(1, epoch=5), Connection(served[1]) as late:
        late.send(hello(session.export, session.host, SessionRef(session.id, 1, 4)))
        assert refusal_of(late.receive()) == (BUSY, "a newer connection has this queue")
        late.assert_closed()


def test_keep_alive_is_answered(served: Served) -> None:
    session = Session(served[1])
    session.control.send(header(KEEP_ALIVE, ident=2**64 - 1))
    answer = session.control.receive()
    assert (answer.kind, answer.ident) == (KEEP_ALIVE_ACK, 2**64 - 1)


def test_unknown_attributes_are_ignored(served: Served) -> None:
    with Connection(served[1]) as connection:
        more = struct.pack("<HH", 60, 3) + b"abc" + (struct.pack("<HH", 200, 0)) * 2
        connection.send(hello(served[1].export, "from-the-future", versions=(1, 9), more=more))
        assert connection.receive().kind == WELCOME


def test_removal_is_told(served: Served) -> None:
    target, remote = served
    target.rpc.call("bdev_malloc_create", name="Malloc1", num_blocks=2048, block_size=BLOCK)
    target.rpc.call("dst_create_export", name="short-lived", bdev_name="Malloc1")
    target.rpc.call("dst_export_add_host", export="short-lived", host="*", access="rw")
    session = Session(remote, export="short-lived")
    assert target.rpc.call("dst_delete_export", name="short-lived") is True
    event = session.control.receive()
    assert (event.kind, event.code) == (EVENT, REMOVED)
    session.control.assert_closed()


def test_random_frames_in_a_session(served: Served) -> None:
    """Frames with a correct CRC and wrong content, from an admitted client."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    extremes = [0, 1, 7, 2**15, MIB * 2048 - 1, MIB * 2048, 2**32 - 1, 2**55, 2**63, 2**64 - 1]
    for _ in range(100):
        with Session(served[1], "hostile").join(1) as queue:
            try:
                for _ in range(20):
                    kind, code = rng.choice([REQUEST, REQUEST, REQUEST, rng.randrange(256)]), rng.randrange(9)
                    length = rng.choice([0, 0, 0, BLOCK, 2 * BLOCK, 4096, 2**32 - 1])
                    name = rng.choice([ident(rng.randrange(140), rng.randrange(4)), rng.choice(extremes)])
                    frame = header(kind, code, rng.randrange(4), length, name, *rng.choices(extremes, k=2))
                    queue.send(frame + rng.randbytes(min(length, 4096)))
            except Closed:
                pass


@pytest.mark.parametrize(
    "offer, reason",
    [
        ({"versions": (2, 9)}, VERSION),
        ({"digests": b"\x09"}, PROTECTION),
        ({"ciphers": b"\1\2\3"}, PROTECTION),
        ({"export": "no-such-export"}, NOT_ALLOWED),
        ({"session": SessionRef(bytes(16), 1, 1)}, NO_SESSION),
    ],
    ids=["version", "digest", "cipher", "export", "session"],
)
def test_refusals(served: Served, offer: dict[str, Any], reason: int) -> None:
    with Connection(served[1]) as connection:
        fields: dict[str, Any] = {"export": served[1].export, "host": "test-script"}
        connection.send(hello(**(fields | offer)))
        assert refusal_of(connection.receive())[0] == reason
        connection.assert_closed()


# Frames that a client must not send on a queue, and for which the target closes the connection.
VIOLATIONS: dict[str, bytes] = {
    "wrong-crc": bytes(48),
    "unknown-kind": header(99),
    "welcome-from-client": header(WELCOME),
    "second-hello": hello("export-Malloc0", "test-script"),
    "keep-alive-with-data": header(KEEP_ALIVE, length=1) + b"x",
    "unknown-operation": header(REQUEST, 99, ident=ident(0, 1)),
    "read-with-data": header(REQUEST, READ, length=BLOCK, ident=ident(0, 1), count=1) + bytes(BLOCK),
    "write-without-data": header(REQUEST, WRITE, ident=ident(0, 1), count=1),
    "write-with-too-much": header(REQUEST, WRITE, length=2 * BLOCK, ident=ident(0, 1), count=1) + bytes(2 * BLOCK),
    "huge-length": header(REQUEST, WRITE, length=2**32 - 1, ident=ident(0, 1), count=2**23),
    "count-times-size-overflows": header(REQUEST, WRITE, length=0, ident=ident(0, 1), count=2**55),
    "slot-not-granted": header(REQUEST, READ, ident=ident(65535, 1), count=1),
    "sequence-zero": header(REQUEST, READ, ident=ident(0, 0), count=1),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_violation_closes(served: Served, violation: str) -> None:
    # Another client of the same export is not affected.
    with Session(served[1], "neighbour").join(1) as neighbour, Session(served[1]).join(1) as queue:
        queue.send(VIOLATIONS[violation])
        queue.assert_closed()
        assert neighbour.request(READ, ident(0, 1), 0, 8).code == SUCCESS


def test_old_sequence_closes(served: Served) -> None:
    with Session(served[1]).join(1) as queue:
        assert queue.request(READ, ident(0, 5), 0, 1).code == SUCCESS
        queue.send(header(REQUEST, READ, ident=ident(0, 4), count=1))
        queue.assert_closed()


def test_request_on_queue_0_closes(served: Served) -> None:
    session = Session(served[1])
    session.control.send(header(REQUEST, READ, ident=ident(0, 1), count=1))
    session.control.assert_closed()
