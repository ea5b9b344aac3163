"""Mirrors of bdevs of the same process: members that go, come back, hang; the process ends and
starts again."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from harness.checker import start_checker
from harness.lab import Lab
from harness.mirror import (
    BLOCK,
    MEMBERS,
    MIRROR,
    create_aio,
    create_malloc,
    member,
    member_file,
    mirror_of,
    shown,
    wait_online,
)
from harness.ports import free_port
from harness.rpc import RpcError
from harness.spdk import Application
from harness.transport import Remote, serve_nvmf
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

FIRST, SECOND = MEMBERS
LOAD = {"depth": 16, "reads": 40, "flushes": 2, "zeroes": 5}


def save(application: Application, lab: Lab, *on_top: str) -> list[str]:
    """Saves the configuration of bdevs, and of the subsystems on top of them. Returns the arguments with
    which an application loads it."""
    call = application.rpc.call
    subsystems = [{"subsystem": name, "config": call("framework_get_config", name=name)} for name in ("bdev", *on_top)]
    path = lab.folder / f"{application.name}.json"
    path.write_text(json.dumps({"subsystems": subsystems}))
    return ["--json", str(path)]


def saved_methods(application: Application) -> list[str]:
    """Returns the methods of the saved configuration of bdevs, in their order."""
    return [call["method"] for call in application.rpc.call("framework_get_config", name="bdev")]


def same_data(lab: Lab, blocks: int) -> bool:
    """Returns whether the members' files hold the same in this many blocks of the mirror."""
    contents = []
    for name in MEMBERS:
        with open(member_file(lab, name), "rb") as file:
            contents.append(file.read(blocks * BLOCK))
    return contents[0] == contents[1]


@pytest.mark.watchdog(120)
def test_bdevio(lab: Lab) -> None:
    """SPDK's own bdev test suite, from three threads."""
    bdevio = Application(
        "bdevio", "bdevio", lab.folder, "0x7", ["-w"], variables={"DST_LCORES": "(0,1,2)@(0,1)"}
    )
    lab.adopt(bdevio)
    bdevio.wait_ready()
    for name in MEMBERS:
        create_malloc(bdevio, name, block_size=512)
    bdevio.rpc.call("bdev_dst_mirror_create", name=MIRROR, members=list(MEMBERS), equal=True)
    failures = bdevio.rpc.call("perform_tests", name=MIRROR)
    output = bdevio.text()
    assert failures == 0, output[-6000:]
    # CUnit's summary: total, ran, passed, failed, inactive.
    summary = re.search(r"tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", output)
    assert summary, output[-3000:]
    total, ran, passed, failed, inactive = map(int, summary.groups())
    assert total >= 20 and (ran, passed, failed, inactive) == (total, total, 0, 0)
    assert bdevio.rpc.call("bdev_dst_mirror_delete", name=MIRROR) is True


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("reactors", [1, 2], ids=["1-reactor", "2-reactors"])
def test_members_go_and_come_back_under_load(lab: Lab, reactors: int) -> None:
    """Each member misses writes in turn and is brought up to date; then it alone has all data."""
    checker = start_checker(lab, reactors=reactors)
    mirror_of(lab, checker)
    checker.begin_and_flow(MIRROR, **LOAD)
    for gone, left in ((FIRST, SECOND), (SECOND, FIRST)):
        checker.rpc.call("bdev_aio_delete", name=gone)
        assert member(checker, gone)["state"] == "missing"
        checker.wait_flow()
        assert member(checker, left)["state"] == "in_sync"
        create_aio(checker, lab, gone)
        wait_online(checker)
        checker.wait_flow()
    checker.findings().assert_clean()
    # The one that came back last is the only one now.
    checker.rpc.call("bdev_aio_delete", name=FIRST)
    checker.wait_flow()
    checker.end().assert_clean()
    checker.verify(MIRROR).assert_clean()
    assert shown(checker)["counters"]["departures"] == 3


