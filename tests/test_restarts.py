"""Targets and clients that are killed and restarted: nothing acknowledged is lost, nothing
fails."""

from __future__ import annotations

import pytest

from harness.checker import start_checker
from harness.cycles import by_hand, cycles, report, seeded_random
from harness.keys import service_with
from harness.lab import Lab
from harness.service import BLOCK, Service, answering_late, attach_to, durable_backend
from harness.spdk import Job, assert_clean
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

MIB = 64


@pytest.mark.watchdog(60)
@pytest.mark.parametrize(
    "reactors, cipher",
    [(1, None), (2, None), (1, "aes-256-gcm"), *by_hand((2, "chacha20-poly1305"))],
    ids=lambda value: str(value or "plain"),
)
def test_target_is_killed_under_the_checker(lab: Lab, reactors: int, cipher: str | None) -> None:
    random = seeded_random()
    service = service_with(lab, durable_backend(lab), cipher)
    checker = start_checker(lab, reactors=reactors)
    service.attach(checker)
    checker.begin_and_flow(zeroes=5, flushes=1)
    beyond = service.restart_under_load(checker, random, cycles(5 if reactors == 1 and cipher is None else 3))
    checker.end().assert_clean()
    checker.verify().assert_clean()
    report(f"target killed and restarted, checker on {reactors} reactors, cipher {cipher}", beyond, 2000)


@pytest.mark.watchdog(60)
def test_target_is_stopped_and_started_again(lab: Lab) -> None:
    """A restart as by a service manager does not delete the exports: the clients keep their
    bdevs."""
    service = Service(lab, durable_backend(lab))
    checker = start_checker(lab, reactors=2)
    attach_to(checker, service.remote)
    checker.begin_and_flow(zeroes=5, flushes=1)
    for _ in range(cycles(2)):
        assert service.application.stop() == 0
        service.start()
        checker.wait_flow()
    checker.end().assert_clean()
    checker.verify().assert_clean()


@pytest.mark.watchdog(60)
def test_target_is_killed_under_bdevperf(lab: Lab) -> None:
    random = seeded_random()
    count = cycles(3)
    service = Service(lab, durable_backend(lab, MIB))
    perf = lab.bdevperf_unattached(Job(seconds=2 + 3 * count // 2), MIB * 2**20 // BLOCK)
    attach_to(perf, service.remote)
    perf.begin_and_flow("remote0")
    for _ in range(count):
        if perf.is_answered():
            # On a busy machine bdevperf's time is over before all restarts.
            assert_clean(perf.outcome())
            perf.begin_and_flow("remote0")
        service.restart(random.uniform(0, 0.5))
        before = perf.io_count("remote0")
        wait_until(lambda: perf.is_answered() or perf.io_count("remote0") > before + 100, "I/O to flow again")
    assert_clean(perf.outcome())
    print(f"target killed and restarted under bdevperf: {count} times, no error")


@pytest.mark.watchdog(60)
@pytest.mark.parametrize("cipher", [None, *by_hand("aes-256-gcm")], ids=lambda cipher: cipher or "plain")
def test_client_is_killed(lab: Lab, cipher: str | None) -> None:
    """What was acknowledged to the killed process is there for its successor."""
    random = seeded_random()
    service = service_with(lab, durable_backend(lab), cipher)
    unknown = 0
    for _ in range(cycles(3)):
        checker = start_checker(lab)
        service.attach(checker)
        checker.verify().assert_clean()
        checker.begin_and_flow(zeroes=5)
        checker.wait_flow(random.randrange(3000))
        checker.kill()
        unknown += 1
    checker = start_checker(lab)
    service.attach(checker)
    found = checker.verify()
    found.assert_clean()
    assert found.settled_blocks > 0, "nothing was outstanding when the client was killed"
    print(f"client killed: {unknown} times; outcomes unknown after the last: {found.settled_blocks} blocks")


@pytest.mark.watchdog(60)
def test_compare_and_write_when_the_target_is_killed(lab: Lab) -> None:
    """It is unknown whether the compare-and-write was executed: it fails and is not executed twice.
    All other I/O continues."""
    random = seeded_random()
    # Most of the outstanding requests have been executed.
    service = Service(lab, answering_late(durable_backend(lab), 20))
    checker = start_checker(lab)
    attach_to(checker, service.remote)
    checker.begin_and_flow(compares=50)
    for _ in range(cycles(3)):
        checker.wait_flow(random.randrange(500))
        service.restart()
        checker.wait_flow()
    found = checker.end()
    found.assert_no_bad_block()
    others = found.all_failed - found.failed["compare_and_write"]
    assert others == 0, found.failed
    checker.verify().assert_clean()
    print(f"compare-and-write: {found.failed['compare_and_write']} of unknown outcome in {cycles(3)} restarts")
