"""The tests' own tools: that the checker sees what is wrong, and that the proxy does what it is told."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

from harness.checker import BLOCKS, Checker, start_checker
from harness.lab import Lab
from harness.protocol import HEADER_LEN, KEEP_ALIVE, header
from harness.proxy import Proxy
from harness.stream import CLIENT
from harness.transport import Remote
from harness.waiting import wait_until

BLOCK = 4096


@pytest.fixture(scope="module")
def checked(module_lab: Lab) -> tuple[Checker, Path]:
    """A checker that has written to a file, a bdev of its own, and nothing else runs."""
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
    """A connection through a proxy, to a listener of the test's own."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(5)
        self.proxy = Proxy(Remote("127.0.0.1", self.listener.getsockname()[1], ""))
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
    # The header that is under way counts as a frame before.
    pair.proxy.corrupt_header(CLIENT, 1)
    rest = frame[10:] + frame * 3
    pair.client.sendall(rest)
    got = exactly(pair.target, len(rest))
    wrong = [at for at in range(len(rest)) if got[at] != rest[at]]
    begin = len(frame) - 10 + len(frame)
    assert len(wrong) == 1 and begin <= wrong[0] < begin + HEADER_LEN
    assert struct.pack("B", got[wrong[0]] ^ rest[wrong[0]]).hex().strip("0") in {"1", "2", "4", "8"}
    assert pair.proxy.corrupted == 1
