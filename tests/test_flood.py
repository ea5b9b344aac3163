"""Floods of connections that are never admitted, while a client with the key works: none of its I/O
fails, and the target's memory stays bounded.

The remaining speed is printed and not asserted.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import pytest

from harness.checker import Checker, start_checker
from harness.keys import HOST, KeyedService
from harness.lab import Lab
from harness.protocol import HEADER_LEN, HELLO, REFUSAL, header
from harness.secure import offer, secure
from harness.transport import Remote

pytestmark = pytest.mark.needs_dst

CONNECTIONS = 10_000
# The number of unauthenticated connections that the test keeps open, even after the target may have
# closed them.
KEPT = 500
ATTEMPTS, RATE = 4000, 1000
# The additional memory that the target may use for all this, MiB.
MEMORY = 32.0
LOAD = {"depth": 16, "io_blocks": 2, "reads": 50, "compares": 5}


@dataclass(frozen=True)
class Spent:
    """Returns the CPU time of a process in seconds."""

    user: float
    system: float
    waited: float
    """The time for which it waited for its core."""

    @staticmethod
    def of(pid: int) -> Spent:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        tick = os.sysconf("SC_CLK_TCK")
        waited = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
        return Spent(int(fields[11]) / tick, int(fields[12]) / tick, waited)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.user - other.user, self.system - other.system, self.waited - other.waited)


class Good:
    """A client that has the key and keeps working."""

    def __init__(self, lab: Lab) -> None:
        self.service = KeyedService(lab)
        self.target = self.service.application
        self.checker: Checker = start_checker(lab)
        self.service.attach(self.checker)
        self.checker.begin_and_flow(**LOAD)
        self.checker.wait_flow(5000)
        self.rss = self.target.rss_mib()
        self.most = self.rss

    def measure(self, what: str, work: Callable[[], str]) -> None:
        done, began, spent = self.checker.findings().all_done, time.monotonic(), Spent.of(self.target.pid)
        told = work()
        seconds, cost = time.monotonic() - began, Spent.of(self.target.pid) - spent
        rate = (self.checker.findings().all_done - done) / seconds
        print(
            f"{what}: {rate:,.0f} I/Os of the good client a second in {seconds:.1f} s; of each second the target spent "
            f"{cost.user / seconds:.2f} s for itself, {cost.system / seconds:.2f} s in the kernel, and waited "
            f"{cost.waited / seconds:.2f} s{told}"
        )

    def look(self) -> None:
        self.most = max(self.most, self.target.rss_mib())

    def assert_unharmed(self) -> None:
        self.look()
        self.target.assert_running()
        (info,) = self.checker.rpc.call("bdev_dst_get_info", name="remote0")
        assert info["counters"]["connections_lost"] == 0, "the good client's connection was lost"
        self.checker.end().assert_clean()
        self.checker.verify().assert_clean()
        assert self.most < self.rss + MEMORY, f"{self.rss:.0f} MiB became {self.most:.0f}"
        print(f"memory of the target: {self.rss:.1f} MiB before, {self.most:.1f} at most")


def calm() -> str:
    # The measurement takes long enough to count something.
    time.sleep(1)
    return ""


def wrong_key(remote: Remote) -> bytes:
    return secure(offer(remote.export, HOST), os.urandom(48))


@pytest.mark.watchdog(120)
def test_ten_thousand_that_never_authenticate(lab: Lab) -> None:
    """Connections that are silent, that stop in the middle, and that could continue; from many
    addresses and from one."""
    good = Good(lab)
    remote = good.service.remote
    beginnings = [
        b"",
        header(HELLO, length=100)[: HEADER_LEN // 2],
        header(HELLO, length=100),
        wrong_key(remote)[:-1],
        struct.pack("<Q", 1),
    ]

    def come() -> str:
        kept: deque[socket.socket] = deque()
        for number in range(CONNECTIONS):
            source = "127.0.0.1" if number % 2 else f"127.0.{number % 200 + 1}.2"
            sock = socket.create_connection((remote.address, remote.port), 10, (source, 0))
            kept.append(sock)
            try:
                sock.sendall(beginnings[number % len(beginnings)])
            except OSError:
                pass  # closed already
            if len(kept) > KEPT:
                kept.popleft().close()
            if number % 1000 == 0:
                good.look()
        for sock in kept:
            sock.close()
        return ""

    good.measure("alone", calm)
    good.measure(f"{CONNECTIONS} connections that never authenticate", come)
    good.assert_unharmed()


class Attempts:
    """Attempts to attach with a wrong key, at a given rate, with as many at once as necessary."""

    def __init__(self, remote: Remote) -> None:
        self._place = (remote.address, remote.port)
        self._remote = remote
        self._poll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self.begun = self.refused = self.closed = 0

    def _begin(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self._place)
        self._open[sock.fileno()] = sock
        self._poll.register(sock, select.EPOLLOUT)
        self.begun += 1

    def _go_on(self, fd: int, events: int) -> None:
        sock = self._open[fd]
        try:
            if events & select.EPOLLOUT:
                sock.sendall(wrong_key(self._remote))
                self._poll.modify(sock, select.EPOLLIN)
                return
            answer = sock.recv(4096)
        except OSError:
            answer = b""
        # The connection was evicted by later ones, or refused.
        if answer:
            assert answer[0] == REFUSAL, answer
            self.refused += 1
        else:
            self.closed += 1
        self._poll.unregister(sock)
        del self._open[fd]
        sock.close()

    def run(self, count: int, rate: int, each_second: Callable[[], None]) -> None:
        began = last = time.monotonic()
        while self.begun < count or self._open:
            now = time.monotonic()
            assert now - began < 60, f"{self.begun} of {count} attempts in 60 s"
            due = min(count, int((now - began) * rate) + 1) - self.begun
            for _ in range(min(due, 200 - len(self._open))):
                self._begin()
            for fd, events in self._poll.poll(0.002):
                self._go_on(fd, events)
            if now - last > 1:
                last = now
                each_second()


@pytest.mark.watchdog(120)
def test_a_thousand_wrong_keys_a_second(lab: Lab) -> None:
    good = Good(lab)
    attempts = Attempts(good.service.remote)
    call = good.target.rpc.call
    before = call("dst_get_stats")["refused_hellos"]
    # Newer versions of SPDK allow each export only once in a process.
    call("bdev_malloc_create", name="Spare0", num_blocks=2048, block_size=512)
    call("dst_create_export", name="spare", bdev_name="Spare0")
    call("dst_export_add_host", export="spare", host=HOST, access="rw", psk_file=good.service.at_target.path)
    spare = Remote(good.service.remote.address, good.service.remote.port, "spare")
    attached = 0

    def look() -> None:
        """Another client with the key is admitted meanwhile."""
        nonlocal attached
        good.look()
        name = f"another{attached}"
        good.service.attach(good.checker, name, spare)
        assert good.checker.rpc.call("bdev_dst_delete", name=name) is True
        attached += 1

    def attack() -> str:
        began = time.monotonic()
        attempts.run(ATTEMPTS, RATE, look)
        seconds = time.monotonic() - began
        return f"; {ATTEMPTS / seconds:,.0f} attempts a second, {attempts.refused} refused, {attempts.closed} closed"

    good.measure("alone", calm)
    good.measure("wrong keys", attack)
    assert attempts.refused + attempts.closed == ATTEMPTS
    assert attempts.refused > 0 and attached > 0
    told = call("dst_get_stats")["refused_hellos"] - before
    assert told >= attempts.refused, f"{attempts.refused} were refused, {told} are counted"
    good.assert_unharmed()
