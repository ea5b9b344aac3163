"""A target that was restarted while acknowledged writes were in a volatile cache: the next flush
reports it."""

from __future__ import annotations

import pytest

from harness.checker import Checker, start_checker
from harness.lab import Lab
from harness.proxy import Proxy
from harness.service import Backend, Service, attach_to, durable_backend, file_backend, memory_backend
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

LOAD = {"depth": 16, "reads": 10}


def served(lab: Lab, backend: Backend, reactors: int = 1, **export: bool) -> tuple[Service, Checker]:
    service = Service(lab, backend, **export)
    checker = start_checker(lab, reactors=reactors)
    attach_to(checker, service.remote)
    return service, checker


def lost_caches(checker: Checker) -> int:
    return checker.rpc.call("bdev_dst_get_info", name="remote0")[0]["counters"]["lost_caches"]


def warned(checker: Checker) -> bool:
    return "may have lost completed writes" in checker.text()


def restart_and_return(service: Service, checker: Checker) -> None:
    service.restart()
    # A read succeeds, so the client has reconnected, in a new session.
    checker.wait_flow()


@pytest.mark.parametrize("reactors", [1, 2], ids=["1-reactor", "2-reactors"])
def test_flush_fails_on_the_channels_that_were_there(lab: Lab, reactors: int) -> None:
    service, checker = served(lab, memory_backend(), reactors)
    checker.begin_and_flow(**LOAD, flushes=2)
    checker.findings().assert_clean()
    restart_and_return(service, checker)
    wait_until(lambda: checker.findings().failed_reactors == reactors, "a flush of each reactor to fail")
    checker.wait_flow()
    told = checker.findings()
    # Several flushes fail if several were in flight, since each may have covered what was lost.
    assert reactors <= told.failed["flush"] <= reactors * LOAD["depth"], told.failed
    assert told.all_failed == told.failed["flush"], told.failed
    checker.wait_flow(5000)
    found = checker.end()
    # Memory loses everything, so there are bad blocks; the test is that the user was told.
    assert found.bad_blocks > 0
    assert found.failed == told.failed, "it is reported once"
    assert lost_caches(checker) == 1
    assert warned(checker)


def test_flush_fails_on_a_channel_that_comes_later(lab: Lab) -> None:
    """The loss is reported later if the writers' channels were closed before."""
    service, checker = served(lab, memory_backend())
    checker.begin_and_flow(**LOAD)
    checker.end().assert_clean()
    service.restart()
    assert not checker.flush(), "acknowledged writes were lost, and a flush succeeded"
    assert checker.flush(), "it is reported once"
    assert lost_caches(checker) == 1
    assert warned(checker)


def test_nothing_is_told_when_all_was_flushed(lab: Lab) -> None:
    service, checker = served(lab, memory_backend())
    checker.begin_and_flow(**LOAD)
    checker.end().assert_clean()
    assert checker.flush()
    service.restart()
    assert checker.flush()
    assert lost_caches(checker) == 0
    assert not warned(checker)


def test_nothing_is_told_when_the_backend_has_no_cache(lab: Lab) -> None:
    service, checker = served(lab, durable_backend(lab))
    checker.begin_and_flow(**LOAD, flushes=2)
    restart_and_return(service, checker)
    checker.end().assert_clean()
    checker.verify().assert_clean()
    assert lost_caches(checker) == 0
    assert not warned(checker)


def test_nothing_is_told_when_the_cache_outlives_the_target(lab: Lab) -> None:
    """A file on the same machine: the operator declares that the cache outlives the target, and the
    target confirms that only the process ended."""
    service, checker = served(lab, file_backend(lab), cache_outlives_target=True)
    checker.begin_and_flow(**LOAD, flushes=2)
    restart_and_return(service, checker)
    checker.end().assert_clean()
    checker.verify().assert_clean()
    assert lost_caches(checker) == 0
    assert not warned(checker)


def test_a_cut_connection_loses_no_cache(lab: Lab) -> None:
    """In the same instance of the target, nothing acknowledged is lost."""
    service = Service(lab, memory_backend())
    proxy = Proxy(service.remote)
    lab.on_end(proxy.end)
    checker = start_checker(lab)
    attach_to(checker, proxy.remote)
    checker.begin_and_flow(**LOAD, flushes=2)
    for _ in range(3):
        proxy.cut()
        checker.wait_flow()
    checker.end().assert_clean()
    checker.verify().assert_clean()
    assert lost_caches(checker) == 0
