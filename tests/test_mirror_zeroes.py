"""Blocks of a mirror that are zeroed or unmapped: members get that as it is, and hold zeroes."""

from __future__ import annotations

from itertools import count

import pytest

from harness.checker import start_checker
from harness.lab import Lab
from harness.mirror import BLOCK, MEMBERS, MIRROR, create_malloc, mirror_of, shown
from harness.protocol import READ, SUCCESS, UNMAP, WRITE_ZEROES, Session, ident, write
from harness.spdk import Application
from harness.transport import Dst

pytestmark = pytest.mark.needs_dst

# The length of a piece in which a mirror zeroes blocks.
PIECE = 2 << 20
LOAD = {"depth": 16, "reads": 40, "flushes": 2, "zeroes": 20}


def supported(application: Application) -> dict[str, bool]:
    bdev = application.bdev(MIRROR)
    assert bdev is not None
    return bdev["supported_io_types"]


def test_members_get_zeroes_as_zeroes(lab: Lab) -> None:
    """Those that write zeroes by themselves. What is longer than a piece comes in pieces."""
    application = lab.target()
    for name in MEMBERS:
        create_malloc(application, name)
    call = application.rpc.call
    call("bdev_dst_mirror_create", name=MIRROR, members=list(MEMBERS), equal=True)
    assert supported(application)["write_zeroes"] and supported(application)["unmap"]
    remote = Dst().serve(application, MIRROR)
    blocks = shown(application)["num_blocks"]
    places = (0, PIECE // BLOCK, blocks - 1)
    with Session(remote, host="zeroes").join(1) as connection:
        names = map(lambda number: (0, number), count(1))
        for op in (UNMAP, WRITE_ZEROES):
            for place in places:
                connection.send(write(*next(names), place, b"\xa5" * BLOCK, block_size=BLOCK))
                assert connection.receive().code == SUCCESS
            before = shown(application)["counters"]["writes"]
            assert connection.request(op, ident(*next(names)), 0, blocks).code == SUCCESS
            assert shown(application)["counters"]["writes"] - before >= blocks * BLOCK // PIECE
            for place in places:
                # Each member answers some.
                for _ in MEMBERS:
                    answer = connection.request(READ, ident(*next(names)), place, 1)
                    assert (answer.code, answer.data) == (SUCCESS, bytes(BLOCK))


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("kind", ["zeroed-by-the-member", "zeroed-with-data"])
def test_zeroes_under_load(lab: Lab, kind: str) -> None:
    """A member that cannot zero blocks gets zeroes as data from SPDK. Then nothing is unmapped."""
    checker = start_checker(lab)
    if kind == "zeroed-with-data":
        mirror_of(lab, checker)
    else:
        for name in MEMBERS:
            create_malloc(checker, name)
        checker.rpc.call("bdev_dst_mirror_create", name=MIRROR, members=list(MEMBERS), equal=True)
    types = supported(checker)
    assert (types["write_zeroes"], types["unmap"]) == (True, kind == "zeroed-by-the-member")
    checker.begin_and_flow(MIRROR, **LOAD)
    checker.wait_flow(2000)
    checker.end().assert_clean()
    checker.verify(MIRROR).assert_clean()
    assert checker.rpc.call("bdev_dst_mirror_delete", name=MIRROR) is True
    for name in MEMBERS:
        checker.verify(name).assert_clean()
