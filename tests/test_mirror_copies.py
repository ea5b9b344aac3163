"""How much is copied to a member of a mirror, counted by its target: what the member missed, each block
once, and after a crash the hot regions; beside these, metadata only."""

from __future__ import annotations

import pytest

from harness.checker import Checker, start_checker
from harness.lab import Lab
from harness.mirror import BLOCK, MIRROR, member, shown, wait_online, wait_state
from harness.mirror_target import DEVICES, MEMBERS, Host, MirrorTarget
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

WRITES = {"depth": 16, "reads": 0, "flushes": 1}
GONE = MEMBERS[1]

# 1 MiB: the least size of a region of the intent log.
REGION = 2**20 // BLOCK
# 8 of the mirror's 56 regions.
BROAD = 8 * REGION
# Three regions, the last one in part.
NARROW = 600
# So many I/Os, of several blocks each, that most blocks are written repeatedly.
REPEATED = 1000

# What a return writes to a member beside data: a superblock, and a tree of a few extents, each time that
# the members' states change; four blocks were seen. Far less than a region that is copied in vain.
METADATA = 32


class Counted:
    """What the backend of the member has written since this was made."""

    def __init__(self, target: MirrorTarget) -> None:
        self._target = target
        self._before = self._written()

    def _written(self) -> int:
        # SPDK's sum lacks what a channel has written that is closed while the sum is made, as the channels
        # of a killed client are. No two sums lack the same one, so two that are equal lack none.
        sums: list[int] = []

        def is_complete() -> bool:
            sums.append(int(self._target.application.iostat(self._target.bdev(GONE))["bytes_written"]))
            return sums[-2:-1] == sums[-1:]

        wait_until(is_complete, "two sums that are equal")
        return sums[-1]

    def blocks(self) -> int:
        return (self._written() - self._before) // BLOCK


class Scene:
    """A mirror of two exports whose first blocks were written and flushed."""

    def __init__(self, lab: Lab, blocks: int) -> None:
        """`blocks`: how many are used, from the first one on."""
        self._lab, self._blocks = lab, blocks
        self.target = MirrorTarget(lab)
        self.host = Host(lab, self.target, "owner")
        self.checker = self._start()
        wait_until(lambda: all(self.checker.bdev(name) for name in DEVICES), "the devices to be attached")
        self.host.create(self.checker)
        self.write()
        self.end()
        # The mirror flushes by itself, and then no region is hot.
        self.set_flush_interval(100)
        wait_until(lambda: shown(self.checker)["hot_regions"] == 0, "the regions to cool")
        self.set_flush_interval(60_000)

    def set_flush_interval(self, ms: int) -> None:
        self.checker.rpc.call("bdev_dst_mirror_set_options", name=MIRROR, flush_interval_ms=ms)

    def _start(self) -> Checker:
        checker = start_checker(self._lab, blocks=self._blocks)
        self.host.attach(checker)
        return checker

    def write(self) -> None:
        """Begins to write, and returns when most blocks were written repeatedly."""
        self.checker.begin(MIRROR, **WRITES)
        self.checker.wait_flow(REPEATED, 60)

    def end(self) -> None:
        self.checker.end().assert_clean()

    def lose_member(self) -> None:
        self.host.proxies[GONE].hold()
        self.host.proxies[GONE].hold_new("client", "target")
        # No region is hot, or the member would miss that as a whole.
        assert self.checker.flush(MIRROR)
        wait_state(self.checker, GONE, "missing")
        self.write()

    def bring_back(self) -> None:
        self.host.proxies[GONE].hold_new()
        self.host.proxies[GONE].cut()

    def crash(self) -> None:
        """The machine of the mirror dies."""
        self.checker.kill()

    def assemble(self) -> None:
        """Another process has the mirror."""
        self.checker = self._start()
        self.host.assemble(self.checker, degraded_wait_ms=500)

    def verify_alone(self, name: str) -> None:
        """Verifies what the member holds, without the other one."""
        (other,) = set(MEMBERS) - {name}
        self.host.proxies[other].refuse()
        self.host.proxies[other].cut()
        self.checker.verify(MIRROR).assert_clean()
        assert member(self.checker, name)["state"] == "in_sync"


@pytest.mark.watchdog(150)
def test_a_member_gets_each_block_that_it_missed_once(lab: Lab) -> None:
    scene = Scene(lab, NARROW)
    before = shown(scene.checker)["counters"]["writes"]
    scene.lose_member()
    scene.end()
    missed, writes = member(scene.checker, GONE)["blocks_missed"], shown(scene.checker)["counters"]["writes"]
    assert missed <= NARROW < REPEATED < writes - before
    counted = Counted(scene.target)
    scene.bring_back()
    wait_online(scene.checker)
    blocks = counted.blocks()
    print(f"{writes - before} writes, {missed} blocks missed, {blocks} written to the member")
    assert missed <= blocks <= missed + METADATA
    scene.verify_alone(GONE)


@pytest.mark.watchdog(150)
def test_after_a_crash_the_hot_regions_are_copied(lab: Lab) -> None:
    scene = Scene(lab, BROAD)
    scene.write()
    hot = shown(scene.checker)["hot_regions"]
    assert 0 < hot <= BROAD // REGION
    scene.crash()
    counted = Counted(scene.target)
    scene.assemble()
    wait_online(scene.checker)
    blocks = counted.blocks()
    print(f"{hot} regions were hot, {blocks} blocks written to the member")
    assert blocks <= hot * REGION + METADATA
    scene.verify_alone(GONE)


@pytest.mark.watchdog(150)
def test_a_member_that_was_away_during_a_crash_gets_both(lab: Lab) -> None:
    scene = Scene(lab, NARROW)
    scene.lose_member()
    hot = shown(scene.checker)["hot_regions"]
    counted = Counted(scene.target)
    scene.crash()
    scene.assemble()
    assert shown(scene.checker)["state"] == "degraded"
    scene.bring_back()
    wait_online(scene.checker)
    blocks = counted.blocks()
    print(f"{hot} regions were hot, {blocks} blocks written to the member")
    # What was missed is in the hot regions here.
    assert NARROW <= hot * REGION
    assert 0 < blocks <= hot * REGION + METADATA
    scene.verify_alone(GONE)
