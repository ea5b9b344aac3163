"""Clients that have a key and break the rules of a secured connection, and attackers without a key
that replay what they recorded."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness.channel import Channel, Closed
from harness.checker import Checker, start_checker
from harness.fake_target import FakeTarget
from harness.keys import HOST, KeyFile, KeyedService
from harness.lab import Lab
from harness.noise import AES_256_GCM, RECORD_MAX, REKEY, TAG_LEN
from harness.protocol import ANSWER, Connection, HEADER_LEN, NO_SESSION, READ, REQUEST, SUCCESS, WELCOME, Session
from harness.protocol import SessionRef, attribute, header, hello, ident, receive_frame, refusal_of, write
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.secure import NOISE, SECURE, SECURED, Initiator, Key, SecureChannel, offer
from harness.service import BLOCK
from harness.transport import Remote
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

CIPHERS = bytes([AES_256_GCM])


@pytest.fixture(scope="module")
def service(needs_dst: None, module_lab: Lab) -> KeyedService:
    service = KeyedService(module_lab, options={"handshake_timeout_ms": 1000})
    other = KeyFile(module_lab.folder, "other.psk", service.at_target.key)
    service.application.rpc.call(
        "dst_export_add_host", export="volume", host="other", access="rw", psk_file=other.path
    )
    return service


@pytest.fixture
def keyed(service: KeyedService) -> Iterator[KeyedService]:
    """Checks that the target lives and admits a client that keeps the rules."""
    yield service
    service.application.assert_running()
    with open_session(service).join(1) as queue:
        assert queue.request(READ, ident(0, 1), 0, 256).code == SUCCESS


def open_session(service: KeyedService, host: str = HOST) -> Session:
    return Session(service.remote, host, dial=Key(service.at_target.key).dial, ciphers=CIPHERS)


def secured(service: KeyedService, host: str = HOST) -> tuple[Connection, SecureChannel]:
    """Returns a connection on which no hello was sent yet."""
    connection = Key(service.at_target.key).dial(service.remote, "volume", host)
    assert isinstance(connection.channel, SecureChannel)
    return connection, connection.channel


def channel_of(connection: Connection) -> SecureChannel:
    assert isinstance(connection.channel, SecureChannel)
    return connection.channel


def read(sequence: int, slot: int = 0) -> bytes:
    return header(REQUEST, READ, ident=ident(slot, sequence), count=1)


def assert_nothing_more(connection: Connection) -> None:
    """Checks that the target closes without an answer to what it must not accept."""
    with pytest.raises(Closed):
        frame = connection.receive()
        raise AssertionError(f"answered with {frame}")


def test_second_key_agreement(keyed: KeyedService) -> None:
    """The hello in records must name the same host, whose identity was proven once."""
    connection, _ = secured(keyed)
    connection.send(Initiator(keyed.at_target.key, offer("volume", "other")).frame)
    assert_nothing_more(connection)


@pytest.mark.parametrize("length", [1, HEADER_LEN - 1, HEADER_LEN, HEADER_LEN + 1])
def test_frame_that_begins_in_clear(keyed: KeyedService, length: int) -> None:
    """Bytes that an attacker inserts after Secure must not become the beginning of the data in
    records."""
    first = hello("volume", HOST, ciphers=CIPHERS)
    connection = Connection(keyed.remote)
    initiator = Initiator(keyed.at_target.key, offer("volume", HOST))
    connection.send(initiator.frame + first[:length])
    try:
        connection.channel = initiator.finish(connection.receive(), connection.channel.socket)
        connection.send(first[length:])
    except (Closed, OSError):
        return
    assert_nothing_more(connection)


def test_key_that_was_shown_for_an_entry_that_is_gone(keyed: KeyedService) -> None:
    """The key agreement of a removed entry does not count for the next entry, which may have
    another key under the same file name."""
    rpc, key = keyed.application.rpc, KeyFile(Path(keyed.at_target.path).parent, "other.psk", keyed.at_target.key)
    connection, _ = secured(keyed, "other")
    stays, _ = secured(keyed)
    rpc.call("dst_export_remove_host", export="volume", host="other")
    key.write(os.urandom(32))
    rpc.call("dst_export_add_host", export="volume", host="other", access="rw", psk_file=key.path)
    with contextlib.suppress(Closed, OSError):
        connection.send(hello("volume", "other", ciphers=CIPHERS))
    assert_nothing_more(connection)
    # A connection of another host is not affected.
    stays.send(hello("volume", HOST, ciphers=CIPHERS))
    assert stays.receive().kind == WELCOME
    stays.close()
    rpc.call("dst_export_remove_host", export="volume", host="other")
    key.write(keyed.at_target.key)
    rpc.call("dst_export_add_host", export="volume", host="other", access="rw", psk_file=key.path)


def test_key_that_was_shown_for_an_export_that_is_gone(keyed: KeyedService) -> None:
    """Nor does it count for another export of the same name."""
    rpc, folder = keyed.application.rpc, Path(keyed.at_target.path).parent
    old = os.urandom(32)
    key = KeyFile(folder, "again.psk", old)

    def create() -> None:
        rpc.call("dst_create_export", name="again", bdev_name="Malloc1")
        rpc.call("dst_export_add_host", export="again", host=HOST, access="rw", psk_file=key.path)

    rpc.call("bdev_malloc_create", name="Malloc1", num_blocks=2048, block_size=BLOCK)
    create()
    connection = Key(old).dial(keyed.remote, "again", HOST)
    stays, _ = secured(keyed)
    assert rpc.call("dst_delete_export", name="again") is True
    key.write(os.urandom(32))
    create()
    with contextlib.suppress(Closed, OSError):
        connection.send(hello("again", HOST, ciphers=CIPHERS))
    assert_nothing_more(connection)
    # A connection for another export is not affected.
    stays.send(hello("volume", HOST, ciphers=CIPHERS))
    assert stays.receive().kind == WELCOME
    stays.close()
    with Key(key.key).dial(keyed.remote, "again", HOST) as newer:
        newer.send(hello("again", HOST, ciphers=CIPHERS))
        assert newer.receive().kind == WELCOME
    rpc.call("dst_delete_export", name="again")
    rpc.call("bdev_malloc_delete", name="Malloc1")


# For a queue that has been answered once. Each function makes bytes that the target must not
# accept.
def replayed(channel: SecureChannel) -> bytes:
    record = channel.sends.seal(read(2))
    channel.send_raw(record)
    assert receive_frame(channel).kind == ANSWER
    return record


def reordered(channel: SecureChannel) -> bytes:
    first, second = channel.sends.seal(read(2)), channel.sends.seal(read(3))
    return second + first


def left_out(channel: SecureChannel) -> bytes:
    channel.sends.seal(read(2))
    return channel.sends.seal(read(3))


def in_clear(channel: SecureChannel) -> bytes:
    return b"".join(read(sequence) for sequence in range(2, 20))


def with_a_wrong_tag(channel: SecureChannel) -> bytes:
    record = channel.sends.seal(read(2))
    return record[:-TAG_LEN] + bytes(TAG_LEN)


def with_a_flag_that_is_not_meant(channel: SecureChannel) -> bytes:
    record = channel.sends.seal(read(2))
    return struct.pack("<I", struct.unpack_from("<I", record)[0] | REKEY) + record[4:]


def with_the_next_key_too_early(channel: SecureChannel) -> bytes:
    channel.sends.seal(b"not sent", changes_key=True)
    return channel.sends.seal(read(2))


def with_the_key_of_the_other_direction(channel: SecureChannel) -> bytes:
    return channel.receives.seal(read(2))


def empty(channel: SecureChannel) -> bytes:
    return channel.sends.seal(b"")


def too_long(channel: SecureChannel) -> bytes:
    return channel.sends.seal(read(2) + bytes(RECORD_MAX))


def as_long_as_can_be(channel: SecureChannel) -> bytes:
    return struct.pack("<I", REKEY - 1) + bytes(100)


def a_hello_again(channel: SecureChannel) -> bytes:
    return channel.sends.seal(hello("volume", HOST, ciphers=CIPHERS))


def a_secure_again(channel: SecureChannel) -> bytes:
    return channel.sends.seal(Initiator(bytes(32), offer("volume", HOST)).frame)


RECORDS = [
    replayed,
    reordered,
    left_out,
    in_clear,
    with_a_wrong_tag,
    with_a_flag_that_is_not_meant,
    with_the_next_key_too_early,
    with_the_key_of_the_other_direction,
    empty,
    too_long,
    as_long_as_can_be,
    a_hello_again,
    a_secure_again,
]


@pytest.mark.parametrize("make", RECORDS, ids=[make.__name__ for make in RECORDS])
def test_records_that_have_no_place(keyed: KeyedService, make: Any) -> None:
    session = open_session(keyed)
    with session.join(1) as queue:
        assert queue.request(READ, ident(0, 1), 0, 1).code == SUCCESS
        queue.channel.socket.sendall(make(channel_of(queue)))
        assert_nothing_more(queue)
    # The session is not harmed: the client that has its keys comes back.
    with session.join(1, epoch=2) as queue:
        assert queue.request(READ, ident(0, 9), 0, 1).code == SUCCESS


def test_a_record_that_is_cut(keyed: KeyedService) -> None:
    """The cut is at each byte of the message."""
    session = open_session(keyed)
    data = os.urandom(BLOCK)
    for epoch, left in enumerate(range(1, 100), start=1):
        with session.join(1, epoch=epoch) as queue:
            record = channel_of(queue).sends.seal(write(0, 1, 8, data, BLOCK))
            queue.channel.socket.sendall(record[:-left])
            queue.channel.socket.shutdown(socket.SHUT_WR)
            assert_nothing_more(queue)
    with session.join(1, epoch=1000) as queue:
        assert queue.request(READ, ident(1, 2), 8, 1).data == bytes(BLOCK)


def test_frames_may_be_cut_into_records_anyhow(keyed: KeyedService) -> None:
    with open_session(keyed).join(1) as queue:
        data, sends = os.urandom(4 * BLOCK), channel_of(queue).sends
        frames = write(0, 1, 0, data, BLOCK) + read(1, slot=1)
        # Records of one byte each; then with a new key each; then both frames in one record.
        queue.channel.socket.sendall(b"".join(sends.seal(frames[at : at + 1]) for at in range(len(frames))))
        assert [queue.receive().code for _ in range(2)] == [SUCCESS, SUCCESS]
        frames = write(0, 2, 0, data, BLOCK) + read(2, slot=1)
        parts = [frames[at : at + 10] for at in range(0, len(frames), 10)]
        queue.channel.socket.sendall(b"".join(sends.seal(part, changes_key=True) for part in parts))
        assert [queue.receive().code for _ in range(2)] == [SUCCESS, SUCCESS]
        queue.channel.socket.sendall(sends.seal(write(0, 3, 0, data[:BLOCK], BLOCK) + read(3, slot=1)))
        assert [queue.receive().code for _ in range(2)] == [SUCCESS, SUCCESS]
        assert queue.request(READ, ident(0, 4), 0, 4).data == data


def test_secure_that_can_not_be_read(keyed: KeyedService) -> None:
    good = Initiator(keyed.at_target.key, offer("volume", HOST)).frame
    bound, noise = offer("volume", HOST), good[-48:]

    def frame(data: bytes) -> bytes:
        return header(SECURE, length=len(data)) + data

    for bad in (
        frame(b""),
        frame(bound),
        frame(attribute(NOISE, noise)),
        frame(bound + attribute(NOISE, noise) + attribute(70, b"behind")),
        frame(bound + attribute(NOISE, bytes(257))),
        frame(bound + bound + attribute(NOISE, noise)),
        frame((bound + attribute(NOISE, noise))[:-1]),
        header(SECURE, length=5000) + bytes(5000),
        # A client could not know yet that this is right.
        good + good,
        good + b"\0",
        good + hello("volume", HOST),
        header(SECURED, length=len(good) - 48) + good[48:],
    ):
        with Connection(keyed.remote) as connection:
            connection.send(bad)
            with pytest.raises(Closed):
                # The target may have answered before it received the rest.
                assert connection.receive().kind == SECURED
                connection.receive()
    # These are refused in the same way as a wrong key.
    for short in (b"", noise[:1], noise[:47], noise + b"\0", bytes(48), bytes(256)):
        with Connection(keyed.remote) as connection:
            connection.send(frame(bound + attribute(NOISE, short)))
            assert refusal_of(connection.receive())[1] == "not allowed"
            connection.assert_closed()


def test_hello_in_clear_behind_the_key_agreement(keyed: KeyedService) -> None:
    connection, channel = secured(keyed)
    with connection:
        channel.send_raw(hello("volume", HOST))
        assert_nothing_more(connection)


def test_session_of_another_with_the_same_key(keyed: KeyedService) -> None:
    session = open_session(keyed)
    connection, _ = secured(keyed, "other")
    with connection:
        connection.send(hello("volume", "other", SessionRef(session.id, 1, 1), ciphers=CIPHERS))
        assert refusal_of(connection.receive())[0] == NO_SESSION
        connection.assert_closed()
    with session.join(1) as queue:
        assert queue.request(READ, ident(0, 1), 0, 1).code == SUCCESS


def test_half_a_record_holds_up_nobody(keyed: KeyedService) -> None:
    session = open_session(keyed)
    queues = [session.join(number) for number in range(1, 17)]
    for queue in queues:
        record = channel_of(queue).sends.seal(write(0, 1, 0, bytes(4 * BLOCK), BLOCK)[:RECORD_MAX])
        queue.channel.socket.sendall(record[:-1])
    with open_session(keyed, "other").join(1) as other:
        for sequence in range(1, 20):
            assert other.request(READ, ident(0, sequence), 0, 256).code == SUCCESS
    for queue in queues:
        queue.close()


def test_silence_behind_the_key_agreement(keyed: KeyedService) -> None:
    """A connection counts as a handshake for as long as it takes."""
    connections = [secured(keyed)[0] for _ in range(20)]
    assert keyed.application.rpc.call("dst_get_stats")["handshakes"] >= 20
    for connection in connections:
        assert_nothing_more(connection)
    assert keyed.application.rpc.call("dst_get_stats")["handshakes"] == 0


def test_who_has_shown_a_key_does_not_make_room_for_silence(lab: Lab) -> None:
    """This holds even if it came first and no address has more connections."""
    service = KeyedService(lab, options={"handshake_timeout_ms": 60_000, "max_handshakes": 4})
    connection, _ = secured(service)
    place = (service.remote.address, service.remote.port)
    with contextlib.ExitStack() as silent:
        for number in range(20):
            silent.enter_context(socket.create_connection(place, 10, (f"127.0.1.{1 + number}", 0)))
        evicted = lambda: service.application.rpc.call("dst_get_stats")["handshakes_evicted"]
        wait_until(lambda: evicted() == 17, "most of the silent ones to be evicted")
        connection.send(hello("volume", HOST, ciphers=CIPHERS))
        assert connection.receive().kind == WELCOME
    connection.close()


# The bytes that an attacker on the path can replay.


def heard(lab: Lab) -> tuple[KeyedService, Checker, Proxy]:
    """Records a session under load, including connections that have ended."""
    service = KeyedService(lab)
    proxy = Proxy(service.remote, secured=True, record=2**20)
    lab.on_end(proxy.end)
    checker = start_checker(lab)
    service.attach(checker, remote=proxy.remote, reconnect_delay_ms=10)
    checker.begin_and_flow(compares=10, zeroes=5)
    proxy.cut()
    checker.wait_flow()
    return service, checker, proxy


def standing(service: KeyedService, checker: Checker) -> tuple[Any, ...]:
    """Returns the state that must not change."""
    session = service.session()
    queues = [(queue["queue"], queue["epoch"], queue["peer"], queue["state"]) for queue in session["queues"]]
    (info,) = checker.rpc.call("bdev_dst_get_info", name="remote0")
    return session["host"], queues, info["state"], info["counters"]["connections_lost"]


def repeat(remote: Remote, secure: bytes, records: bytes) -> bytes:
    """Returns the target's reply to the first frame; it closes without a reply to what follows."""
    with Connection(remote) as connection:
        connection.send(secure)
        answer = connection.receive()
        assert answer.kind == SECURED
        try:
            connection.send(records)
        except Closed:
            # The target closes at the first of the records.
            return answer.data
        assert_nothing_more(connection)
        return answer.data


