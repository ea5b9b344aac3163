"""Takeovers of a mirror: a standby takes the witness and the members, in this order, from an owner that is
killed, stopped and continued, cut off, or left alone. Of two that do so at once, one gets all."""

from __future__ import annotations

import shutil
import signal
import time

import pytest

from harness.checker import Checker, start_checker
from harness.cycles import cycles, seeded_random
from harness.lab import Lab
from harness.mirror import MIRROR, shown, wait_online
from harness.mirror_target import DEVICES, MEMBERS, WITNESS, Host, MirrorTarget
from harness.rpc import RpcError
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

LOAD = {"depth": 16, "reads": 40, "flushes": 2}
FATES = ("killed", "stopped", "cut off", "alive")


class Standby:
    """A client process that is to have the mirror. It knows what the one before had acknowledged."""

    def __init__(self, lab: Lab, target: MirrorTarget, name: str, before: Checker | None = None) -> None:
        self.host = Host(lab, target, name)
        journal = None
        if before is not None:
            journal = lab.folder / f"journal-{name}"
            shutil.copyfile(before.journal, journal)
        self.checker = start_checker(lab, name, journal=journal)
        self.host.attach(self.checker)

    def is_lost(self) -> bool:
        return shown(self.checker)["state"] == "ended"


def first_owner(lab: Lab, target: MirrorTarget) -> Standby:
    owner = Standby(lab, target, "owner0")
    wait_until(lambda: all(owner.checker.bdev(name) for name in DEVICES), "the devices to be attached")
    owner.host.create(owner.checker)
    return owner


def suffer(owner: Standby, fate: str) -> None:
    if fate == "killed":
        owner.checker.kill()
    elif fate == "stopped":
        owner.checker.signal(signal.SIGSTOP)
    elif fate == "cut off":
        owner.host.cut()


def come_back(owner: Standby, fate: str) -> None:
    """Ends what the former owner suffers. It hears that the mirror is another host's, and its I/O fails."""
    if fate == "killed":
        return
    if fate == "stopped":
        owner.checker.signal(signal.SIGCONT)
    elif fate == "cut off":
        owner.host.mend()
    wait_until(owner.is_lost, "the former owner to hear of it")
    wait_until(lambda: owner.checker.findings().all_failed > 0, "its I/O to fail")
    owner.checker.findings().assert_no_bad_block()
    owner.checker.kill()


@pytest.mark.watchdog(150)
def test_a_standby_takes_the_mirror_over(lab: Lab) -> None:
    """Each owner has all devices, and all that the one before had acknowledged."""
    target, random = MirrorTarget(lab), seeded_random()
    owner = first_owner(lab, target)
    owner.checker.begin_and_flow(MIRROR, **LOAD)
    took_ms: dict[str, list[float]] = {}
    blocks = 0
    for turn in range(cycles(4)):
        fate = FATES[turn] if turn < len(FATES) else random.choice(FATES)
        # The journal must not change any more once it is copied, unless its owner may still write. A process
        # that is alive goes on, so it ends its I/O in order.
        if fate == "alive":
            owner.checker.end().assert_clean()
        suffer(owner, fate)
        successor = Standby(lab, target, f"owner{turn + 1}", owner.checker)
        began = time.monotonic()
        successor.host.take_over(successor.checker)
        took_ms.setdefault(fate, []).append((time.monotonic() - began) * 1000)
        assert target.owners() == dict.fromkeys(DEVICES, successor.host.name)
        found = successor.checker.verify(MIRROR)
        found.assert_clean()
        blocks += found.compared_blocks
        successor.checker.begin_and_flow(MIRROR, **LOAD)
        if fate == "alive":
            owner.checker.begin(MIRROR, **LOAD)
        come_back(owner, fate)
        successor.checker.wait_flow()
        successor.checker.findings().assert_clean()
        assert target.owners() == dict.fromkeys(DEVICES, successor.host.name)
        owner = successor
    owner.checker.end().assert_clean()
    owner.checker.verify(MIRROR).assert_clean()
    print(f"{blocks} blocks verified after takeovers")
    for fate, times in took_ms.items():
        ordered = sorted(times)
        print(f"{fate}: {len(ordered)} takeovers, median {ordered[len(ordered) // 2]:.0f} ms, most {ordered[-1]:.0f} ms")


