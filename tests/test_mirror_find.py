"""Members and witnesses of mirrors are found by the metadata on their bdevs."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from harness.checker import start_checker
from harness.lab import Lab
from harness.mirror import MEMBERS, MIRROR, create_aio, member_file, mirror_of, shown
from harness.rpc import RpcError
from harness.spdk import Application
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

FIRST, SECOND = MEMBERS
WITNESS = "Witness0"
MIB = 1 << 20


def find(application: Application, **params: Any) -> dict[str, dict[str, Any]]:
    """Returns what is found, by bdev."""
    return {found["bdev_name"]: found for found in application.rpc.call("bdev_dst_mirror_find", **params)}


def reasons(found: dict[str, dict[str, Any]]) -> dict[str, str | None]:
    return {bdev: one.get("reason") for bdev, one in found.items()}


def test_members_and_the_witness_are_found(lab: Lab) -> None:
    application = start_checker(lab)
    mirror_of(lab, application)
    member_file(lab, WITNESS, mib=1)
    create_aio(application, lab, WITNESS)
    application.rpc.call("bdev_dst_mirror_add_witness", name=MIRROR, witness=WITNESS)
    application.rpc.call("bdev_malloc_create", name="Other", num_blocks=1024, block_size=4096)
    uuid = shown(application)["uuid"]
    # What is in use is not read.
    assert {FIRST, SECOND, WITNESS} <= reasons(find(application)).keys()
    assert all("uses it otherwise" in why for why in reasons(find(application)).values() if why)
    application.rpc.call("bdev_dst_mirror_delete", name=MIRROR)
    found = find(application)
    assert reasons(found) == {FIRST: None, SECOND: None, WITNESS: None}
    assert {one["mirror"] for one in found.values()} == {uuid}
    assert [found[bdev]["role"] for bdev in (FIRST, SECOND, WITNESS)] == ["member", "member", "witness"]
    assert all(one["name"] == bdev for bdev, one in found.items())
    assert all((one["members"], one["witness"]) == ([FIRST, SECOND], WITNESS) for one in found.values())
    # Nothing was changed or kept: the mirror can be assembled from what was found.
    params = {"members": found[FIRST]["members"], "witness": found[FIRST]["witness"]}
    assert application.rpc.call("bdev_dst_mirror_assemble", name=MIRROR, **params) == MIRROR
    assert shown(application)["uuid"] == uuid


def test_a_bdev_that_has_grown_is_searched_at_its_old_end(lab: Lab) -> None:
    application = start_checker(lab)
    mirror_of(lab, application)
    application.rpc.call("bdev_dst_mirror_delete", name=MIRROR)
    before = find(application)[FIRST]
    application.rpc.call("bdev_aio_delete", name=FIRST)
    path = member_file(lab, FIRST)
    size = path.stat().st_size
    # By 5 MiB and one block.
    os.truncate(path, size + 5 * MIB + 4096)
    create_aio(application, lab, FIRST)
    assert find(application, bdev_name=FIRST) == {}
    assert find(application, bdev_name=FIRST, search_mib=4) == {}
    assert find(application, bdev_name=FIRST, search_mib=6)[FIRST] == before
    assert before["num_blocks"] * 4096 == size
    # Both superblocks are damaged.
    with open(path, "r+b") as volume:
        for room in (2, 1):
            volume.seek(size - size % 65536 - room * 65536 + 100)
            volume.write(b"\xff")
    found = find(application, search_mib=6)
    assert "CRC32C" in found[FIRST]["reason"] and "reason" not in found[SECOND]


def begin_long_search(application: Application) -> tuple[threading.Thread, list[Any]]:
    """Begins a search that would take an hour."""
    application.rpc.call("bdev_null_create", name="Endless", num_blocks=1 << 46, block_size=4096)
    answers: list[Any] = []

    def search() -> None:
        try:
            answers.append(find(application, search_mib=1 << 38))
        except (RpcError, OSError) as error:
            answers.append(error)

    thread = threading.Thread(target=search)
    thread.start()

    def is_refused() -> bool:
        try:
            find(application)
        except RpcError as error:
            return "another search" in error.message
        return False

    wait_until(is_refused, "the search to begin")
    return thread, answers


def test_a_search_ends_when_its_bdev_is_removed(lab: Lab) -> None:
    application = start_checker(lab)
    thread, answers = begin_long_search(application)
    application.rpc.call("bdev_null_delete", name="Endless")
    thread.join(20)
    assert [reasons(answer) for answer in answers] == [{"Endless": "it was removed meanwhile"}]
    assert find(application) == {}


def test_the_application_stops_during_a_search(lab: Lab) -> None:
    application = start_checker(lab)
    thread, answers = begin_long_search(application)
    assert application.stop() == 0
    thread.join(20)
    assert len(answers) == 1
