"""A target that breaks the rules: the client lives, keeps its bdev, and shows what is wrong."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest

from harness.checker import start_checker
from harness.fake_target import BLOCKS, FakeTarget, Memory
from harness.lab import Lab
from harness.protocol import Closed, EVENT, Frame, RESENT, WRITE, attribute, header, ident
from harness.served import BLOCK
from harness.service import attach_to
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst


def test_event_right_behind_the_welcome(lab: Lab) -> None:
    """The event arrives with the same read of the socket, and is not lost."""
    resized = attribute(1, struct.pack("<Q", 4096))
    fake = FakeTarget(header(EVENT, 1, length=len(resized)) + resized, serves=Memory())
    lab.on_end(fake.end)
    client = lab.client()
    attach_to(client, fake.remote, "fake0")
    wait_until(lambda: client.bdev_bytes("fake0") == 4096 * BLOCK, "the client to notice the new size", 5)


def test_size_that_no_device_can_have(lab: Lab) -> None:
    """Too many bytes for the device's blocks: the connection ends, and the size stays what it was."""
    memory = Memory()
    fake = FakeTarget(serves=memory)
    # In blocks of the smallest size there is, it would be allowed.
    fake.block_size = memory.block_size = 4096
    lab.on_end(fake.end)
    client = lab.client()
    attach_to(client, fake.remote, "fake0")
    resized = attribute(1, struct.pack("<Q", 2**51))
    fake.channels[0].send(header(EVENT, 1, length=len(resized)) + resized)
    wait_until(lambda: "control connection lost: protocol violation" in client.text(), "the connection to end", 5)
    wait_until(lambda: len(fake.channels) > 1, "the client to come back", 5)
    assert client.bdev_bytes("fake0") == BLOCKS * 4096
    (info,) = client.rpc.call("bdev_dst_get_info", name="fake0")
    assert info["negotiated"]["num_blocks"] == BLOCKS


