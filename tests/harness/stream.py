"""The bytes of one direction of a connection that goes through the proxy."""

from __future__ import annotations

import random
import struct
import time
from collections import deque
from typing import Callable, Literal

from harness.protocol import HEADER_LEN

Side = Literal["client", "target"]
CLIENT: Side = "client"
TARGET: Side = "target"
SIDES: tuple[Side, Side] = (CLIENT, TARGET)

# What the proxy keeps for one direction at most; the rest waits in the sender's socket.
_MOST = 8 * 2**20


def other(side: Side) -> Side:
    return TARGET if side == CLIENT else CLIENT


class _Frames:
    """Follows docs/protocol.md's framing, and damages the header that it was told to."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._data_left = 0
        self._until_damage: int | None = None
        self._on_damage: Callable[[], None] = lambda: None
        self._bit = 0

    def damage(self, frames: int, on_damage: Callable[[], None]) -> None:
        # The header that is under way is half gone already.
        self._until_damage = frames + (1 if self._header else 0)
        self._on_damage = on_damage
        self._bit = random.randrange(HEADER_LEN * 8)

    def follow(self, data: bytes) -> bytes:
        at, damaged = 0, None
        while at < len(data):
            if self._data_left:
                step = min(self._data_left, len(data) - at)
                self._data_left -= step
            else:
                known = len(self._header)
                step = min(HEADER_LEN - known, len(data) - at)
                self._header += data[at : at + step]
                if self._until_damage == 0 and known <= self._bit // 8 < known + step:
                    damaged = damaged or bytearray(data)
                    damaged[at + self._bit // 8 - known] ^= 1 << self._bit % 8
                    self._until_damage = None
                    self._on_damage()
                if len(self._header) == HEADER_LEN:
                    self._data_left = struct.unpack_from("<I", self._header, 4)[0]
                    self._header.clear()
                    if self._until_damage:
                        self._until_damage -= 1
            at += step
        return data if damaged is None else bytes(damaged)


class Stream:
    def __init__(self) -> None:
        # Each with the time from which it may be passed on.
        self._chunks: deque[tuple[float, memoryview]] = deque()
        self._frames = _Frames()
        self._delay_s = 0.0
        self._sink_gone = False
        self._until_cut: int | None = None
        self._cut: Callable[[], None] = lambda: None
        self.waiting = 0
        self.forwarded = 0
        self.holds = False
        self.ended = False
        """The sender has ended it: nothing comes behind what waits."""

    @property
    def has_room(self) -> bool:
        return not self.ended and self.waiting < _MOST

    def take(self, data: bytes) -> None:
        if self._sink_gone:
            return
        data = self._frames.follow(data)
        self._chunks.append((time.monotonic() + self._delay_s, memoryview(data)))
        self.waiting += len(data)

    def take_end(self) -> None:
        self.ended = True

    def hold(self) -> None:
        self.holds = True

    def release(self) -> None:
        self.holds = False

    def drop(self) -> None:
        self._chunks.clear()
        self.waiting = 0

    def sink_is_gone(self) -> None:
        """Nobody is left to pass it on to: from here on it is thrown away."""
        self._sink_gone = True
        self.drop()

    def set_delay(self, seconds: float) -> None:
        self._delay_s = seconds

    def end_after(self, count: int, cut: Callable[[], None]) -> None:
        """Calls `cut` once exactly so many more bytes have been passed on."""
        if count == 0:
            cut()
        else:
            self._until_cut, self._cut = count, cut

    def corrupt_header(self, frames: int, on_damage: Callable[[], None]) -> None:
        self._frames.damage(frames, on_damage)

    def due_in(self) -> float | None:
        """Seconds until there is something to pass on; None if that is not a matter of time."""
        if self.holds or not self._chunks:
            return None
        wait = self._chunks[0][0] - time.monotonic()
        # What is due and not passed on yet waits for the receiver's socket.
        return wait if wait > 0 else None

    def can_forward(self) -> bool:
        return not self.holds and bool(self._chunks) and self._chunks[0][0] <= time.monotonic()

    def next_bytes(self) -> memoryview:
        if not self.can_forward():
            return memoryview(b"")
        data = self._chunks[0][1]
        return data if self._until_cut is None else data[: self._until_cut]

    def sent(self, count: int) -> None:
        """So many of `next_bytes` have been passed on."""
        due, data = self._chunks.popleft()
        if count < len(data):
            self._chunks.appendleft((due, data[count:]))
        self.waiting -= count
        self.forwarded += count
        if self._until_cut is not None:
            self._until_cut -= count
            if self._until_cut == 0:
                self._until_cut = None
                self._cut()
