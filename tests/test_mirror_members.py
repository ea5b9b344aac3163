"""Members that are added to a mirror and removed from it while it is used."""

from __future__ import annotations

import json

import pytest

from harness.checker import start_checker
from harness.lab import Lab
from harness.mirror import BLOCK, MEMBERS, MIRROR, create_aio, create_malloc, member_file, mirror_of, shown, wait_online
from harness.rpc import RpcError
from harness.spdk import Application
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

FIRST, SECOND = MEMBERS
THIRD, FOURTH = "Member2", "Member3"
LOAD = {"depth": 16, "reads": 40, "flushes": 2, "zeroes": 5}


def change(application: Application, what: str, member: str, **params: object) -> None:
    assert application.rpc.call(f"bdev_dst_mirror_{what}_member", name=MIRROR, member=member, **params) is True


def states(application: Application) -> dict[str, str]:
    """Returns the states of the members that were not removed, by name."""
    members = shown(application)["members"]
    return {member["name"]: member["state"] for member in members if member["state"] != "detached"}


def saved_members(application: Application) -> list[str]:
    """Returns the members of the mirror in the saved configuration."""
    calls = application.rpc.call("framework_get_config", name="bdev")
    return next(call["params"]["members"] for call in calls if call["method"] == "bdev_dst_mirror_assemble")


def tried(application: Application, what: str, member: str) -> bool:
    """Changes a member, unless the mirror is still reading the device."""
    try:
        change(application, what, member)
    except RpcError as error:
        assert "being read" in str(error)
        return False
    return True


def assemble(application: Application, *members: str) -> None:
    application.rpc.call("bdev_dst_mirror_delete", name=MIRROR)
    application.rpc.call("bdev_dst_mirror_assemble", name=MIRROR, members=list(members), degraded_wait_ms=200)


@pytest.mark.watchdog(240)
def test_a_dead_member_is_replaced_under_load(lab: Lab) -> None:
    checker = start_checker(lab)
    mirror_of(lab, checker)
    create_aio(checker, lab, THIRD)
    create_aio(checker, lab, FOURTH)
    checker.begin_and_flow(MIRROR, **LOAD)
    # A dead one is replaced, and a third one is added.
    checker.rpc.call("bdev_aio_delete", name=SECOND)
    checker.wait_flow()
    change(checker, "remove", SECOND)
    assert states(checker) == {FIRST: "in_sync"}
    assert shown(checker)["state"] == "online"
    for new in (THIRD, FOURTH):
        change(checker, "add", new)
        wait_online(checker)
        checker.wait_flow()
    assert states(checker) == dict.fromkeys((FIRST, THIRD, FOURTH), "in_sync")
    assert shown(checker)["counters"]["copied_blocks"] >= 2 * shown(checker)["num_blocks"]
    # One in use is removed, and gets nothing from then on.
    change(checker, "remove", FIRST)
    assert saved_members(checker) == [THIRD, FOURTH] or saved_members(checker) == [FOURTH, THIRD]
    checker.rpc.call("bdev_aio_delete", name=FIRST)
    checker.wait_flow()
    checker.end().assert_clean()
    checker.verify(MIRROR).assert_clean()
    config = checker.rpc.call("framework_get_config", name="bdev")
    path = lab.folder / "saved.json"
    path.write_text(json.dumps({"subsystems": [{"subsystem": "bdev", "config": config}]}))
    checker.stop()
    # The configuration names the new members, each of which holds all data.
    second = start_checker(lab, "second", journal=checker.journal, arguments=["--json", str(path)])
    wait_until(lambda: second.bdev(MIRROR), "the mirror to be assembled")
    assert states(second) == dict.fromkeys((THIRD, FOURTH), "in_sync")
    second.rpc.call("bdev_aio_delete", name=THIRD)
    second.verify(MIRROR).assert_clean()
    # The one that was removed is known, and is copied in full.
    create_aio(second, lab, FIRST)
    change(second, "add", FIRST)
    wait_until(lambda: states(second)[FIRST] == "in_sync", "the member to be copied")
    assert shown(second)["counters"]["copied_blocks"] >= shown(second)["num_blocks"]
    second.rpc.call("bdev_aio_delete", name=FOURTH)
    second.verify(MIRROR).assert_clean()


def test_what_does_not_fit_is_refused(lab: Lab) -> None:
    checker = start_checker(lab)
    mirror_of(lab, checker)

    def refused(what: str, member: str, why: str, **params: object) -> None:
        with pytest.raises(RpcError, match=why):
            change(checker, what, member, **params)

    refused("add", "absent", "there is no bdev")
    refused("add", FIRST, "one of its devices already")
    create_malloc(checker, "Small", mib=32)
    refused("add", "Small", "has room for", force=True)
    create_malloc(checker, "Other", block_size=512)
    refused("add", "Other", "blocks of 512 bytes", force=True)
    with open(member_file(lab, THIRD), "r+b") as file:
        file.write(b"data")
    create_aio(checker, lab, THIRD)
    refused("add", THIRD, "holds data")
    refused("remove", THIRD, "no member")
    # What was refused is given back.
    checker.rpc.call("bdev_aio_delete", name=THIRD)
    create_aio(checker, lab, THIRD)
    change(checker, "add", THIRD, force=True)
    wait_online(checker)
    for name in MEMBERS:
        change(checker, "remove", name)
    refused("remove", THIRD, "no other member that is in sync")
    assert saved_members(checker) == [THIRD]
    assert shown(checker)["block_size"] == BLOCK


def test_the_place_of_a_disk_that_came_back_empty_is_used_for_one_of_another_size(lab: Lab) -> None:
    checker = start_checker(lab)
    mirror_of(lab, checker)
    checker.rpc.call("bdev_aio_delete", name=SECOND)
    create_malloc(checker, SECOND, mib=128)
    wait_until(lambda: checker.rpc.call("bdev_get_bdevs", name=SECOND)[0]["claimed"], "the empty disk to be looked at")
    # It holds nothing that says whose it is: the member is meant by its name.
    wait_until(lambda: tried(checker, "remove", SECOND), "the member to be removed")
    create_aio(checker, lab, THIRD)
    change(checker, "add", THIRD)
    wait_online(checker)
    checker.rpc.call("bdev_malloc_delete", name=SECOND)
    assemble(checker, FIRST, THIRD)
    wait_online(checker)
    assert states(checker) == dict.fromkeys((FIRST, THIRD), "in_sync")


def test_a_device_that_an_old_configuration_names_is_given_back(lab: Lab) -> None:
    checker = start_checker(lab)
    mirror_of(lab, checker)
    change(checker, "remove", SECOND)
    for is_there in (True, False):
        if not is_there:
            checker.rpc.call("bdev_aio_delete", name=SECOND)
        assemble(checker, FIRST, SECOND)
        wait_online(checker)
        assert saved_members(checker) == [FIRST, SECOND]
        wait_until(lambda: tried(checker, "remove", SECOND), "the device to be given back")
        assert saved_members(checker) == [FIRST]
        assert states(checker) == {FIRST: "in_sync"}
    create_aio(checker, lab, SECOND)
    change(checker, "add", SECOND)
    wait_online(checker)
    assert states(checker) == dict.fromkeys(MEMBERS, "in_sync")
