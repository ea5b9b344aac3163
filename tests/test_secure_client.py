"""A client with a key, and attackers who pose as its target or stand between the two."""

from __future__ import annotations

import re
import socket
import struct
from typing import Callable

import pytest

from harness.channel import Channel
from harness.checker import start_checker
from harness.fake_target import FakeTarget, welcome
from harness.keys import KeyFile, KeyedService
from harness.lab import Lab
from harness.noise import AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, REKEY
from harness.protocol import BUSY, EVENT, GOODBYE, HEADER_LEN, KEEP_ALIVE_ACK, MALFORMED, NOT_ALLOWED, NO_SESSION
from harness.protocol import PROTECTION, REFUSAL, REMOVED, VERSION, WELCOME, attribute, header, receive_frame
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.secure import SECURE, SecureChannel, accept
from harness.service import attach_to
from harness.spdk import Application
from harness.stream import TARGET
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

KEEP_ALIVE_MS = 800

REASONS = {
    "not-allowed": NOT_ALLOWED,
    "version": VERSION,
    "protection": PROTECTION,
    "busy": BUSY,
    "malformed": MALFORMED,
    "no-session": NO_SESSION,
    "unknown": 99,
}


def refusal(reason: int) -> bytes:
    data = attribute(1, struct.pack("<H", reason)) + attribute(2, b"made up")
    return header(REFUSAL, length=len(data)) + data


@pytest.fixture(scope="module")
def client(needs_dst: None, module_lab: Lab) -> Application:
    return module_lab.client()


def attach(client: Application, fake: FakeTarget, key: KeyFile, **options: object) -> None:
    attach_to(client, fake.remote, "fake0", psk_file=key.path, **options)


def detach(client: Application) -> None:
    assert client.rpc.call("bdev_dst_delete", name="fake0") is True


def assert_does_not_attach(client: Application, fake: FakeTarget, key: KeyFile, why: str) -> None:
    with pytest.raises(RpcError) as error:
        attach(client, fake, key, attach_timeout_ms=500, reconnect_delay_ms=100)
    assert why in error.value.message
    assert client.bdev("fake0") is None and client.rpc.call("bdev_dst_get_info") == []
    client.assert_running()


@pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS.keys())
def test_never_without_the_key(lab: Lab, client: Application, reason: int) -> None:
    """Whatever the reply, the client does not fall back to a hello in clear."""
    key, kinds = KeyFile(lab.folder, "key"), []

    def opens(sock: socket.socket) -> Channel:
        channel = Channel(sock)
        kinds.append(receive_frame(channel).kind)
        channel.send(refusal(reason))
        return channel

    fake = FakeTarget(opens=opens)
    lab.on_end(fake.end)
    attach(client, fake, key, wait=False, reconnect_delay_ms=20)
    wait_until(lambda: len(kinds) >= 10, "ten attempts")
    assert set(kinds) == {SECURE}
    assert client.bdev("fake0") is None
    detach(client)


@pytest.mark.parametrize(
    "cipher, version, why",
    [
        (AES_128_GCM, 1, "chose version 1 and cipher aes-128-gcm, which were not offered"),
        (CHACHA20_POLY1305, 1, "chose version 1 and cipher chacha20-poly1305, which were not offered"),
        (0, 1, "chose version 1 and cipher none, which were not offered"),
        (AES_256_GCM, 2, "chose version 2 and cipher aes-256-gcm, which were not offered"),
        (AES_256_GCM, 0, "chose version 0 and cipher aes-256-gcm, which were not offered"),
    ],
)
def test_choice_that_was_not_offered(lab: Lab, client: Application, cipher: int, version: int, why: str) -> None:
    key = KeyFile(lab.folder, "key")
    fake = FakeTarget(opens=accept(key.key, cipher, version), cipher=cipher)
    lab.on_end(fake.end)
    assert_does_not_attach(client, fake, key, why)


def test_target_without_the_key(lab: Lab, client: Application) -> None:
    """A target without the key cannot even read the first message, and the client believes nothing
    that it sends."""
    key, other = KeyFile(lab.folder, "key"), KeyFile(lab.folder, "other")

    def opens(sock: socket.socket) -> Channel:
        channel = Channel(sock)
        asked = receive_frame(channel)
        channel.send(header(11, length=63) + attribute(11, asked.data[-48:-16] + bytes(27)))
        return channel

    for how in (accept(other.key), opens):
        fake = FakeTarget(opens=how)
        lab.on_end(fake.end)
        assert_does_not_attach(client, fake, key, "")


@pytest.mark.parametrize(
    "said", [header(GOODBYE), header(KEEP_ALIVE_ACK), header(WELCOME)], ids=["goodbye", "acknowledgement", "welcome"]
)
def test_something_else_in_place_of_the_answer(lab: Lab, client: Application, said: bytes) -> None:
    """The client ends the attempt at once and waits for nothing more."""
    key, held = KeyFile(lab.folder, "key"), []

    def opens(sock: socket.socket) -> Channel:
        channel = Channel(sock)
        receive_frame(channel)
        channel.send(said)
        # The connection stays open and silent.
        held.append(channel)
        return channel

    fake = FakeTarget(opens=opens)
    lab.on_end(fake.end)
    before = len(client.text())
    attach(client, fake, key, wait=False, reconnect_delay_ms=20)
    wait_until(lambda: len(held) >= 3, "three attempts")
    detach(client)
    assert "the handshake takes too long" not in client.text()[before:]


