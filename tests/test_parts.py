"""I/O that the client splits, and I/O of nothing."""

from __future__ import annotations

import pytest

from harness.checker import start_checker
from harness.lab import Lab
from harness.transport import attach

pytestmark = pytest.mark.needs_dst

MIB = 64
# Of 512 bytes: the client splits I/O at each 256 KiB.
PART_BLOCKS = 512


def test_io_of_zero_blocks_completes(lab: Lab) -> None:
    """As it does on a bdev that splits nothing. (SPDK's own splitting never completes it.)"""
    _, remote = lab.malloc_target(MIB)
    client = start_checker(lab)
    attach(lab.transport, client, remote)
    client.rpc.call("bdev_malloc_create", name="Local0", num_blocks=MIB * 2048, block_size=512)

    def outcomes(bdev: str) -> list[bool]:
        return [
            client.rpc.call("check_empty", bdev=bdev, offset=offset, write=write)["success"]
            for offset in (0, 1, PART_BLOCKS - 1, PART_BLOCKS, PART_BLOCKS + 1, MIB * 2048)
            for write in (False, True)
        ]

    assert outcomes("remote0") == outcomes("Local0")
    client.rpc.call("bdev_dst_delete", name="remote0")
    assert client.stop() == 0


@pytest.mark.parametrize("io_blocks", [PART_BLOCKS - 1, PART_BLOCKS + 1, 5 * PART_BLOCKS - 3])
def test_long_io_at_any_offset(lab: Lab, io_blocks: int) -> None:
    _, remote = lab.malloc_target(MIB)
    client = start_checker(lab, blocks=16 * PART_BLOCKS)
    attach(lab.transport, client, remote)
    client.begin_and_flow(depth=32, io_blocks=io_blocks, reads=30)
    client.end().assert_clean()
    client.verify().assert_clean()
    assert client.stop() == 0


def test_more_long_io_than_there_are_parts(lab: Lab) -> None:
    """SPDK submits it again."""
    _, remote = lab.malloc_target(MIB)
    client = start_checker(lab, blocks=64 * PART_BLOCKS, arguments=["-s", "1024"])
    attach(lab.transport, client, remote)
    client.begin_and_flow(depth=128, io_blocks=4 * PART_BLOCKS, reads=30)
    client.end().assert_clean()
    client.verify().assert_clean()
    assert client.stop() == 0
