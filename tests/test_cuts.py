"""A network that cuts, delays and corrupts: only latency reaches the user."""

from __future__ import annotations

import time
from random import Random

import pytest

from harness.checker import Checker, start_checker
from harness.cycles import by_hand, cycles, report, seeded_random
from harness.keys import service_with
from harness.lab import Lab
from harness.proxy import How, Proxy
from harness.service import BLOCK, Backend, Service, answering_late, attach_to, durable_backend
from harness.spdk import Job, assert_clean
from harness.stream import CLIENT, SIDES, TARGET, Side
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

MIB = 64
# The time is short, because a side that is not told of a cut notices it only after this time.
KEEP_ALIVE_MS = 1000
SOME: list[tuple[Side, ...]] = [SIDES, (CLIENT,), (TARGET,)]
HOWS: list[How] = ["rst", "fin"]


def proxied(lab: Lab, backend: Backend | None = None, cipher: str | None = None) -> tuple[Service, Proxy]:
    service = service_with(lab, backend or durable_backend(lab, MIB), cipher)
    proxy = Proxy(service.remote, secured=cipher is not None)
    lab.on_end(proxy.end)
    return service, proxy


def proxied_checker(
    lab: Lab, reactors: int = 1, backend: Backend | None = None, cipher: str | None = None
) -> tuple[Checker, Proxy]:
    service, proxy = proxied(lab, backend, cipher)
    checker = start_checker(lab, reactors=reactors)
    service.attach(checker, remote=proxy.remote, keep_alive_timeout_ms=KEEP_ALIVE_MS)
    return checker, proxy


def cut_somewhere(proxy: Proxy, random: Random) -> tuple[Side, ...]:
    """Cuts at a random byte of one direction. Returns the sides that are told, once all connections
    are restored."""
    before = proxy.whole_links()
    told = random.choice(SOME)
    # The control connection carries little, so a small count is needed to cut it.
    count = random.randrange(300_000) if random.random() < 0.7 else random.randrange(200)
    proxy.cut_after(count, random.choice(SIDES), random.choice(HOWS), told)
    wait_until(lambda: proxy.whole_links() != before, "the cut")
    wait_until(lambda: len(proxy.whole_links()) >= len(before), "the client to come back")
    return told


@pytest.mark.watchdog(60)
@pytest.mark.parametrize(
    "reactors, cipher",
    [(1, None), (2, None), (1, "aes-256-gcm"), *by_hand((2, "chacha20-poly1305"))],
    ids=lambda value: str(value or "plain"),
)
def test_cuts_under_the_checker(lab: Lab, reactors: int, cipher: str | None) -> None:
    random = seeded_random()
    checker, proxy = proxied_checker(lab, reactors, cipher=cipher)
    checker.begin_and_flow(zeroes=5, compares=10, flushes=1)
    heard: list[float] = []
    unheard: list[float] = []
    for _ in range(cycles(20 if reactors == 1 and cipher is None else 10)):
        checker.wait_flow(random.randrange(500))
        checker.findings(again=True)
        told = cut_somewhere(proxy, random)
        checker.wait_flow()
        slowest = checker.findings(again=True).slowest_ms
        if CLIENT in told:
            heard.append(slowest)
        else:
            unheard.append(slowest - KEEP_ALIVE_MS)
    checker.end().assert_clean()
    checker.verify().assert_clean()
    for what, waits in (("the client is told", heard), ("it is not, beyond the keep-alive time", unheard)):
        if waits:
            report(f"connections cut, {reactors} reactors, cipher {cipher}, {what}", waits, 2000)


