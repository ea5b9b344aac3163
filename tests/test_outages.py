"""A target that stays away: I/O fails at once after a time, and the bdev goes after another."""

from __future__ import annotations

from typing import Any

import pytest

from harness.checker import Checker, start_checker
from harness.lab import Lab
from harness.rpc import RpcError
from harness.service import Service, attach_to, durable_backend
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

KEEP_ALIVE_MS = 1000
FAST_MS = 3000
LOSS_MS = 2000


def info(checker: Checker) -> list[dict[str, Any]]:
    return checker.rpc.call("bdev_dst_get_info")


def test_io_fails_at_once_while_the_target_stays_away(lab: Lab) -> None:
    service = Service(lab, durable_backend(lab))
    checker = start_checker(lab)
    attach_to(checker, service.remote, keep_alive_timeout_ms=KEEP_ALIVE_MS, fast_io_fail_timeout_ms=FAST_MS)
    checker.begin_and_flow(depth=8, zeroes=5)
    service.kill()
    wait_until(lambda: info(checker)[0]["state"] == "unreachable", "the client to give up waiting", 30)
    wait_until(lambda: checker.findings().all_failed >= 8, "what waited to fail")
    found = checker.end()
    found.assert_no_bad_block()
    # What was submitted while the outage was young waited; the deadline is 60 s.
    assert FAST_MS / 2 < found.failed_slowest_ms < 30_000
    # However long the outage lasts: nothing waits any more.
    checker.begin(depth=8)
    wait_until(lambda: checker.findings().all_failed >= 1000, "I/O to fail at once")
    found = checker.end()
    assert found.failed_slowest_ms < FAST_MS and found.all_done == 0
    assert "I/O fails at once until there is one" in checker.text()
    checker.begin(depth=8)
    service.start()
    checker.wait_flow()
    wait_until(lambda: info(checker)[0]["state"] == "connected", "all connections")
    checker.end().assert_no_bad_block()
    # Another outage begins anew: a short one is only latency.
    checker.begin_and_flow(depth=8)
    service.restart()
    checker.wait_flow()
    checker.end().assert_clean()
    checker.verify().assert_clean()


def test_the_bdev_goes_when_its_target_is_lost(lab: Lab) -> None:
    service = Service(lab, durable_backend(lab))
    checker = start_checker(lab)
    attach_to(checker, service.remote, keep_alive_timeout_ms=KEEP_ALIVE_MS, loss_timeout_ms=LOSS_MS)
    checker.begin_and_flow(depth=8)
    assert info(checker)[0]["options"]["loss_timeout_ms"] == LOSS_MS
    service.kill()
    wait_until(lambda: info(checker) == [], "the bdev to go", 30)
    assert checker.bdev("remote0") is None
    wait_until(lambda: checker.findings().removed, "the user to hear of it")
    assert f"no connection for loss_timeout_ms ({LOSS_MS} ms); the bdev is removed" in checker.text()


def test_times_that_contradict_each_other_are_refused(lab: Lab) -> None:
    checker = start_checker(lab)
    for given, message in [
        ({"fast_io_fail_timeout_ms": 499}, "fast_io_fail_timeout_ms: 499 is less than reconnect_delay_ms, 500"),
        ({"loss_timeout_ms": 499}, "loss_timeout_ms: 499 is less than reconnect_delay_ms, 500"),
        ({"fast_io_fail_timeout_ms": 900, "loss_timeout_ms": 800}, "loss_timeout_ms: 800 is less than fast_io_fail"),
    ]:
        with pytest.raises(RpcError, match=message):
            checker.rpc.call("bdev_dst_set_options", **given)