@pytest.mark.parametrize("length", [1, HEADER_LEN - 1, HEADER_LEN, HEADER_LEN + 1])
def test_welcome_that_begins_in_clear(lab: Lab, client: Application, length: int) -> None:
    """Bytes that an attacker inserts after Secured must not become the beginning of the data in
    records."""
    key = KeyFile(lab.folder, "key")
    place = attribute(1, bytes(16)) + attribute(2, bytes(2)) + attribute(3, bytes(4))
    said = welcome(place, cipher=AES_256_GCM)
    secured = accept(key.key, behind=said[:length])

    def opens(sock: socket.socket) -> Channel:
        channel = secured(sock)
        channel.send(said[length:])
        return channel

    fake = FakeTarget(opens=opens)
    lab.on_end(fake.end)
    assert_does_not_attach(client, fake, key, "the target said more than it was asked")


def test_welcome_that_names_another_cipher(lab: Lab, client: Application) -> None:
    key = KeyFile(lab.folder, "key")
    fake = FakeTarget(opens=accept(key.key), cipher=AES_128_GCM)
    lab.on_end(fake.end)
    assert_does_not_attach(client, fake, key, "cipher aes-128-gcm, which was not offered")


# Bytes after the welcome that must end the connection.
def replayed(channel: SecureChannel) -> bytes:
    record = channel.sends.seal(header(KEEP_ALIVE_ACK))
    return record + record


def reordered(channel: SecureChannel) -> bytes:
    first, second = (channel.sends.seal(header(KEEP_ALIVE_ACK)) for _ in range(2))
    return second + first


def in_clear(channel: SecureChannel) -> bytes:
    return header(KEEP_ALIVE_ACK) * 20


def reflected(channel: SecureChannel) -> bytes:
    return channel.receives.seal(header(KEEP_ALIVE_ACK))


def too_long(channel: SecureChannel) -> bytes:
    return struct.pack("<I", REKEY - 1)


def empty(channel: SecureChannel) -> bytes:
    return channel.sends.seal(b"")


def another_welcome(channel: SecureChannel) -> bytes:
    return channel.sends.seal(header(WELCOME))


FORGERY = "control connection lost: not secure: a record that does not have the peer's tag in this place"
LENGTH = "control connection lost: not secure: a record of [0-9]+ bytes, which no sender makes"


@pytest.mark.parametrize(
    "make, reason",
    [
        (replayed, FORGERY),
        (reordered, FORGERY),
        (in_clear, FORGERY),
        (reflected, FORGERY),
        (too_long, LENGTH),
        (empty, LENGTH),
        (another_welcome, "control connection lost: "),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_records_that_have_no_place(lab: Lab, client: Application, make: Callable[[SecureChannel], bytes], reason: str) -> None:
    key = KeyFile(lab.folder, "key")
    fake = FakeTarget(opens=accept(key.key), cipher=AES_256_GCM, keep_alive_ms=KEEP_ALIVE_MS)
    lab.on_end(fake.end)
    attach(client, fake, key, reconnect_delay_ms=50, keep_alive_timeout_ms=KEEP_ALIVE_MS)
    wait_until(lambda: fake.channels, "the first connection")
    said, channel = len(client.text()), fake.channels[0]
    assert isinstance(channel, SecureChannel)
    channel.send_raw(make(channel))
    wait_until(lambda: re.search(reason, client.text()[said:]), "the client to give the connection up for that reason")
    assert client.bdev("fake0")
    fake.end()
    detach(client)


FORGED = {name: refusal(reason) for name, reason in REASONS.items()} | {
    "removed": header(EVENT, REMOVED),
    "resized": header(EVENT, 1, length=12) + attribute(1, struct.pack("<Q", 1)),
    "goodbye": header(GOODBYE),
    "welcome": header(WELCOME),
}


def test_answers_in_clear_cost_time_and_nothing_else(lab: Lab) -> None:
    """Bytes from an attacker between the two ends have the same effect as a cut: the session stays
    the same, and no I/O fails, not even I/O that cannot be repeated in another session."""
    service = KeyedService(lab)
    proxy = Proxy(service.remote, secured=True)
    lab.on_end(proxy.end)
    checker = start_checker(lab)
    service.attach(checker, remote=proxy.remote, reconnect_delay_ms=50)
    checker.begin_and_flow(compares=20, zeroes=5, flushes=1)
    session, size = service.session()["id"], checker.bdev_bytes("remote0")
    for name, frame in FORGED.items():
        proxy.edit_new(TARGET, lambda _: frame)
        before = proxy.accepted
        proxy.cut()
        wait_until(lambda: proxy.accepted >= before + 6, f"the client to try again and again ({name})")
        proxy.edit_new(TARGET, None)
        checker.wait_flow()
        found = checker.findings()
        assert found.all_failed == found.bad_blocks == 0, f"{name}: {found}"
        assert service.session()["id"] == session, f"{name} has ended the session"
        assert checker.bdev_bytes("remote0") == size
    checker.end().assert_clean()
    checker.verify().assert_clean()
