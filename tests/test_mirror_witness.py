"""A witness that is added to a mirror and removed from it while it is used."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from harness.checker import start_checker
from harness.lab import Lab
from harness.mirror import MEMBERS, MIRROR, create_aio, create_malloc, member_file, mirror_of, shown
from harness.rpc import RpcError
from harness.spdk import Application
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

FIRST, SECOND = MEMBERS
WITNESS, OTHER = "Witness0", "Witness1"


def create_witness(application: Application, lab: Lab, name: str) -> None:
    member_file(lab, name, mib=1)
    create_aio(application, lab, name)


def add(application: Application, witness: str, **params: Any) -> None:
    assert application.rpc.call("bdev_dst_mirror_add_witness", name=MIRROR, witness=witness, **params) is True


def remove(application: Application) -> None:
    assert application.rpc.call("bdev_dst_mirror_remove_witness", name=MIRROR) is True


def saved_witness(application: Application) -> str | None:
    """Returns the witness of the mirror in the saved configuration."""
    calls = application.rpc.call("framework_get_config", name="bdev")
    return next(
        call["params"].get("witness") for call in calls if call["method"] == "bdev_dst_mirror_assemble"
    )


def current(application: Application) -> tuple[str, bool] | None:
    witness = shown(application)["witness"]
    return witness and (witness["name"], witness["is_current"])


@pytest.mark.watchdog(240)
def test_a_dead_witness_is_replaced_and_the_new_one_decides(lab: Lab) -> None:
    checker = start_checker(lab)
    mirror_of(lab, checker)
    for name in (WITNESS, OTHER):
        create_witness(checker, lab, name)
    checker.begin_and_flow(MIRROR, depth=8, reads=40, flushes=2, zeroes=5)
    add(checker, WITNESS)
    assert (current(checker), saved_witness(checker)) == ((WITNESS, True), WITNESS)
    checker.wait_flow()
    checker.rpc.call("bdev_aio_delete", name=WITNESS)
    wait_until(lambda: current(checker) == (WITNESS, False), "the witness to be missed")
    assert shown(checker)["witness"]["reason"] == "the bdev was removed"
    remove(checker)
    assert (current(checker), saved_witness(checker)) == (None, None)
    add(checker, OTHER)
    assert (current(checker), saved_witness(checker)) == ((OTHER, True), OTHER)
    checker.wait_flow()
    checker.end().assert_clean()
    checker.kill()
    # One of two members and the new witness are enough (rule 2), and the old one is not taken back.
    second = start_checker(lab, "second", journal=checker.journal)
    for name in (SECOND, OTHER):
        create_aio(second, lab, name)
    params = {"members": list(MEMBERS), "witness": OTHER, "degraded_wait_ms": 200}
    assert second.rpc.call("bdev_dst_mirror_assemble", name=MIRROR, **params) == MIRROR
    second.verify(MIRROR).assert_clean()


@pytest.mark.watchdog(240)
def test_a_witness_that_was_removed_does_not_decide(lab: Lab) -> None:
    first = start_checker(lab)
    create_witness(first, lab, WITNESS)
    mirror_of(lab, first, witness=WITNESS)
    remove(first)
    first.kill()
    second = start_checker(lab, "second")
    for name in (SECOND, WITNESS):
        create_aio(second, lab, name)
    params = {"members": list(MEMBERS), "witness": WITNESS, "degraded_wait_ms": 200}
    with pytest.raises(RpcError, match="voters are there"):
        second.rpc.call("bdev_dst_mirror_assemble", name=MIRROR, start_timeout_ms=2000, **params)
    create_aio(second, lab, FIRST)
    assert second.rpc.call("bdev_dst_mirror_assemble", name=MIRROR, **params) == MIRROR
    # The configuration still names it: it is given back, and may be added again.
    wait_until(lambda: second.bdev(WITNESS), "the bdev of the witness")
    assert (current(second), saved_witness(second)) == (None, WITNESS)
    remove(second)
    assert saved_witness(second) is None
    add(second, WITNESS)
    assert current(second) == (WITNESS, True)


def test_what_does_not_fit_is_refused(lab: Lab) -> None:
    checker = start_checker(lab)
    mirror_of(lab, checker)

    def refused(witness: str, why: str, **params: Any) -> None:
        with pytest.raises(RpcError, match=why):
            add(checker, witness, **params)

    refused("absent", "there is no bdev")
    refused(FIRST, "one of its devices already")
    refused(MIRROR, "the mirror itself")
    with open(member_file(lab, OTHER, mib=1), "r+b") as file:
        file.write(b"data")
    create_aio(checker, lab, OTHER)
    refused(OTHER, "holds data")
    with pytest.raises(RpcError, match="no witness"):
        remove(checker)
    # Its blocks may have another size than the mirror's.
    create_malloc(checker, WITNESS, mib=1, block_size=512)
    add(checker, WITNESS)
    refused(OTHER, "it has a witness: remove that first", force=True)
    checker.rpc.call("bdev_aio_delete", name=SECOND)
    wait_until(lambda: shown(checker)["state"] == "degraded", "the member to be missed")
    with pytest.raises(RpcError, match="1 of 2 members are there"):
        remove(checker)
    create_aio(checker, lab, SECOND)
    wait_until(lambda: shown(checker)["state"] == "online", "the member to be back")
    remove(checker)
    add(checker, OTHER, force=True)
    assert current(checker) == (OTHER, True)


@pytest.mark.watchdog(240)
def test_an_owner_that_is_killed_during_a_change_leaves_the_mirror_before_or_after(lab: Lab) -> None:
    first = start_checker(lab)
    mirror_of(lab, first)
    create_witness(first, lab, WITNESS)
    first.begin_and_flow(MIRROR, depth=8, reads=40, flushes=2, zeroes=5)

    def change() -> None:
        # The process dies before it answers some of these.
        try:
            while True:
                add(first, WITNESS)
                remove(first)
        except (RpcError, OSError, EOFError, AssertionError):
            pass

    changing = threading.Thread(target=change)
    changing.start()
    for _ in range(3):
        first.wait_flow()
    first.kill()
    changing.join()
    second = start_checker(lab, "second", journal=first.journal)
    for name in (FIRST, SECOND, WITNESS):
        create_aio(second, lab, name)
    params = {"members": list(MEMBERS), "witness": WITNESS, "degraded_wait_ms": 200}
    assert second.rpc.call("bdev_dst_mirror_assemble", name=MIRROR, **params) == MIRROR
    second.verify(MIRROR).assert_clean()
    if current(second) != (WITNESS, True):
        remove(second)
        add(second, WITNESS)
    assert current(second) == (WITNESS, True)
