"""Single bits that flip on a secured connection: the connection ends, another one replaces it, and
no data is wrong."""

from __future__ import annotations

import struct
import time
from random import Random

import pytest

from harness.checker import Checker, start_checker
from harness.cycles import BY_HAND, cycles, seeded_random
from harness.keys import KeyedService
from harness.lab import Lab
from harness.noise import CIPHER_NAMES, RECORD_HEAD_LEN, REKEY, TAG_LEN
from harness.protocol import HEADER_LEN
from harness.proxy import Flip, Proxy, Recording
from harness.rpc import RpcError
from harness.service import BLOCK
from harness.spdk import CLIENT_CORES, TARGET_CORES, Application
from harness.stream import CLIENT, SIDES, TARGET, Side
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

CIPHERS = list(CIPHER_NAMES.values())
LOAD = {"depth": 8, "io_blocks": 2, "reads": 50, "zeroes": 5, "compares": 10, "flushes": 1}
# With these options, the next connection comes at once, and one that waits for bytes that never
# come is soon given up.
PATIENCE = {"reconnect_delay_ms": 10, "keep_alive_timeout_ms": 400}


class Setup:
    def __init__(self, lab: Lab) -> None:
        self.service = KeyedService(lab, options={"handshake_timeout_ms": 200})
        self.proxy = Proxy(self.service.remote, secured=True, record=8192)
        lab.on_end(self.proxy.end)
        self.checker: Checker = start_checker(lab)

    def attach(self, cipher: str = "aes-256-gcm") -> None:
        self.service.attach(self.checker, remote=self.proxy.remote, cipher=cipher, **PATIENCE)

    def detach(self) -> None:
        self.checker.rpc.call("bdev_dst_delete", name="remote0")

    def assert_unharmed(self) -> None:
        self.checker.wait_flow()
        self.checker.end().assert_clean()
        self.checker.verify().assert_clean()
        self.checker.assert_running()
        self.service.application.assert_running()


def frame_len(stream: bytes) -> int:
    return HEADER_LEN + struct.unpack_from("<I", stream, 4)[0]


def handshake_len(stream: bytes) -> int:
    """Returns the length of the frame in clear and the first record together."""
    clear = frame_len(stream)
    return clear + RECORD_HEAD_LEN + (struct.unpack_from("<I", stream, clear)[0] & ~REKEY) + TAG_LEN


def is_whole(stream: bytes) -> bool:
    """Returns whether both are complete. (The total length does not tell, since any number of
    keep-alives follows them.)"""
    return (
        len(stream) >= HEADER_LEN
        and len(stream) >= frame_len(stream) + RECORD_HEAD_LEN
        and len(stream) >= handshake_len(stream)
    )


def handshakes(recordings: list[Recording]) -> dict[Side, int]:
    """Returns the greatest lengths."""
    whole = [each for each in recordings if is_whole(each.client) and is_whole(each.target)]
    return {
        CLIENT: max(handshake_len(each.client) for each in whole),
        TARGET: max(handshake_len(each.target) for each in whole),
    }


def flips(lengths: dict[Side, int], random: Random) -> list[Flip]:
    """Flips one bit of each byte; when run by hand, each bit."""

    def bits() -> list[int]:
        return list(range(8)) if BY_HAND else [random.randrange(8)]

    return [Flip(side, at, bit) for side in SIDES for at in range(lengths[side]) for bit in bits()]


@pytest.mark.watchdog(100)
@pytest.mark.parametrize("cipher", CIPHERS if BY_HAND else CIPHERS[1:2])
def test_every_byte_of_the_handshake(lab: Lab, cipher: str) -> None:
    random = seeded_random()
    setup = Setup(lab)
    proxy = setup.proxy
    setup.attach(cipher)
    setup.checker.begin_and_flow(**LOAD)
    # Only a connection that replaces another one has the longest hello.
    proxy.cut()
    setup.checker.wait_flow()
    lengths = handshakes(proxy.recordings())
    assert 250 < lengths[CLIENT] < 450 and 350 < lengths[TARGET] < 500, lengths
    left = flips(lengths, random)
    random.shuffle(left)
    wanted, before, began = len(left), proxy.accepted, time.monotonic()
    while left:
        # A flip whose connection ended before that byte is repeated.
        proxy.flip_new(left)
        proxy.cut()
        wait_until(lambda: proxy.accepted >= before + len(left), "the client to come back again and again", 60)
        before = proxy.accepted
        setup.checker.wait_flow(20)
        done = set(proxy.flipped)
        left = [flip for flip in left if flip not in done]
    print(f"{wanted} bits flipped in {time.monotonic() - began:.1f} s, {proxy.accepted} connections")
    setup.assert_unharmed()


