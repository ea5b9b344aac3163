"""A mirror of two targets that are killed or cut off in turn, under load: what the one that was away missed
is copied when it is back, before the other one goes.

Many cycles are run by hand (tests/endurance.py)."""

from __future__ import annotations

import time

import pytest

from harness.checker import start_checker
from harness.cycles import cycles, seeded_random
from harness.lab import Lab
from harness.mirror import BLOCK, MIRROR, member, member_file, shown, wait_online, wait_state
from harness.proxy import Proxy
from harness.service import Backend, Service
from harness.spdk import Application

pytestmark = pytest.mark.needs_dst

LOAD = {"depth": 16, "reads": 40, "flushes": 2}
NAMES = ("Remote0", "Remote1")

# So short that an outage is over for the mirror long before a test's patience ends.
TIMES = {"keep_alive_timeout_ms": 1000, "reconnect_delay_ms": 100, "fast_io_fail_timeout_ms": 300}

# A target answers again some seconds after it was started, on a machine with little time for it, and the member
# is taken back then.
RESYNC_S = 60.0


class Member:
    """A target whose export is a member, behind a proxy."""

    def __init__(self, lab: Lab, number: int) -> None:
        self.name = NAMES[number]
        params = {"name": "Aio0", "filename": str(member_file(lab, self.name)), "block_size": BLOCK}
        self.service = Service(lab, Backend("Aio0", [("bdev_aio_create", params)]))
        self.proxy = Proxy(self.service.remote)
        lab.on_end(self.proxy.end)

    def attach(self, client: Application) -> None:
        self.service.attach(client, self.name, remote=self.proxy.remote, **TIMES)

    def leave(self, fate: str) -> None:
        if fate == "killed":
            self.service.kill()
        else:
            self.proxy.hold()
            self.proxy.hold_new("client", "target")

    def come_back(self, fate: str) -> None:
        if fate == "killed":
            self.service.start()
        else:
            self.proxy.hold_new()
            self.proxy.cut()


@pytest.mark.watchdog(240)
def test_targets_go_in_turn(lab: Lab) -> None:
    random = seeded_random()
    members = [Member(lab, number) for number in range(2)]
    checker = start_checker(lab)
    for one in members:
        one.attach(checker)
    checker.rpc.call("bdev_dst_mirror_create", name=MIRROR, members=list(NAMES), equal=True)
    checker.begin_and_flow(MIRROR, **LOAD)
    began, ios, missed, copied, verified, resyncs_s = time.monotonic(), 0, 0, 0, 0, []
    for turn in range(cycles(2)):
        # The one that has just been brought up to date stays, and has all data alone.
        gone, fate = members[turn % 2], random.choice(("killed", "cut off"))
        gone.leave(fate)
        wait_state(checker, gone.name, "missing")
        checker.wait_flow(random.randrange(200, 1500))
        found = checker.end()
        found.assert_clean()
        ios += found.all_done
        found = checker.verify(MIRROR)
        found.assert_clean()
        verified += found.compared_blocks
        checker.begin_and_flow(MIRROR, **LOAD)
        missed += member(checker, gone.name)["blocks_missed"]
        before = shown(checker)["counters"]["copied_blocks"]
        back = time.monotonic()
        gone.come_back(fate)
        wait_online(checker, RESYNC_S)
        resyncs_s.append(time.monotonic() - back)
        copied += shown(checker)["counters"]["copied_blocks"] - before
        checker.wait_flow()
    checker.end().assert_clean()
    for one in members:
        # Each has all data.
        other = members[1 - members.index(one)]
        # A mirror without I/O does not notice that a member is away.
        checker.begin_and_flow(MIRROR, **LOAD)
        other.leave("cut off")
        wait_state(checker, other.name, "missing")
        checker.end().assert_clean()
        found = checker.verify(MIRROR)
        found.assert_clean()
        verified += found.compared_blocks
        other.come_back("cut off")
        wait_online(checker, RESYNC_S)
    ordered = sorted(resyncs_s)
    print(
        f"{len(ordered)} cycles in {time.monotonic() - began:.0f} s: more than {ios} I/Os, "
        f"{verified * BLOCK >> 20} MiB verified, {missed * BLOCK >> 20} MiB shown as missed, "
        f"{copied * BLOCK >> 20} MiB copied; back in sync after {ordered[len(ordered) // 2]:.1f} s, "
        f"at most {ordered[-1]:.1f} s"
    )