def test_replayed_connections(lab: Lab) -> None:
    """Each replay takes part in the key agreement, with a new ephemeral key of the target, and is
    detected at the first record."""
    service, checker, proxy = heard(lab)
    before = standing(service, checker)
    recordings = proxy.recordings()
    assert len(recordings) >= 4
    # This includes the connections of the live session, and Secures followed by the records of
    # other connections.
    for first in recordings:
        length = HEADER_LEN + struct.unpack_from("<I", first.client, 4)[0]
        for other in recordings:
            answer = repeat(service.remote, first.client[:length], other.client[length:])
            assert answer not in first.target
    assert standing(service, checker) == before
    checker.wait_flow()
    checker.end().assert_clean()
    checker.verify().assert_clean()
    wait_until(lambda: service.application.rpc.call("dst_get_stats")["handshakes"] == 0, "the replays to be forgotten")


def test_replayed_target(lab: Lab) -> None:
    """A recorded reply of a target does not fit a client with a new ephemeral key."""
    service, checker, proxy = heard(lab)
    checker.end().assert_clean()
    recording = proxy.recordings()[0]

    def opens(sock: socket.socket) -> Channel:
        channel = Channel(sock)
        assert receive_frame(channel).kind == SECURE
        channel.send(recording.target)
        return channel

    fake = FakeTarget(opens=opens)
    lab.on_end(fake.end)
    client = lab.client()
    with pytest.raises(RpcError, match="attach_timeout_ms"):
        service.attach(client, "remote1", Remote("127.0.0.1", fake.remote.port, "volume"), attach_timeout_ms=1000)
    assert fake.connections > 1 and not fake.hellos
    assert client.bdev("remote1") is None and client.rpc.call("bdev_dst_get_info") == []