def test_latencies_are_counted_by_kind(lab: Lab) -> None:
    checker = start_checker(lab)
    mirror_of(lab, checker)
    checker.begin_and_flow(MIRROR, **LOAD)
    found = checker.end()
    found.assert_clean()
    info = shown(checker)
    counted = {kind: sum(bucket["count"] for bucket in buckets) for kind, buckets in info["latency_us"].items()}
    # SPDK divides I/O that crosses a region's border.
    assert counted["read"] == info["counters"]["reads"] >= found.done["read"] > 0
    assert counted["write"] >= found.done["write"] > 0
    zeroes = counted["other"] - found.done["flush"]
    assert zeroes >= found.done["write_zeroes"] > 0
    assert counted["write"] + zeroes == info["counters"]["writes"]


def test_a_partial_resync_copies_what_was_missed(lab: Lab) -> None:
    checker = start_checker(lab)
    mirror_of(lab, checker)
    checker.rpc.call("bdev_aio_delete", name=FIRST)
    checker.begin_and_flow(MIRROR, **LOAD)
    checker.end().assert_clean()
    create_aio(checker, lab, FIRST)
    wait_online(checker)
    info = shown(checker)
    # The checker writes to its first blocks only. Hot regions may be copied, whole.
    most = checker.blocks + info["region_blocks"]
    assert 0 < info["counters"]["copied_blocks"] <= most < info["num_blocks"], info
    checker.rpc.call("bdev_aio_delete", name=SECOND)
    checker.verify(MIRROR).assert_clean()


def test_a_new_mirror_gets_the_data_of_its_first_member(lab: Lab) -> None:
    checker = start_checker(lab)
    for name in MEMBERS:
        create_aio(checker, lab, name)
    checker.begin_and_flow(FIRST, **LOAD)
    checker.end().assert_clean()
    with pytest.raises(RpcError, match="force"):
        checker.rpc.call("bdev_dst_mirror_create", name=MIRROR, members=list(MEMBERS))
    checker.rpc.call("bdev_dst_mirror_create", name=MIRROR, members=list(MEMBERS), force=True)
    wait_online(checker)
    checker.rpc.call("bdev_aio_delete", name=FIRST)
    checker.verify(MIRROR).assert_clean()


@pytest.mark.watchdog(120)
def test_restart(lab: Lab) -> None:
    """A process that ends in order leaves nothing to copy; each member holds the data by itself."""
    first = start_checker(lab, "first")
    mirror_of(lab, first)
    first.begin_and_flow(MIRROR, **LOAD)
    first.end().assert_clean()
    arguments = save(first, lab)
    first.stop()
    assert same_data(lab, first.blocks)
    second = start_checker(lab, "second", journal=first.journal, arguments=arguments)
    wait_until(lambda: second.bdev(MIRROR), "the mirror to be assembled")
    second.verify(MIRROR).assert_clean()
    assert shown(second)["counters"]["copied_blocks"] == 0
    assert second.rpc.call("bdev_dst_mirror_delete", name=MIRROR) is True
    for name in MEMBERS:
        second.verify(name).assert_clean()


@pytest.mark.watchdog(180)
def test_killed_under_load(lab: Lab) -> None:
    """What was in flight at a crash is made equal before it can be seen to differ."""
    arguments: list[str] = []
    for cycle in range(3):
        checker = start_checker(lab, f"cycle{cycle}", arguments=arguments)
        if cycle == 0:
            mirror_of(lab, checker)
        else:
            wait_until(lambda: checker.bdev(MIRROR), "the mirror to be assembled")
            checker.verify(MIRROR).assert_no_bad_block()
            wait_online(checker)
            # With one member only, as with the other one.
            for gone in MEMBERS:
                checker.rpc.call("bdev_aio_delete", name=gone)
                checker.verify(MIRROR).assert_clean()
                create_aio(checker, lab, gone)
                wait_online(checker)
        arguments = save(checker, lab)
        checker.begin_and_flow(MIRROR, **LOAD)
        checker.kill()


