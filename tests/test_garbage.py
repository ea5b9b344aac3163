"""Hostile bytes on the target's port, while a session beside them works.

They may cost a log line and a closed socket; the session is not affected, and memory stays bounded.
"""

from __future__ import annotations

import random
import resource
import select
import socket
from typing import Callable, Iterator

import pytest

from harness.lab import Lab
from harness.protocol import HEADER_LEN, HELLO, header
from harness.spdk import Job, assert_clean
from harness.transport import Remote
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

MIB = 64
SECONDS = 6
# How long the target may keep a silent connection; its default is 5 s.
SILENCE = 30.0


def connect(remote: Remote) -> socket.socket:
    sock = socket.create_connection((remote.address, remote.port), timeout=10)
    sock.settimeout(SILENCE)
    return sock


def send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError:
        pass  # the target has closed it already, which is its good right


def wait_closed(sock: socket.socket) -> None:
    """Waits until the target has closed the connection, possibly with a reason."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        pass


def random_bytes(rng: random.Random, remote: Remote) -> None:
    for _ in range(100):
        with connect(remote) as sock:
            send(sock, rng.randbytes(rng.choice([1, HEADER_LEN, 4096, 300_000])))
            # Short garbage might be the beginning of a slow message, so the test closes its sending
            # side.
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                continue
            wait_closed(sock)


def good_headers_bad_fields(rng: random.Random, remote: Remote) -> None:
    """The CRCs are correct, so these get further than random bytes: huge lengths, unexpected
    kinds."""
    extremes = [0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
    for number in range(200):
        with connect(remote) as sock:
            length = rng.choice([0, 1, 2**24, 2**31, 2**32 - 1])
            fields = [rng.choice(extremes) for _ in range(3)]
            send(sock, header(number % 12, rng.randrange(256), rng.randrange(2**16), length, *fields))
            send(sock, rng.randbytes(min(length, 4096)))
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                continue
            wait_closed(sock)


def half_header_then_close(rng: random.Random, remote: Remote) -> None:
    whole = header(HELLO, length=100)
    for _ in range(200):
        with connect(remote) as sock:
            send(sock, whole[: rng.randrange(1, HEADER_LEN)])


def half_header_then_silence(rng: random.Random, remote: Remote) -> None:
    whole = header(HELLO, length=100)
    socks = [connect(remote) for _ in range(50)]
    for sock in socks:
        send(sock, whole[: rng.randrange(1, HEADER_LEN)])
    for sock in socks:
        wait_closed(sock)
        sock.close()


def endless_hello(rng: random.Random, remote: Remote) -> None:
    """A hello that arrives a byte at a time would hold its slot for ever if each byte extended its
    time."""
    with connect(remote) as sock:
        send(sock, header(HELLO, length=4000))

        def closed() -> bool:
            send(sock, b"\0")
            readable, _, _ = select.select([sock], [], [], 0.1)
            if not readable:
                return False
            try:
                return not sock.recv(4096)
            except ConnectionError:
                return True

        wait_until(closed, "the target to lose patience", SILENCE)


def thousand_silent(rng: random.Random, remote: Remote) -> None:
    socks = [connect(remote) for _ in range(1000)]
    for sock in socks:
        wait_closed(sock)
        sock.close()


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """1,000 connections need more files than the usual limit, which the target inherits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if wanted < 2048:
        pytest.skip(f"this user may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, soft), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


Hostile = Callable[[random.Random, Remote], None]


@pytest.mark.watchdog(120)
@pytest.mark.parametrize(
    "hostile",
    [
        random_bytes,
        good_headers_bad_fields,
        half_header_then_close,
        half_header_then_silence,
        endless_hello,
        thousand_silent,
    ],
)
def test_garbage(lab: Lab, hostile: Hostile) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    target, remote = lab.malloc_target(MIB)
    perf = lab.bdevperf(remote, Job(seconds=SECONDS), MIB * 2048)
    perf.begin_and_flow("remote0")
    files, rss, lines = target.open_files(), target.rss_mib(), len(target.text().splitlines())

    hostile(random.Random(seed), remote)

    target.assert_running()
    assert_clean(perf.outcome(SECONDS + 60))
    wait_until(lambda: target.open_files() <= files, "the target to close its sockets", SILENCE)
    assert target.rss_mib() < rss + 32
    # At most one line for each connection, and some for summaries.
    assert len(target.text().splitlines()) - lines < 1050
