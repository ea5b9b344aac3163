"""A reset ends its own host's I/O, not that of others."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Iterator

import pytest

from harness.checker import start_checker
from harness.environment import environment
from harness.lab import Lab
from harness.protocol import ANSWER, READ, REQUEST, RESET, Connection, Session, header, ident, write
from harness.rpc import RpcError
from harness.served import Served
from harness.spdk import BOTH_CORES, Application
from harness.transport import Remote, attach
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

# How long the backend takes for each I/O, s: long enough for each reset to find some of it there.
LATENCY = 0.02
RESETS = 5
# Codes of an Answer.
SUCCESS, FAILED, ABORTED = 0, 1, 3


@contextmanager
def slow_export(application: Application, remote: Remote, seconds: float) -> Iterator[Remote]:
    """Creates export `slow` of a bdev that takes this long for each I/O. The export comes first, or
    SPDK's modules would examine the bdev for as long. (SPDK 20.07's delay bdev ends the process when it
    is reset, which is what these tests saw before resets stopped at the target.)"""
    call = application.rpc.call
    call("dst_create_export", name="slow", bdev_name="Slow0")
    call("dst_export_add_host", export="slow", host="*", access="rw")
    call("bdev_malloc_create", name="Malloc1", num_blocks=2048, block_size=512)
    microseconds = int(seconds * 1e6)
    call(
        "bdev_delay_create",
        base_bdev_name="Malloc1",
        name="Slow0",
        **{f"{kind}_{which}_latency": microseconds for kind in ("avg", "p99") for which in ("read", "write")},
    )
    wait_until(lambda: call("dst_get_exports", name="slow")[0]["state"] == "online", "the export")
    yield Remote(remote.address, remote.port, "slow")
    call("dst_delete_export", name="slow")
    call("bdev_delay_delete", name="Slow0")
    call("bdev_malloc_delete", name="Malloc1")


@contextmanager
def reset_export(application: Application, remote: Remote) -> Iterator[Remote]:
    """Creates export `reset`, whose resets reach the bdev, which fails the writes that hang in it."""
    call = application.rpc.call
    call("bdev_malloc_create", name="Malloc4", num_blocks=2048, block_size=512)
    call("bdev_error_create", base_name="Malloc4")
    call("dst_create_export", name="reset", bdev_name="EE_Malloc4", reset="backend")
    call("dst_export_add_host", export="reset", host="*", access="rw")
    yield Remote(remote.address, remote.port, "reset")
    call("dst_delete_export", name="reset")
    call("bdev_error_delete", name="EE_Malloc4")
    call("bdev_malloc_delete", name="Malloc4")


def hang_writes(application: Application, queue: Connection, count: int) -> None:
    """Sends writes that hang in the backend of `reset_export` until a reset."""
    before = in_flight(application)
    application.rpc.call(
        "bdev_error_inject_error", name="EE_Malloc4", io_type="write", error_type="pending", num=count
    )
    for slot in range(count):
        queue.send(write(slot + 1, 1, slot, b"x" * 512))
    wait_until(lambda: in_flight(application) == before + count, "the writes to reach the backend")


def reset(queue: Connection, sequence: int) -> int:
    """Sends a Reset and returns the code of its Answer."""
    return queue.request(RESET, ident(0, sequence)).code


def test_others_do_not_notice(lab: Lab) -> None:
    target, remote = lab.malloc_target(16, cores=BOTH_CORES)
    with slow_export(target, remote, LATENCY) as slow:
        checker = start_checker(lab, blocks=256)
        attach(lab.transport, checker, slow)
        # SPDK 26.09's bdev_delay says that it compares, as what is below it does, and does not: each
        # compare-and-write is a miscompare.
        compares = 10 if environment().spdk_version < (26, 1) else 0
        checker.begin_and_flow(depth=16, reads=40, zeroes=5, compares=compares, flushes=5)
        queue = Session(slow, "other").join(1)
        for sequence in range(1, RESETS + 1):
            assert reset(queue, sequence) == SUCCESS
            checker.wait_flow(50)
        checker.end().assert_clean()
        checker.verify().assert_clean()
        checker.rpc.call("bdev_dst_delete", name="remote0")
        queue.close()
    target.assert_running()


def test_what_a_reset_of_the_backend_ends_of_others_is_executed_again(served: Served) -> None:
    application, remote = served
    with reset_export(application, remote) as export:
        victim, other = Session(export, "victim").join(1), Session(export, "other").join(1)
        before = application.rpc.call("dst_get_stats")["executed_again"]
        hang_writes(application, victim, 3)
        assert reset(other, 1) == SUCCESS
        assert [victim.receive().code for _ in range(3)] == [SUCCESS] * 3
        assert application.rpc.call("dst_get_stats")["executed_again"] == before + 3
        assert victim.request(READ, ident(0, 1), 0, 3).data == b"x" * 1536
        victim.close()
        other.close()


def test_a_reset_is_answered_behind_the_hosts_own_io_on_all_queues(served: Served) -> None:
    application, remote = served
    with slow_export(application, remote, 0.5) as slow:
        session = Session(slow, "own")
        one, two = session.join(1), session.join(2)
        two.send(write(0, 1, 0, b"x" * 512))
        wait_until(lambda: in_flight(application) == 1, "the write to reach the backend")
        began = time.monotonic()
        assert reset(one, 1) == SUCCESS
        # The write is not ended, but waited for.
        assert application.rpc.call("dst_get_stats")["in_flight"] == 0
        assert two.receive().code == SUCCESS
        assert time.monotonic() - began < 20
        one.close()
        two.close()


def test_a_reset_of_the_backend_ends_the_hosts_own_io(served: Served) -> None:
    application, remote = served
    with reset_export(application, remote) as export:
        session = Session(export, "own")
        one, two = session.join(1), session.join(2)
        hang_writes(application, two, 1)
        assert reset(one, 1) == SUCCESS
        # SPDK's bdev_error ends its I/O as failed, newer versions (26.09) as aborted.
        assert two.receive().code in (FAILED, ABORTED)
        one.close()
        two.close()


def in_flight(application: Application) -> int:
    return application.rpc.call("dst_get_stats")["in_flight"]


def test_a_reset_fails_when_the_hosts_own_io_hangs(lab: Lab) -> None:
    target = lab.target()
    target.rpc.call("dst_set_options", drain_timeout_ms=1000)
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=512)
    remote = lab.transport.serve(target, "Malloc0")
    with slow_export(target, remote, 8) as slow:
        queue = Session(slow, "own").join(1)
        queue.send(write(1, 1, 0, b"x" * 512))
        wait_until(lambda: in_flight(target) == 1, "the write to reach the backend")
        queue.send(header(REQUEST, RESET, ident=ident(0, 1)))
        answer = queue.receive()
        assert (answer.kind, answer.ident, answer.code) == (ANSWER, ident(0, 1), FAILED)
        assert queue.receive().code == SUCCESS, "the write goes on"
        queue.close()
    target.assert_running()


def test_what_a_reset_reaches_is_shown_and_checked(served: Served) -> None:
    application, _ = served
    call = application.rpc.call
    call("bdev_malloc_create", name="Malloc3", num_blocks=2048, block_size=512)
    for params, shown in (({}, "host"), ({"reset": "host"}, "host"), ({"reset": "backend"}, "backend")):
        call("dst_create_export", name="shown", bdev_name="Malloc3", **params)
        assert call("dst_get_exports", name="shown")[0]["reset"] == shown
        call("dst_delete_export", name="shown")
    with pytest.raises(RpcError, match="neither"):
        call("dst_create_export", name="wrong", bdev_name="Malloc3", reset="both")
    call("bdev_malloc_delete", name="Malloc3")
