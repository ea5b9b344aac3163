"""Data digests: negotiated, checked at both ends, and data that does not match is sent again."""

from __future__ import annotations

import os

import pytest

from harness.checker import Findings, start_checker
from harness.fake_target import FakeTarget, Memory, answer
from harness.lab import Lab
from harness.protocol import (
    ANSWER,
    CORRUPT,
    CRC32C,
    DIGEST,
    PROTECTION,
    READ,
    REQUEST,
    RESENT,
    SUCCESS,
    WELCOME,
    WRITE,
    Connection,
    Frame,
    Session,
    crc32c,
    header,
    hello,
    ident,
    refusal_of,
)
from harness.served import BLOCK, Served
from harness.service import attach_to

pytestmark = pytest.mark.needs_dst

OFFER = bytes([CRC32C, 0])


def write(sequence: int, data: bytes, digest: int, flags: int = DIGEST) -> bytes:
    count = len(data) // BLOCK
    return header(REQUEST, WRITE, flags, len(data), ident(0, sequence), 8, count, digest) + data


def test_a_write_that_was_changed_is_not_executed(served: Served) -> None:
    target, remote = served
    before = target.rpc.call("dst_get_stats")["corrupt"]
    # One size is received through the buffer, the other straight into its destination.
    for blocks in (1, 200):
        with Session(remote, digests=OFFER).join(1) as queue:
            old, new = os.urandom(blocks * BLOCK), os.urandom(blocks * BLOCK)
            queue.send(write(1, old, crc32c(old)))
            assert queue.receive().code == SUCCESS
            changed = bytes([new[0] ^ 1]) + new[1:]
            queue.send(write(2, changed, crc32c(new)))
            answer = queue.receive()
            assert (answer.kind, answer.code, answer.ident) == (ANSWER, CORRUPT, ident(0, 2))
            read = queue.request(READ, ident(1, 3), 8, blocks)
            assert read.data == old and read.digest == crc32c(old)
            # The same transaction again, undamaged.
            queue.send(write(2, new, crc32c(new)))
            assert queue.receive().code == SUCCESS
            assert queue.request(READ, ident(1, 4), 8, blocks).data == new
    assert target.rpc.call("dst_get_stats")["corrupt"] == before + 2


def test_a_digest_is_there_if_and_only_if_it_was_agreed(served: Served) -> None:
    data = bytes(BLOCK)
    with Session(served[1], digests=OFFER).join(1) as queue:
        queue.send(write(1, data, 0, flags=0))
        queue.assert_closed()
    with Session(served[1]).join(1) as queue:
        queue.send(write(1, data, crc32c(data)))
        queue.assert_closed()
    with Session(served[1]).join(1) as queue:
        assert queue.request(READ, ident(0, 1), 0, 1).digest is None


def test_an_export_may_demand_digests(served: Served) -> None:
    target, remote = served
    target.rpc.call("bdev_malloc_create", name="Careful", num_blocks=2048, block_size=BLOCK)
    target.rpc.call("dst_create_export", name="careful", bdev_name="Careful", require_digest=True)
    target.rpc.call("dst_export_add_host", export="careful", host="*", access="rw")
    for offer in (b"\0", b"\x09\0"):
        with Connection(remote) as connection:
            connection.send(hello("careful", "test-script", digests=offer))
            assert refusal_of(connection.receive())[0] == PROTECTION
    # This holds even if the client prefers none.
    with Connection(remote) as connection:
        connection.send(hello("careful", "test-script", digests=bytes([0, CRC32C])))
        assert connection.receive().kind == WELCOME
    target.rpc.call("dst_delete_export", name="careful")


def test_a_read_that_was_changed_is_asked_for_again(lab: Lab) -> None:
    """The data is received straight into its destination; the damaged data must not stay there."""
    blocks = 128

    class Changed(Memory):
        reads: list[Frame] | None = None

        def answer(self, request: Frame) -> bytes:
            if request.code != READ or self.reads is None:
                return super().answer(request)
            self.reads.append(request)
            data = bytes(self.data[: blocks * BLOCK])
            said = data if len(self.reads) > 1 else data[:-1] + bytes([data[-1] ^ 1])
            return answer(request, said, crc32c(data))

    memory = Changed(has_digests=True)
    fake = FakeTarget(digest=CRC32C, serves=memory)
    lab.on_end(fake.end)
    checker = start_checker(lab, blocks=blocks)
    attach_to(checker, fake.remote)
    checker.begin("remote0", reads=0, io_blocks=blocks, depth=4)
    checker.wait_flow(50)
    checker.end().assert_clean()
    reads = memory.reads = []

    def corrupt() -> int:
        (info,) = checker.rpc.call("bdev_dst_get_info", name="remote0")
        return info["counters"]["corrupt"]

    assert corrupt() == 0
    place = {"bdev": "remote0", "journal": str(checker.journal), "blocks": blocks, "reactors": 1}
    found = Findings(**checker.rpc.call("check_verify", io_blocks=blocks, depth=1, **place))
    found.assert_clean()
    assert found.compared_blocks == blocks and [request.count for request in reads] == [blocks] * 2
    assert [request.flags & RESENT for request in reads] == [0, RESENT] and reads[0].ident == reads[1].ident
    assert corrupt() == 1
    (info,) = checker.rpc.call("bdev_dst_get_info", name="remote0")
    assert info["counters"]["connections_lost"] == 0


def test_what_was_agreed_is_shown(served: Served, lab: Lab) -> None:
    target, remote = served
    client = lab.client()
    for name, digest in (("with", {}), ("without", {"digest": "none"})):
        method, params = lab.transport.attach_call(name, remote)
        client.rpc.call(method, **params | digest)
        wanted = digest.get("digest", "crc32c")
        (info,) = client.rpc.call("bdev_dst_get_info", name=name)
        assert info["negotiated"]["digest"] == info["digest"] == wanted
        (session,) = [s for s in target.rpc.call("dst_get_sessions") if s["host"] == "test-client"]
        assert session["digest"] == wanted
        client.rpc.call("bdev_dst_delete", name=name)
