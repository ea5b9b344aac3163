"""Fixtures, the watchdog, and the logs of a failed test's processes."""

from __future__ import annotations

import signal
from typing import Any, Iterator

import pytest

from harness.cycles import watchdog_factor
from harness.environment import environment
from harness.lab import Lab
from harness.transport import Transport, chosen_transport


pytest_plugins = ["harness.served"]

STAND_IN = "tests DST itself; this run uses a stand-in transport"


class WatchdogExpired(Exception):
    """The test exceeded its time limit."""


def _on_alarm(_number: int, _frame: Any) -> None:
    raise WatchdogExpired("the test took longer than its watchdog allows")


def _on_term(_number: int, _frame: Any) -> None:
    # SIGTERM raises an exception, so that fixtures still clean up.
    raise KeyboardInterrupt("SIGTERM")


def pytest_configure(config: pytest.Config) -> None:
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.signal(signal.SIGTERM, _on_term)


def pytest_report_header(config: pytest.Config) -> str:
    env = environment()
    version = "%02d.%02d" % env.spdk_version
    return f"dst: transport {env.transport}, SPDK {version}, arguments {' '.join(env.spdk_args)}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if environment().transport == "dst":
        return
    skip = pytest.mark.skip(reason=STAND_IN)
    for item in items:
        if item.get_closest_marker("needs_dst"):
            item.add_marker(skip)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("watchdog")
    signal.setitimer(signal.ITIMER_REAL, (marker.args[0] if marker else 60) * watchdog_factor())
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    # All cleanup has its own deadline; this one catches what was overlooked.
    signal.setitimer(signal.ITIMER_REAL, 45)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    labs = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Lab)]
    if report.failed:
        for process in (process for lab in labs for process in lab.processes):
            if process.log.exists():
                state = "running" if process.exit_code is None else f"exit code {process.exit_code}"
                report.sections.append((f"log of {process.name} ({state})", process.tail()))


@pytest.fixture(scope="session")
def transport() -> Transport:
    return chosen_transport()


@pytest.fixture(scope="session")
def needs_dst(transport: Transport) -> None:
    """The same limit for fixtures, which cannot have the marker."""
    if transport.name != "dst":
        pytest.skip(STAND_IN)


@pytest.fixture
def lab(transport: Transport) -> Iterator[Lab]:
    lab = Lab(transport)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def module_lab(transport: Transport) -> Iterator[Lab]:
    """For tests that can share their processes with all other tests in their file."""
    lab = Lab(transport)
    yield lab
    lab.close()