@pytest.mark.watchdog(60)
def test_cuts_under_bdevperf(lab: Lab) -> None:
    random = seeded_random()
    count = cycles(5)
    _, proxy = proxied(lab)
    perf = lab.bdevperf_unattached(Job(seconds=2 + 3 * count // 2), MIB * 2**20 // BLOCK)
    attach_to(perf, proxy.remote, keep_alive_timeout_ms=KEEP_ALIVE_MS)
    perf.begin_and_flow("remote0")
    for _ in range(count):
        cut_somewhere(proxy, random)
        before = perf.io_count("remote0")
        wait_until(lambda: perf.io_count("remote0") > before + 100, "I/O to flow again")
    assert_clean(perf.outcome())
    print(f"connections cut under bdevperf: {count} times, no error")


@pytest.mark.watchdog(60)
def test_compare_and_write_is_executed_once(lab: Lab) -> None:
    """The answer is usually lost with the connection. The request is sent again and answered from
    the target's record."""
    checker, proxy = proxied_checker(lab, backend=answering_late(durable_backend(lab, MIB), 20))
    checker.begin_and_flow(compares=50, reads=10)
    for _ in range(cycles(5)):
        proxy.cut()
        checker.wait_flow()
    checker.end().assert_clean()
    checker.verify().assert_clean()


@pytest.mark.watchdog(60)
def test_corrupted_headers(lab: Lab) -> None:
    """The receiver detects the damage and closes, which is the same as a cut."""
    random = seeded_random()
    checker, proxy = proxied_checker(lab)
    checker.begin_and_flow(zeroes=5, compares=10, flushes=1)
    beyond: list[float] = []
    for _ in range(cycles(10)):
        before, corrupted = proxy.accepted, proxy.corrupted
        checker.findings(again=True)
        # The numbers are small, so that the connection that carries only keep-alives is done soon,
        # too.
        proxy.corrupt_header(random.choice(SIDES), random.randrange(3))
        wait_until(lambda: proxy.corrupted > corrupted, "a header to be corrupted")
        wait_until(lambda: proxy.accepted > before, "a new connection")
        checker.wait_flow()
        beyond.append(checker.findings(again=True).slowest_ms)
    checker.end().assert_clean()
    checker.verify().assert_clean()
    report("headers corrupted", beyond, 2000)


@pytest.mark.watchdog(60)
@pytest.mark.parametrize("cipher", [None, *by_hand("aes-256-gcm")], ids=lambda cipher: cipher or "plain")
def test_black_holes(lab: Lab, cipher: str | None) -> None:
    """Bytes are held in one or both directions and arrive late, when the client has long
    reconnected."""
    random = seeded_random()
    checker, proxy = proxied_checker(lab, cipher=cipher)
    checker.begin_and_flow(zeroes=5, compares=10, flushes=1)
    beyond: list[float] = []
    for _ in range(cycles(4)):
        old = proxy.whole_links()
        checker.findings(again=True)
        proxy.hold(*random.choice(SOME), links=old)
        wait_until(lambda: len(set(proxy.whole_links()) - set(old)) >= 2, "the client to come back")
        checker.wait_flow()
        beyond.append(checker.findings(again=True).slowest_ms - KEEP_ALIVE_MS)
        proxy.release(old)
        checker.wait_flow()
    checker.end().assert_clean()
    checker.verify().assert_clean()
    report("black holes, beyond the keep-alive time", beyond, 2000)


def test_slow_network(lab: Lab) -> None:
    """A delay as long as the interval between keep-alives costs no connection."""
    checker, proxy = proxied_checker(lab)
    checker.begin_and_flow(zeroes=5, compares=10, flushes=1)
    before = proxy.accepted
    # The delay of each direction. (An acknowledgement that renews a lease is one round trip old, so
    # the connection is lost if a round trip takes half the keep-alive time.)
    delay_s = KEEP_ALIVE_MS / 1000 / 8
    proxy.delay(delay_s)
    began = time.monotonic()
    checker.wait_flow(200)
    assert time.monotonic() - began > 2 * delay_s
    proxy.delay(0)
    checker.wait_flow()
    assert proxy.accepted == before, "the connection was given up although bytes arrived"
    checker.end().assert_clean()
    checker.verify().assert_clean()