def test_size_that_spdk_refuses(lab: Lab) -> None:
    """SPDK does not shrink a bdev that is open. The target's device is smaller all the same, and is not another one."""
    memory = Memory()
    fake = FakeTarget(serves=memory)
    lab.on_end(fake.end)
    checker = start_checker(lab, blocks=BLOCKS // 2)
    attach_to(checker, fake.remote, reconnect_delay_ms=50)

    def state() -> tuple[str, str | None]:
        (info,) = checker.rpc.call("bdev_dst_get_info", name="remote0")
        return info["state"], info["last_error"]

    wait_until(lambda: state() == ("connected", None), "the client to be connected", 10)
    checker.begin_and_flow(depth=1)
    fake.blocks = BLOCKS - 8
    resized = attribute(1, struct.pack("<Q", fake.blocks))
    fake.channels[0].send(header(EVENT, 1, length=len(resized)) + resized)
    refused = f"has {BLOCKS - 8} blocks now, but the bdev keeps its {BLOCKS}"
    wait_until(lambda: refused in (state()[1] or ""), "the client to say so", 5)
    # The connections come back to the smaller device, all of them.
    before = fake.connections
    for channel in list(fake.channels):
        channel.close()
    wait_until(lambda: fake.connections >= before + 2, "the client to come back", 10)
    wait_until(lambda: state()[0] == "connected" and refused in (state()[1] or ""), "all to be there", 10)
    checker.wait_flow()
    assert checker.bdev_bytes("remote0") == BLOCKS * BLOCK
    assert checker.text().count(refused) == 1, "it is logged once"
    # SPDK takes a size that is no smaller than its own.
    fake.blocks = BLOCKS + 8
    for channel in list(fake.channels):
        channel.close()
    wait_until(lambda: checker.bdev_bytes("remote0") == (BLOCKS + 8) * BLOCK, "the bdev to grow", 10)
    wait_until(lambda: state() == ("connected", None), "nothing to be wrong", 10)
    assert checker.end().all_failed == 0


def test_target_that_talks_of_its_size_all_the_time(lab: Lab) -> None:
    """The client accepts the sizes but does not log all of them, so that they do not flood the
    log."""
    fake = FakeTarget(keep_alive_ms=3000)
    lab.on_end(fake.end)
    client = lab.client()
    attach_to(client, fake.remote, "fake0")

    def told() -> int:
        """Returns the lines of DST. Newer versions of SPDK log each change of a bdev's size
        themselves."""
        return sum("DST" in line for line in client.text().splitlines())

    lines = told()
    size = 2048
    ended = time.monotonic() + 3
    while time.monotonic() < ended:
        size += 1
        resized = attribute(1, struct.pack("<Q", size))
        fake.channels[0].send(header(EVENT, 1, length=len(resized)) + resized)
        time.sleep(0.002)
    wait_until(lambda: client.bdev_bytes("fake0") == size * BLOCK, "the client to notice the last size", 5)
    assert size > 2048 + 100
    assert told() - lines < 10, client.tail()
    assert "lines like it were left out" in client.text()


def test_device_that_has_a_volatile_cache_now(lab: Lab) -> None:
    """No layer above would flush the cache, so I/O waits for the earlier device, and the reason is
    shown."""
    fake = FakeTarget()
    lab.on_end(fake.end)
    client = lab.client()
    attach_to(client, fake.remote, "fake0", reconnect_delay_ms=50)

    def state() -> tuple[str, str | None]:
        (info,) = client.rpc.call("bdev_dst_get_info", name="fake0")
        return info["state"], info["last_error"]

    wait_until(lambda: state() == ("connected", None), "the client to be connected", 10)
    fake.write_cache = True
    fake.channels[-1].close()
    wait_until(lambda: "volatile" in (state()[1] or "") and state()[0] == "reconnecting", "the client to report it", 10)
    fake.write_cache = False
    # The message is no longer shown when the cause is gone.
    wait_until(lambda: state() == ("connected", None), "the client to come back", 10)
    # Its end would wait for the answers to what gpt reads.
    client.kill()


@pytest.mark.parametrize(
    "what, other, why",
    [
        ("uuid", bytes(15) + b"\1", "its UUID was"),
        ("block_size", 4096, f"the block size was {BLOCK}, is 4096"),
        ("blocks", BLOCKS - 1, f"the size in blocks was {BLOCKS}, is {BLOCKS - 1}"),
    ],
)
def test_another_device_in_its_place(lab: Lab, what: str, other: Any, why: str) -> None:
    """Another device appears under the same name: nothing is written or read until an operator
    intervenes."""
    memory = Memory()
    fake = FakeTarget(serves=memory)
    lab.on_end(fake.end)
    checker = start_checker(lab)
    attach_to(checker, fake.remote, reconnect_delay_ms=50)

    def state() -> tuple[str, str | None]:
        (info,) = checker.rpc.call("bdev_dst_get_info", name="remote0")
        return info["state"], info["last_error"]

    # SPDK's examination of the new bdev also has a connection for a moment.
    wait_until(lambda: state() == ("connected", None), "the client to be connected", 10)
    assert checker.flush()
    setattr(fake, what, other)
    for channel in fake.channels:
        channel.close()
    wait_until(lambda: state()[0] == "failed", "the client to notice", 10)
    assert f"the export is another device now: {why}" in (state()[1] or "")
    assert not checker.flush()
    # Neither waiting nor the return of the old device restores the bdev.
    setattr(fake, what, getattr(FakeTarget, what))
    before = fake.connections
    assert not checker.flush() and state()[0] == "failed"
    assert fake.connections == before
    setattr(fake, what, other)
    memory.block_size = fake.block_size
    assert checker.rpc.call("bdev_dst_delete", name="remote0") is True
    attach_to(checker, fake.remote)
    wait_until(lambda: state() == ("connected", None), "the new one to be connected", 10)
    assert checker.flush()


def test_request_whose_connection_is_closed_each_time(lab: Lab) -> None:
    """The I/O is sent, sent again max_retries times, and then fails."""
    seen: list[tuple[int, int]] = []

    class Closes(Memory):
        def answer(self, request: Frame) -> bytes:
            # SPDK's own readers of the bdev are served.
            if request.code != WRITE:
                return super().answer(request)
            seen.append((request.ident, request.flags & RESENT))
            raise Closed

    fake = FakeTarget(serves=Closes())
    lab.on_end(fake.end)
    checker = start_checker(lab)
    attach_to(checker, fake.remote, reconnect_delay_ms=20, max_retries=2)
    checker.begin(depth=1, reads=0)
    wait_until(lambda: checker.findings().all_failed >= 2, "I/O to fail")
    for at in (0, 3):
        ident, _ = seen[at]
        assert seen[at : at + 3] == [(ident, 0), (ident, RESENT), (ident, RESENT)]
    assert seen[0] != seen[3]


def test_target_that_lets_in_and_closes(lab: Lab) -> None:
    """Each of the client's connections pauses before each new attempt."""
    fake = FakeTarget(close=True)
    lab.on_end(fake.end)
    client = lab.client()
    attach_to(client, fake.remote, "fake0", wait=False, reconnect_delay_ms=200)
    wait_until(lambda: fake.connections, "the first connection")
    before = fake.connections
    time.sleep(3)
    client.assert_running()
    # A pause is up to a quarter shorter than reconnect_delay_ms, and the first three are shorter
    # still.
    assert 5 <= fake.connections - before <= 2 * (3 + 3000 / 150)
    assert client.rpc.call("bdev_dst_delete", name="fake0") is True
