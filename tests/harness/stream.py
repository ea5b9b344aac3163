"""The bytes of one direction of a connection that goes through the proxy."""

from __future__ import annotations

import time
from collections import deque
from typing import Callable, Literal

from harness.damage import Change, Headers, Records

Side = Literal["client", "target"]
CLIENT: Side = "client"
TARGET: Side = "target"
SIDES: tuple[Side, Side] = (CLIENT, TARGET)

# The maximum that the proxy holds for one direction. The rest waits in the sender's socket.
_MOST = 8 * 2**20


def other(side: Side) -> Side:
    return TARGET if side == CLIENT else CLIENT


class Stream:
    def __init__(self, secured: bool = False, record: int = 0) -> None:
        """`secured`: the direction carries records after its first frame. The first `record` bytes
        are kept."""
        # Chunks with the time from which they may be passed on.
        self._chunks: deque[tuple[float, memoryview]] = deque()
        self._headers = Headers()
        self._records = Records()
        self._changes: list[Change] = [self._records if secured else self._headers]
        self._record = record
        self.recorded = bytearray()
        """The bytes as the sender sent them."""
        self._delay_s = 0.0
        self._sink_gone = False
        self._until_cut: int | None = None
        self._cut: Callable[[], None] = lambda: None
        self.waiting = 0
        self.forwarded = 0
        self.holds = False
        self.ended = False
        """The sender has closed: nothing follows what waits."""

    @property
    def has_room(self) -> bool:
        return not self.ended and self.waiting < _MOST

    def take(self, data: bytes) -> None:
        if self._sink_gone:
            return
        self.recorded += data[: max(0, self._record - len(self.recorded))]
        for change in self._changes:
            data = change.follow(data)
        if data:
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
        """The receiver is gone: from here on, all bytes are discarded."""
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
        self._headers.damage(frames, on_damage)

    def corrupt_record(self, least: int, place: int, bit: int, on_damage: Callable[[], None]) -> None:
        self._records.damage(least, place, bit, on_damage)

    def change(self, change: Change) -> None:
        """Holds bytes from here on; for a new connection, all of them."""
        self._changes.append(change)

    def due_in(self) -> float | None:
        """Returns the seconds until bytes are due, or None if time alone does not make them due."""
        if self.holds or not self._chunks:
            return None
        wait = self._chunks[0][0] - time.monotonic()
        # Bytes that are due wait for the receiver's socket.
        return wait if wait > 0 else None

    def can_forward(self) -> bool:
        return not self.holds and bool(self._chunks) and self._chunks[0][0] <= time.monotonic()

    def next_bytes(self) -> memoryview:
        if not self.can_forward():
            return memoryview(b"")
        data = self._chunks[0][1]
        return data if self._until_cut is None else data[: self._until_cut]

    def sent(self, count: int) -> None:
        """Records how many of `next_bytes` have been passed on."""
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