@pytest.mark.watchdog(100)
def test_records_of_writes_and_of_read_data(lab: Lab) -> None:
    random = seeded_random()
    setup = Setup(lab)
    head, first, last = range(RECORD_HEAD_LEN), range(RECORD_HEAD_LEN, 20), range(-TAG_LEN - 4, 0)
    for cipher in CIPHERS:
        setup.attach(cipher)
        setup.checker.begin_and_flow(**LOAD)
        for place in [*head, *first, *last]:
            for side in SIDES:
                damage_one_record(setup, side, place, random.randrange(8))
        setup.assert_unharmed()
        setup.detach()


@pytest.mark.watchdog(100)
def test_records_that_workers_decrypt(lab: Lab) -> None:
    """Flips a bit in large I/O, in one of several records that a worker has: later data must not be
    accepted either."""
    random = seeded_random()
    setup = Setup(lab)
    processes: list[Application] = [setup.service.application, setup.checker]
    for process, cores in zip(processes, (CLIENT_CORES, TARGET_CORES)):
        process.rpc.call("dst_set_workers", cpumask=cores)
    setup.attach()
    setup.checker.begin_and_flow(**LOAD | {"depth": 16, "io_blocks": 64})
    for _ in range(cycles(10)):
        for side in SIDES:
            damage_one_record(setup, side, random.choice([0, 1, 2, 3, 4, 5000, -1, -16]), random.randrange(8))
    for process in processes:
        assert sum(worker["jobs"] for worker in process.rpc.call("dst_get_stats")["workers"]) > 0, process.name
    setup.assert_unharmed()


def damage_one_record(setup: Setup, side: Side, place: int, bit: int) -> None:
    proxy = setup.proxy
    before, corrupted = proxy.accepted, proxy.corrupted
    armed: list[int] = []

    def is_damaged() -> bool:
        nonlocal armed, before
        if proxy.corrupted > corrupted:
            return True
        # The chosen connections may have ended meanwhile for another reason and have been replaced.
        links = proxy.whole_links()
        if links != armed:
            armed, before = links, proxy.accepted
            proxy.corrupt_record(side, place, bit, least=BLOCK)
        return False

    wait_until(is_damaged, "a record to be damaged")
    wait_until(lambda: proxy.accepted > before, f"a new connection after byte {place} of the {side}'s record")
    setup.checker.wait_flow(20)


@pytest.mark.watchdog(100)
def test_attach_through_flips(lab: Lab) -> None:
    """The call succeeds with another connection, or fails and leaves nothing behind."""
    random = seeded_random()
    setup = Setup(lab)
    client, proxy = setup.checker, setup.proxy
    setup.attach()
    setup.detach()
    lengths = handshakes(proxy.recordings())
    outcomes = {"attached": 0, "refused": 0}
    for _ in range(cycles(40)):
        side = random.choice(SIDES)
        flip = Flip(side, random.randrange(lengths[side]), random.randrange(8))
        proxy.flip_new([flip])
        try:
            setup.attach()
        except RpcError as error:
            assert client.rpc.call("bdev_dst_get_info") == [], error
            assert "not allowed" in str(error) or "refused" in str(error), error
            outcomes["refused"] += 1
        else:
            outcomes["attached"] += 1
            assert client.bdev("remote0")
            setup.detach()
        assert proxy.flipped[-1] == flip
    print(outcomes)
    setup.attach()
    client.begin_and_flow(**LOAD)
    setup.assert_unharmed()