@pytest.mark.watchdog(90)
def test_a_takeover_waits_for_what_a_backend_holds(lab: Lab) -> None:
    """A backend that still has writes of the dead owner executes them before the successor is let in, and none
    after that."""
    late = MEMBERS[1]
    target = MirrorTarget(lab, late=late)
    owner = first_owner(lab, target)
    owner.checker.begin_and_flow(MIRROR, **LOAD)
    target.application.rpc.call("check_late_hold", hold=True)
    # Each I/O becomes a write at last.
    requests = lambda: {device["device"]: device["requests"] for device in shown(owner.checker)["devices"]}[late]
    wait_until(lambda: requests() >= LOAD["depth"] // 2, "the backend to have writes")
    owner.checker.kill()
    successor = Standby(lab, target, "owner1", owner.checker)
    taking = successor.host.start_takeover(successor.checker, degraded_wait_ms=20_000)
    wait_until(lambda: target.owners() == dict.fromkeys(DEVICES, "owner1"), "all devices to be claimed")
    # The time for which the backend hangs.
    time.sleep(3)
    assert not taking.is_answered()
    (info,) = successor.checker.rpc.call("bdev_dst_get_info", name=late)
    assert info["state"] == "attaching"
    target.application.rpc.call("check_late_hold", hold=False)
    taking.result()
    # What was in flight is made equal.
    wait_online(successor.checker)
    successor.checker.begin_and_flow(MIRROR, **LOAD)
    successor.checker.end().assert_clean()
    successor.checker.verify(MIRROR).assert_clean()


@pytest.mark.watchdog(120)
def test_one_of_two_standbys_gets_all(lab: Lab) -> None:
    target, random = MirrorTarget(lab), seeded_random()
    first_owner(lab, target).checker.kill()
    for turn in range(cycles(3)):
        # Their owner is dead, or the one that won the last time.
        takers = [Standby(lab, target, f"taker{turn}-{number}") for number in range(2)]
        calls = []
        for taker in takers:
            calls.append(taker.host.start_takeover(taker.checker))
            # The second one comes while the first one takes the devices, or is just done.
            time.sleep(random.choice((0, 0.002, 0.01, 0.03)))
        errors: list[RpcError | None] = []
        for call in calls:
            try:
                call.result()
                errors.append(None)
            except RpcError as error:
                errors.append(error)
        (name,) = set(target.owners().values())
        winner = next(number for number in range(2) if takers[number].host.name == name)
        loser = 1 - winner
        assert errors[winner] is None and shown(takers[winner].checker)["state"] in ("online", "degraded")
        assert takers[winner].checker.flush(MIRROR)
        error = errors[loser]
        if error is None:
            # It was done before the other one came.
            wait_until(takers[loser].is_lost, "the first one to hear of it")
        else:
            assert "another host was faster" in str(error) or "has been taken over" in str(error), error
            assert takers[loser].checker.rpc.call("bdev_dst_mirror_get_info") == []
            # What it had taken is given back, and what it had not taken still waits.
            states = [info["state"] for info in takers[loser].checker.rpc.call("bdev_dst_get_info")]
            assert set(states) <= {"attaching"}, states
        print(f"the {'second' if winner else 'first'} one gets it; the other one: {error or 'had it before'}")
        for taker in takers:
            taker.checker.kill()


@pytest.mark.watchdog(90)
def test_a_device_that_is_out_of_reach_is_taken_later(lab: Lab) -> None:
    """The former owner has it until then, and cannot use it for the mirror."""
    target = MirrorTarget(lab)
    owner = first_owner(lab, target)
    standby = Standby(lab, target, "standby")
    missing = standby.host.proxies[MEMBERS[1]]
    missing.cut()
    missing.refuse()
    standby.host.take_over(standby.checker, degraded_wait_ms=500)
    assert target.owners() == {WITNESS: "standby", MEMBERS[0]: "standby", MEMBERS[1]: "owner0"}
    assert shown(standby.checker)["state"] == "degraded"
    wait_until(owner.is_lost, "the former owner to hear of it")
    missing.accept()
    wait_until(lambda: shown(standby.checker)["state"] == "online", "the last member to be taken and copied")
    assert target.owner(MEMBERS[1]) == "standby"
    standby.checker.begin_and_flow(MIRROR, **LOAD)
    standby.checker.end().assert_clean()


@pytest.mark.watchdog(60)
def test_what_cannot_be_taken_is_refused(lab: Lab) -> None:
    target = MirrorTarget(lab)
    owner = first_owner(lab, target)
    owner.checker.kill()
    standby = Host(lab, target, "standby")
    client = start_checker(lab, "standby")
    with pytest.raises(RpcError, match="`Witness` is not taken over yet"):
        standby.take_over(client, start_timeout_ms=500, degraded_wait_ms=100)
    standby.attach(client, exclusive=False)
    with pytest.raises(RpcError, match="created without `exclusive`"):
        standby.take_over(client)
    assert target.owners() == dict.fromkeys(DEVICES, "owner0")
