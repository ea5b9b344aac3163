"""Mirrors of DST bdevs: their targets die under load, and come back."""

from __future__ import annotations

import pytest

from harness.checker import start_checker
from harness.lab import Lab
from harness.mirror import BLOCK, MIRROR, member, member_file, shown, wait_online, wait_state
from harness.service import Backend, Service

pytestmark = pytest.mark.needs_dst

LOAD = {"depth": 16, "reads": 40, "flushes": 2}

# So short that an outage is over for the mirror long before a test's patience ends.
TIMES = {"keep_alive_timeout_ms": 1000, "reconnect_delay_ms": 100, "fast_io_fail_timeout_ms": 300}


def service(lab: Lab, number: int) -> Service:
    """Returns a target that exports a file of its own."""
    file = member_file(lab, f"remote{number}")
    params = {"name": "Aio0", "filename": str(file), "block_size": BLOCK}
    return Service(lab, Backend("Aio0", [("bdev_aio_create", params)]))


@pytest.mark.watchdog(180)
def test_targets_die_in_turn(lab: Lab) -> None:
    """The users of the mirror see nothing but latency, and each member ends up with all data."""
    services = [service(lab, number) for number in range(2)]
    checker = start_checker(lab)
    names = [f"Remote{number}" for number in range(2)]
    for name, one in zip(names, services):
        one.attach(checker, name, **TIMES)
    checker.rpc.call("bdev_dst_mirror_create", name=MIRROR, members=names, equal=True)
    checker.begin_and_flow(MIRROR, **LOAD)
    for gone in (0, 1):
        services[gone].kill()
        wait_state(checker, names[gone], "missing")
        checker.wait_flow()
        services[gone].start()
        wait_online(checker)
        checker.wait_flow()
    checker.findings().assert_clean()
    # What the first one missed, it has now; the second one is away.
    services[1].kill()
    wait_state(checker, names[1], "missing")
    checker.wait_flow()
    checker.end().assert_clean()
    checker.verify(MIRROR).assert_clean()
    assert member(checker, names[0])["state"] == "in_sync"
    info = shown(checker)
    assert info["counters"]["departures"] >= 3
    assert info["counters"]["copied_blocks"] < info["num_blocks"]
    # Its last member's target ends first, and without it the mirror would wait for the last record.
    checker.kill()
