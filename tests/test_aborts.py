"""I/O that takes longer than its deadline, or much longer than other I/O: it costs no other I/O."""

from __future__ import annotations

import pytest

from harness.backends import slow_export
from harness.checker import start_checker
from harness.lab import Lab
from harness.protocol import (
    ABORT,
    ANSWER,
    Connection,
    HELD,
    READ,
    REQUEST,
    SUCCESS,
    Session,
    SessionRef,
    UNMAP,
    attribute,
    attributes,
    header,
    hello,
    ident,
    write,
)
from harness.served import MIB, Served
from harness.service import Service, answering_late, attach_to, late_backend, memory_backend
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

TIMEOUT_MS = 1000
# The deadline is compared with a clock that is read periodically.
EARLY_MS = 10


def join(session: Session, queue: int) -> Connection:
    """Returns a connection that carries requests, and aborts of them."""
    connection = session.dial(session.remote, session.export, session.host)
    connection.session = session
    place, aborts = SessionRef(session.id, queue, 1), attribute(12, b"\1")
    connection.send(
        hello(session.export, session.host, place, keep_alive_ms=session.keep_alive_ms, more=aborts, **session.offers)
    )
    assert attributes(connection.receive().data)[13] == b"\1"
    return connection


def test_what_overlaps_a_held_request_waits(served: Served) -> None:
    target, remote = served
    with slow_export(target, remote, 1.0) as slow:
        session = Session(slow, host="aborts")
        first, second = join(session, 1), join(session, 2)
        name = ident(0, 1)
        first.send(write(0, 1, 8, b"\1" * 512) + header(ABORT, ident=name))
        held = first.receive()
        assert (held.kind, held.ident) == (HELD, name)
        # The backend takes as long for each, so without the hold they would be answered in this
        # order.
        for slot, start in enumerate([8, 9]):
            second.send(header(REQUEST, READ, 0, 0, ident(slot, 1), start, 1))
        answer = first.receive()
        assert (answer.kind, answer.ident, answer.code) == (ANSWER, name, SUCCESS)
        answers = [second.receive() for _ in range(2)]
        assert [answer.ident for answer in answers] == [ident(1, 1), ident(0, 1)]
        assert answers[1].data == b"\1" * 512
        for connection in (first, second, session.control):
            connection.close()


def test_aborts_that_were_not_agreed_on(served: Served) -> None:
    target, remote = served
    with Session(remote, host="aborts").join(1) as connection:
        connection.send(header(ABORT, ident=ident(0, 1)))
        connection.assert_closed()
    target.assert_running()


def test_a_long_unmap_goes_in_parts(lab: Lab) -> None:
    service = Service(lab, memory_backend(64))
    blocks = 64 * 2**20 // 4096
    with Session(service.remote, host="long").join(1) as connection:
        assert connection.request(UNMAP, ident(0, 1), 0, blocks).code == SUCCESS
        # While the channel is there: SPDK adds its counts to the bdev's some time after it is gone.
        found = service.application.iostat("Malloc0")
    assert found["num_unmap_ops"] >= 2
    assert found["bytes_unmapped"] == blocks * 4096


def test_overdue_io_costs_no_connection(lab: Lab) -> None:
    """A backend that hangs: I/O fails at its deadline, and the session goes on, so that all is well
    when the backend is."""
    service, checker = Service(lab, late_backend(1)), start_checker(lab)
    attach_to(checker, service.remote, transaction_timeout_ms=TIMEOUT_MS, keep_alive_timeout_ms=4000)
    checker.begin_and_flow(depth=8, reads=30)
    service.application.rpc.call("check_late_hold", hold=True)
    wait_until(lambda: checker.findings().all_failed > 3 * 8, "I/O to fail")
    service.application.rpc.call("check_late_hold", hold=False)
    checker.wait_flow()
    checker.end().assert_no_bad_block()
    found = checker.verify()
    found.assert_no_bad_block()
    (info,) = checker.rpc.call("bdev_dst_get_info", name="remote0")
    assert (info["counters"]["connections_lost"], info["state"]) == (0, "connected"), info
    assert info["counters"]["expired"] > 3 * 8


def test_long_io_has_one_deadline(lab: Lab) -> None:
    """Of reads of up to 64 parts, 16 are sent at once: each part has an answer in time, and a long
    read has none."""
    service = Service(lab, answering_late(memory_backend(32), TIMEOUT_MS * 4 // 10))
    checker = start_checker(lab, blocks=8192, arguments=["-s", "1024"])
    attach_to(checker, service.remote, transaction_timeout_ms=TIMEOUT_MS, keep_alive_timeout_ms=4000)
    checker.begin(depth=1, io_blocks=4096, reads=100)
    wait_until(lambda: checker.findings().all_failed > 1, "I/O to fail")
    found = checker.end()
    found.assert_no_bad_block()
    assert found.failed_fastest_ms >= TIMEOUT_MS - EARLY_MS, "failed before its deadline"
    (info,) = checker.rpc.call("bdev_dst_get_info", name="remote0")
    assert (info["counters"]["connections_lost"], info["state"]) == (0, "connected"), info
