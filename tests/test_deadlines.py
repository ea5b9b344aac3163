"""A target that does not come back: I/O fails at its deadline and not earlier, and the bdev can be
deleted."""

from __future__ import annotations

import signal
import time

import pytest

from harness.checker import Checker, start_checker
from harness.cycles import BY_HAND, cycles
from harness.lab import Lab
from harness.service import Backend, Service, attach_to, durable_backend, late_backend
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

TIMEOUT_MS = 3000
KEEP_ALIVE_MS = 1000
# The deadline is compared with a clock that is read periodically.
EARLY_MS = 10
# When run by hand: how late a deadline may be noticed, and how much longer than stated a deletion
# may take.
LATE_MS = 500


def served(lab: Lab, backend: Backend | None = None) -> tuple[Service, Checker]:
    service = Service(lab, backend or durable_backend(lab))
    checker = start_checker(lab)
    attach_to(checker, service.remote, transaction_timeout_ms=TIMEOUT_MS, keep_alive_timeout_ms=KEEP_ALIVE_MS)
    return service, checker


def assert_at_the_deadline(checker: Checker, late_ms: float = LATE_MS) -> None:
    """At least two rounds of failures: of I/O that was outstanding, and of I/O that came without a
    target."""
    wait_until(lambda: checker.findings().all_failed > 2 * 8, "I/O to fail", 4 * TIMEOUT_MS / 1000)
    found = checker.findings()
    assert found.failed_fastest_ms >= TIMEOUT_MS - EARLY_MS, "failed before its deadline"
    print(f"I/O failed after {found.failed_fastest_ms} to {found.failed_slowest_ms} ms; its time was {TIMEOUT_MS} ms")
    if BY_HAND:
        assert found.failed_slowest_ms <= TIMEOUT_MS + late_ms


def assert_deleted(checker: Checker, within_ms: float) -> None:
    began = time.monotonic()
    assert checker.rpc.call("bdev_dst_delete", name="remote0") is True
    took_ms = (time.monotonic() - began) * 1000
    print(f"deleted in {took_ms:.0f} ms; stated: {within_ms:.0f} ms")
    if BY_HAND:
        assert took_ms <= within_ms + LATE_MS
    assert checker.bdev("remote0") is None
    assert checker.rpc.call("bdev_dst_get_info") == []
    wait_until(lambda: not checker.findings().active, "the I/O to end with the bdev")
    found = checker.findings()
    assert found.removed
    found.assert_no_bad_block()


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_target_is_gone_for_good(lab: Lab, how: str) -> None:
    service, checker = served(lab)
    checker.begin_and_flow(depth=8, flushes=5, zeroes=5)
    if how == "killed":
        service.kill()
    else:
        service.application.signal(signal.SIGSTOP)
        lab.on_end(service.application.kill)
    assert_at_the_deadline(checker)
    assert_deleted(checker, KEEP_ALIVE_MS * 1.05)


def test_delete_right_after_the_target_is_gone(lab: Lab) -> None:
    """The deletion waits for the leases of requests sent a moment ago."""
    service, checker = served(lab)
    checker.begin_and_flow(depth=8)
    service.application.signal(signal.SIGSTOP)
    lab.on_end(service.application.kill)
    assert_deleted(checker, KEEP_ALIVE_MS * 1.05)


def test_backend_hangs(lab: Lab) -> None:
    """The target lives and answers keep-alives, but the writes never complete."""
    service, checker = served(lab, late_backend(1))
    checker.begin_and_flow(depth=8, reads=0)
    service.application.rpc.call("check_late_hold", hold=True)
    # At the deadline, the client closes the connection and waits for its lease.
    assert_at_the_deadline(checker, KEEP_ALIVE_MS * 1.05 + LATE_MS)
    assert_deleted(checker, 2 * KEEP_ALIVE_MS)
    service.application.rpc.call("check_late_hold", hold=False)


def test_io_works_again_after_it_failed(lab: Lab) -> None:
    service, checker = served(lab)
    for _ in range(cycles(1)):
        checker.begin_and_flow(depth=8, zeroes=5)
        before = checker.findings().all_failed
        service.kill()
        wait_until(lambda: checker.findings().all_failed > before, "I/O to fail", 2 * TIMEOUT_MS / 1000)
        service.start()
        checker.wait_flow()
        checker.end().assert_no_bad_block()
        checker.verify().assert_clean()


@pytest.mark.watchdog(60)
def test_client_is_stopped_past_the_lease(lab: Lab) -> None:
    """A stall of the client's own process fails no I/O, even if deadlines have passed on the wall
    clock."""
    service, checker = served(lab)
    checker.begin_and_flow(depth=16, zeroes=5, flushes=1)
    for number in range(cycles(2)):
        checker.signal(signal.SIGSTOP)
        # The first stall is longer than the lease, the second one also longer than the I/O's
        # deadline.
        time.sleep((2 * KEEP_ALIVE_MS if number % 2 == 0 else TIMEOUT_MS + 500) / 1000)
        checker.signal(signal.SIGCONT)
        checker.wait_flow()
    checker.end().assert_clean()
    checker.verify().assert_clean()
