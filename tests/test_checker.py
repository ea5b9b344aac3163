"""Tests of the tests' own tools: the checker detects errors, and the proxy executes its
commands."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness.checker import BLOCKS, Checker, start_checker
from harness.lab import Lab
from harness.protocol import HEADER_LEN, KEEP_ALIVE, header
from harness.proxy import Flip, Proxy
from harness.stream import CLIENT, TARGET
from harness.transport import Remote
from harness.waiting import wait_until

BLOCK = 4096


@pytest.fixture(scope="module")
def checked(module_lab: Lab) -> tuple[Checker, Path]:
    """A checker that has written to its own bdev, a file, and then stopped its I/O."""
    volume = module_lab.folder / "volume.img"
    volume.write_bytes(bytes(BLOCKS * BLOCK))
    checker = start_checker(module_lab)
    checker.rpc.call("bdev_aio_create", name="Aio0", filename=str(volume), block_size=BLOCK)
    checker.begin_and_flow("Aio0", flushes=1, zeroes=5)
    checker.wait_flow(20_000)
    checker.end().assert_clean()
    checker.verify("Aio0").assert_clean()
    return checker, volume


def blocks_with_data(volume: Path) -> list[int]:
    data = volume.read_bytes()
    return [at for at in range(BLOCKS) if data[at * BLOCK] != 0]


@pytest.mark.parametrize("damage", ["bit", "lost", "elsewhere", "torn", "old"])
def test_checker_sees(checked: tuple[Checker, Path], damage: str) -> None:
    checker, volume = checked
    first, second = blocks_with_data(volume)[:2]
    if damage == "old":
        before = volume.read_bytes()
        checker.begin_and_flow("Aio0")
        checker.wait_flow(20_000)
        checker.end().assert_clean()
    good = volume.read_bytes()
    image = bytearray(good)
    here, there = slice(first * BLOCK, (first + 1) * BLOCK), slice(second * BLOCK, (second + 1) * BLOCK)
    expected = {"bit": "torn", "lost": "zeroes", "elsewhere": "another block", "torn": "torn", "old": "older"}[damage]
    if damage == "bit":
        image[first * BLOCK + 2000] ^= 4
    elif damage == "lost":
        image[here] = bytes(BLOCK)
    elif damage == "elsewhere":
        image[here] = image[there]
    elif damage == "torn":
        image[first * BLOCK + 512 : first * BLOCK + 1024] = bytes(512)
    else:
        image[here] = before[here]
    with open(volume, "r+b") as file:
        file.write(image)
    found = checker.verify("Aio0")
    assert found.bad_blocks == 1 and f"block {first}: " in found.complaints[0] and expected in found.complaints[0], found
    with open(volume, "r+b") as file:
        file.write(good)
    checker.verify("Aio0").assert_clean()


class Pair:
    """A connection through a proxy to the test's own listener."""

    def __init__(self, **options: Any) -> None:
        """`options`: options of the proxy."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(5)
        self.proxy = Proxy(Remote("127.0.0.1", self.listener.getsockname()[1], ""), **options)
        self.client, self.target = self.connect()

    def connect(self) -> tuple[socket.socket, socket.socket]:
        client = socket.create_connection(("127.0.0.1", self.proxy.remote.port), timeout=5)
        target, _ = self.listener.accept()
        target.settimeout(5)
        return client, target

    def close(self) -> None:
        self.proxy.end()
        for sock in (self.client, self.target, self.listener):
            sock.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (chunk := sock.recv(count - len(data))):
        data += chunk
    return data


def test_proxy_forwards(pair: Pair) -> None:
    data = bytes(range(256)) * 40_000
    sender = threading.Thread(target=pair.client.sendall, args=(data,))
    sender.start()
    assert exactly(pair.target, len(data)) == data
    sender.join()
    pair.target.sendall(b"answer")
    assert exactly(pair.client, 6) == b"answer"
    pair.client.close()
    assert pair.target.recv(1) == b""
    wait_until(lambda: pair.proxy.links() == [], "the proxy to forget the connection")


def test_proxy_cuts_at_the_byte(pair: Pair) -> None:
    pair.proxy.cut_after(1000, CLIENT, "fin")
    pair.client.sendall(bytes(5000))
    assert len(exactly(pair.target, 5000)) == 1000
    assert pair.client.recv(1) == b""


def test_proxy_cuts_one_side(pair: Pair) -> None:
    pair.proxy.cut("rst", (CLIENT,))
    with pytest.raises(ConnectionResetError):
        pair.client.recv(1)
    pair.target.sendall(b"to nobody")
    pair.target.settimeout(0.2)
    with pytest.raises(TimeoutError):
        pair.target.recv(1)
    assert pair.proxy.whole_links() == []
    pair.target.close()
    wait_until(lambda: pair.proxy.links() == [], "the proxy to forget the connection")


def test_proxy_holds_and_releases_after_the_sender_left(pair: Pair) -> None:
    pair.proxy.hold()
    pair.client.sendall(b"late")
    pair.client.close()
    wait_until(lambda: pair.proxy.waiting(CLIENT) == 4, "the proxy to take the bytes")
    pair.target.settimeout(0.2)
    with pytest.raises(TimeoutError):
        pair.target.recv(1)
    pair.target.settimeout(5)
    pair.proxy.release()
    assert exactly(pair.target, 5) == b"late"


def test_proxy_drops_what_it_held(pair: Pair) -> None:
    pair.proxy.hold(CLIENT)
    pair.client.sendall(b"gone")
    wait_until(lambda: pair.proxy.waiting(CLIENT) == 4, "the proxy to take the bytes")
    pair.proxy.drop()
    pair.proxy.release()
    pair.client.sendall(b"here")
    assert exactly(pair.target, 4) == b"here"


def test_proxy_delays_and_is_bounded(pair: Pair) -> None:
    pair.proxy.delay(0.2)
    began = time.monotonic()
    pair.client.sendall(b"x")
    assert pair.target.recv(1) == b"x"
    assert time.monotonic() - began >= 0.2
    pair.proxy.hold(CLIENT)
    pair.client.settimeout(0.5)
    with pytest.raises(TimeoutError):
        pair.client.sendall(bytes(64 * 2**20))
    assert pair.proxy.waiting(CLIENT) < 16 * 2**20


def test_proxy_refuses(pair: Pair) -> None:
    pair.proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", pair.proxy.remote.port), timeout=5)
    pair.proxy.accept()
    client, target = pair.connect()
    client.close()
    target.close()


def test_proxy_corrupts_one_header(pair: Pair) -> None:
    frame = header(KEEP_ALIVE, length=100) + bytes(100)
    pair.client.sendall(frame + frame[:10])
    assert exactly(pair.target, 158) == frame + frame[:10]
    # The header that is under way counts as an earlier frame.
    pair.proxy.corrupt_header(CLIENT, 1)
    rest = frame[10:] + frame * 3
    pair.client.sendall(rest)
    got = exactly(pair.target, len(rest))
    wrong = [at for at in range(len(rest)) if got[at] != rest[at]]
    begin = len(frame) - 10 + len(frame)
    assert len(wrong) == 1 and begin <= wrong[0] < begin + HEADER_LEN
    assert struct.pack("B", got[wrong[0]] ^ rest[wrong[0]]).hex().strip("0") in {"1", "2", "4", "8"}
    assert pair.proxy.corrupted == 1


def test_proxy_records() -> None:
    pair = Pair(record=1000)
    try:
        pair.client.sendall(bytes(range(100)))
        assert exactly(pair.target, 100) == bytes(range(100))
        pair.target.sendall(b"y" * 2000)
        exactly(pair.client, 2000)
        second = pair.connect()
        second[0].sendall(b"second")
        exactly(second[1], 6)
        first, other = pair.proxy.recordings()
        assert (first.client, first.target) == (bytes(range(100)), b"y" * 1000)
        assert (other.number, other.client, other.target) == (2, b"second", b"")
        for sock in second:
            sock.close()
    finally:
        pair.close()


def test_proxy_flips_a_bit_of_each_new_connection(pair: Pair) -> None:
    pair.proxy.flip_new([Flip(CLIENT, 3, 0), Flip(TARGET, 0, 7)])
    for client_gets, target_gets in ((b"\0" * 8, b"\0\0\0\1" + b"\0" * 4), (b"\x80" + b"\0" * 7, b"\0" * 8), (b"\0" * 8,) * 2):
        client, target = pair.connect()
        for part in (bytes(3), bytes(5)):
            client.sendall(part)
            target.sendall(part)
        assert (exactly(client, 8), exactly(target, 8)) == (client_gets, target_gets)
        client.close()
        target.close()
    assert pair.proxy.flipped == [Flip(CLIENT, 3, 0), Flip(TARGET, 0, 7)]


def test_proxy_puts_another_frame_in_the_first_ones_place(pair: Pair) -> None:
    pair.proxy.edit_new(CLIENT, lambda frame: header(KEEP_ALIVE, length=1) + frame[-1:])
    client, target = pair.connect()
    frame = header(KEEP_ALIVE, length=100) + bytes(99) + b"!"
    for at in range(0, len(frame), 50):
        client.sendall(frame[at : at + 50])
    client.sendall(frame)
    new = header(KEEP_ALIVE, length=1) + b"!"
    assert exactly(target, len(new) + len(frame)) == new + frame
    client.close()
    target.close()


def test_proxy_corrupts_one_record() -> None:
    pair = Pair(secured=True)
    try:
        clear = header(KEEP_ALIVE, length=10) + bytes(10)
        records = [struct.pack("<I", length) + bytes(length + 16) for length in (10, 500, 10, 600, 700)]
        places = [2, -1, 10]
        pair.client.sendall(clear + records[0])
        assert exactly(pair.target, len(clear + records[0])) == clear + records[0]
        for place in places:
            pair.proxy.corrupt_record(CLIENT, place, 4, least=400)
            for at in range(0, len(records[1]), 7):
                pair.client.sendall(records[1][at : at + 7])
            pair.client.sendall(records[2])
            got = exactly(pair.target, len(records[1] + records[2]))
            wrong = [at for at, byte in enumerate(got) if byte != (records[1] + records[2])[at]]
            assert wrong == [place % len(records[1])]
        assert pair.proxy.corrupted == len(places)
    finally:
        pair.close()