def test_degraded_assembly(lab: Lab) -> None:
    """One member of two is assembled alone only if its metadata say that the other one is out of date."""
    checker = start_checker(lab)
    mirror_of(lab, checker)
    checker.rpc.call("bdev_aio_delete", name=SECOND)
    checker.begin_and_flow(MIRROR, **LOAD)
    checker.end().assert_clean()
    assert checker.rpc.call("bdev_dst_mirror_delete", name=MIRROR) is True
    create_aio(checker, lab, SECOND)
    checker.rpc.call("bdev_aio_delete", name=FIRST)
    # The second one alone lacks writes, and does not know that.
    with pytest.raises(RpcError) as caught:
        checker.rpc.call(
            "bdev_dst_mirror_assemble",
            name=MIRROR,
            members=list(MEMBERS),
            start_timeout_ms=1500,
            degraded_wait_ms=200,
        )
    assert caught.value.code == -110, caught.value
    assert checker.rpc.call("bdev_dst_mirror_get_info") == []
    create_aio(checker, lab, FIRST)
    checker.rpc.call("bdev_aio_delete", name=SECOND)
    checker.rpc.call("bdev_dst_mirror_assemble", name=MIRROR, members=list(MEMBERS), degraded_wait_ms=200)
    assert member(checker, SECOND)["state"] == "missing"
    checker.verify(MIRROR).assert_clean()
    create_aio(checker, lab, SECOND)
    wait_online(checker)
    checker.rpc.call("bdev_aio_delete", name=FIRST)
    checker.verify(MIRROR).assert_clean()


def test_a_member_that_hangs_is_given_up(lab: Lab) -> None:
    """Writes wait for a member that does not answer, until it is reset and given up."""
    checker = start_checker(lab)
    for name in MEMBERS:
        create_malloc(checker, name)
    checker.rpc.call("bdev_error_create", base_name=SECOND)
    hanging = f"EE_{SECOND}"
    checker.rpc.call(
        "bdev_dst_mirror_create", name=MIRROR, members=[FIRST, hanging], equal=True, member_timeout_ms=1000
    )
    checker.begin_and_flow(MIRROR, depth=16, reads=40)
    checker.rpc.call(
        "bdev_error_inject_error", name=hanging, io_type="write", error_type="pending", num=1000000
    )
    wait_until(lambda: shown(checker)["counters"]["departures"] > 0, "the member to be given up")
    checker.wait_flow()
    checker.rpc.call("bdev_error_inject_error", name=hanging, io_type="clear", error_type="pending")
    checker.end().assert_clean()
    checker.verify(MIRROR).assert_clean()
    assert checker.rpc.call("bdev_dst_mirror_delete", name=MIRROR) is True


def test_deletion_under_load(lab: Lab) -> None:
    """The users' I/O ends, and the members are free at once."""
    checker = start_checker(lab)
    mirror_of(lab, checker)
    checker.begin_and_flow(MIRROR, **LOAD)
    began = time.monotonic()
    assert checker.rpc.call("bdev_dst_mirror_delete", name=MIRROR) is True
    assert time.monotonic() - began < 10
    wait_until(lambda: checker.findings().removed, "the user to be told")
    checker.end().assert_no_bad_block()
    for name in MEMBERS:
        bdev = checker.bdev(name)
        assert bdev is not None and bdev["claimed"] is False
    checker.rpc.call("bdev_dst_mirror_assemble", name=MIRROR, members=list(MEMBERS))
    checker.verify(MIRROR).assert_no_bad_block()


