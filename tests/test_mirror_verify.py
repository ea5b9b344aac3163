"""Members of a mirror that are compared, and repaired."""

from __future__ import annotations

from typing import Any

import pytest

from harness.checker import start_checker
from harness.lab import Lab
from harness.mirror import BLOCK, MEMBERS, MIRROR, create_aio, create_malloc, member_file, mirror_of, shown, wait_online
from harness.rpc import RpcError
from harness.spdk import Application
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

FIRST, SECOND = MEMBERS
LOAD = {"depth": 16, "reads": 40, "flushes": 2, "zeroes": 5}


def begin(application: Application, **params: Any) -> None:
    assert application.rpc.call("bdev_dst_mirror_verify", name=MIRROR, **params) is True


def found(application: Application) -> dict[str, Any]:
    return shown(application)["verification"]


def verify(application: Application, **params: Any) -> dict[str, Any]:
    """Has the members compared, and returns what was found."""
    begin(application, **params)
    wait_until(lambda: found(application)["state"] == "done", "the members to be compared")
    result = found(application)
    assert result["blocks_compared"] == shown(application)["num_blocks"], result
    return result


def decay(lab: Lab, name: str, start: int, count: int) -> None:
    """Changes blocks of a member behind the mirror's back. The aio bdev reads the same file."""
    with open(member_file(lab, name), "r+b") as file:
        file.seek(start * BLOCK)
        file.write(b"\xa5" * (count * BLOCK))


def read(lab: Lab, name: str, start: int, count: int) -> bytes:
    with open(member_file(lab, name), "rb") as file:
        file.seek(start * BLOCK)
        return file.read(count * BLOCK)


@pytest.mark.watchdog(120)
def test_equal_members_under_load(lab: Lab) -> None:
    """What is being written is no difference."""
    checker = start_checker(lab)
    mirror_of(lab, checker, verify_rate_mib=0)
    assert found(checker) is None
    checker.begin_and_flow(MIRROR, **LOAD)
    for repair in (False, True, False, True):
        result = verify(checker, repair=repair)
        assert (result["blocks_differing"], result["blocks_unread"], result["blocks_repaired"]) == (0, 0, 0), result
        checker.wait_flow()
    checker.end().assert_clean()
    checker.verify(MIRROR).assert_clean()


@pytest.mark.watchdog(120)
def test_what_differs_is_found_and_repaired(lab: Lab) -> None:
    checker = start_checker(lab)
    mirror_of(lab, checker, verify_rate_mib=0)
    checker.begin_and_flow(MIRROR, **LOAD)
    # The checker writes to its first blocks only.
    places = ((checker.blocks + 1000, 3), (checker.blocks + 5000, 1))
    for start, count in places:
        decay(lab, SECOND, start, count)
    first = [{"member": SECOND, "start": start, "num_blocks": count} for start, count in places]
    for repaired in (0, 4):
        result = verify(checker, repair=repaired > 0)
        assert (result["blocks_differing"], result["blocks_repaired"]) == (4, repaired), result
        assert [{key: at[key] for key in ("member", "start", "num_blocks")} for at in result["first"]] == first
    for start, count in places:
        assert read(lab, SECOND, start, count) == bytes(count * BLOCK)
    assert verify(checker)["blocks_differing"] == 0
    checker.end().assert_clean()
    checker.verify(MIRROR).assert_clean()


def test_blocks_that_cannot_be_read(lab: Lab) -> None:
    application = lab.target()
    for name in MEMBERS:
        create_malloc(application, name)
    application.rpc.call("bdev_error_create", base_name=SECOND)
    members = [FIRST, f"EE_{SECOND}"]
    application.rpc.call("bdev_dst_mirror_create", name=MIRROR, members=members, equal=True, verify_rate_mib=0)
    for repair in (False, True):
        application.rpc.call(
            "bdev_error_inject_error", name=members[1], io_type="read", error_type="failure", num=1
        )
        result = verify(application, repair=repair)
        unread = result["blocks_unread"]
        # One range: a short one if a module has just examined the mirror, since comparing yields to users.
        assert unread in (16 * 1024 // BLOCK, 256 * 1024 // BLOCK) and result["blocks_differing"] == 0, result
        assert result["blocks_repaired"] == (unread if repair else 0), result
    assert shown(application)["state"] == "online"


@pytest.mark.watchdog(120)
def test_members_go_and_come_back_meanwhile(lab: Lab) -> None:
    checker = start_checker(lab)
    mirror_of(lab, checker, verify_rate_mib=8)
    checker.begin_and_flow(MIRROR, **LOAD)
    begin(checker, repair=True)
    wait_until(lambda: found(checker)["blocks_compared"] > 0, "something to be compared")
    checker.rpc.call("bdev_aio_delete", name=SECOND)
    wait_until(lambda: found(checker)["reason"] == "a second member in sync", "the comparison to wait")
    assert found(checker)["state"] == "waiting"
    checker.wait_flow()
    create_aio(checker, lab, SECOND)
    wait_online(checker)
    checker.rpc.call("bdev_dst_mirror_set_options", name=MIRROR, verify_rate_mib=0)
    wait_until(lambda: found(checker)["state"] == "done", "the members to be compared")
    result = found(checker)
    assert (result["blocks_differing"], result["blocks_unread"]) == (0, 0), result
    checker.end().assert_clean()


def test_stop_and_deletion(lab: Lab) -> None:
    application = lab.target()
    mirror_of(lab, application, verify_rate_mib=1)
    for _ in range(2):
        begin(application)
        with pytest.raises(RpcError, match="a verification is under way") as caught:
            begin(application, repair=True)
        assert caught.value.code == -16
        assert found(application)["state"] in ("running", "waiting")
        begin(application, stop=True)
        # What is being read is read to its end.
        wait_until(lambda: found(application)["state"] == "stopped", "the comparison to stop")
        assert found(application)["ended_ms_ago"] is not None
        wait_until(lambda: all(device["requests"] == 0 for device in shown(application)["devices"]), "the last read")
    # Without one, there is nothing to stop.
    begin(application, stop=True)
    begin(application, repair=True)
    assert application.rpc.call("bdev_dst_mirror_delete", name=MIRROR) is True
    application.rpc.call("bdev_dst_mirror_assemble", name=MIRROR, members=list(MEMBERS), verify_rate_mib=0)
    assert found(application) is None
    assert verify(application)["blocks_differing"] == 0