def test_members_belong_to_the_mirror_alone(lab: Lab) -> None:
    application = lab.target()
    for name in (*MEMBERS, "Other0"):
        create_malloc(application, name)
    call = application.rpc.call
    call("bdev_passthru_create", name="Passthru0", base_bdev_name="Other0")
    call("dst_create_export", name="volume", bdev_name=SECOND)
    first = application.bdev(FIRST)
    assert first is not None
    for members, why in (
        ([FIRST, "Other0"], "passthru"),
        ([FIRST, SECOND], "uses it otherwise"),
        ([FIRST, "x"], "no bdev"),
        ([FIRST, first["uuid"]], "named twice"),
        ([FIRST, MIRROR], "the mirror itself"),
    ):
        with pytest.raises(RpcError, match=why):
            call("bdev_dst_mirror_create", name=MIRROR, members=members)
        bdev = application.bdev(FIRST)
        assert bdev is not None and bdev["claimed"] is False
    call("dst_delete_export", name="volume")
    call("bdev_dst_mirror_create", name=MIRROR, members=list(MEMBERS), equal=True)
    with pytest.raises(RpcError, match="uses it otherwise|open elsewhere in this process"):
        call("dst_create_export", name="volume", bdev_name=SECOND)
    with pytest.raises(RpcError, match="already exists"):
        call("bdev_dst_mirror_create", name=MIRROR, members=list(MEMBERS))
    call("dst_create_export", name="volume", bdev_name=MIRROR)
    call("dst_delete_export", name="volume")
    assert call("bdev_dst_mirror_delete", name=MIRROR, wipe=True) is True
    with pytest.raises(RpcError):
        call("bdev_dst_mirror_assemble", name=MIRROR, members=list(MEMBERS), start_timeout_ms=500)


def test_saved_before_its_members(lab: Lab) -> None:
    """The mirror takes its members before another module examines what looks like its own."""
    checker = start_checker(lab)
    mirror_of(lab, checker)
    methods = saved_methods(checker)
    assert methods.index("bdev_dst_mirror_assemble") < methods.index("bdev_aio_create")


def test_what_is_on_top_of_a_mirror_comes_back(lab: Lab) -> None:
    """The rest of the configuration needs the mirror's bdev while it is loaded."""
    application = lab.target()
    mirror_of(lab, application)
    namespace = Remote("127.0.0.1", free_port(), "nqn.2016-06.io.spdk:again")
    serve_nvmf(application, MIRROR, namespace)
    methods = saved_methods(application)
    after = methods[methods.index("bdev_dst_mirror_wait") :]
    assert "bdev_aio_create" in methods and "bdev_aio_create" not in after
    _, path = save(application, lab, "nvmf")
    assert application.stop() == 0
    application = lab.target(config=Path(path))
    (subsystem,) = [s for s in application.rpc.call("nvmf_get_subsystems") if s["nqn"] == namespace.export]
    assert [ns["bdev_name"] for ns in subsystem["namespaces"]] == [MIRROR]
    assert saved_methods(application) == methods
    # A member that is newer has its call later: it would be waited for in vain.
    application.rpc.call("bdev_aio_delete", name=FIRST)
    create_aio(application, lab, FIRST)
    wait_online(application)
    assert "bdev_dst_mirror_wait" not in saved_methods(application)


def test_a_start_does_not_wait_for_ever_for_a_mirror(lab: Lab) -> None:
    """One whose members do not appear is waited for as long as its options say, and goes on trying."""
    checker = start_checker(lab)
    call = checker.rpc.call
    with pytest.raises(RpcError, match="no mirror"):
        call("bdev_dst_mirror_wait", name=MIRROR)
    call("bdev_dst_mirror_assemble", name=MIRROR, members=list(MEMBERS), wait=False, start_timeout_ms=300)
    assert call("bdev_dst_mirror_wait", name=MIRROR) is True
    assert shown(checker)["state"] == "starting"
    # What is not registered has no bdev to be waited for.
    methods = saved_methods(checker)
    assert "bdev_dst_mirror_assemble" in methods and "bdev_dst_mirror_wait" not in methods
    with pytest.raises(RpcError, match="is deleted, but the metadata are still on: Member0, Member1"):
        call("bdev_dst_mirror_delete", name=MIRROR, wipe=True)
    assert call("bdev_dst_mirror_get_info") == []


def test_stop_while_members_are_waited_for(lab: Lab) -> None:
    checker = start_checker(lab)
    checker.rpc.call("bdev_dst_mirror_assemble", name=MIRROR, members=list(MEMBERS), wait=False)
    assert shown(checker)["state"] == "starting"
    create_malloc(checker, FIRST)
    wait_until(lambda: shown(checker)["devices"][0]["state"] == "open", "the member to be taken")
    began = time.monotonic()
    checker.stop()
    assert time.monotonic() - began < 10
    assert checker.exit_code == 0
