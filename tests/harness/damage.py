"""Damage that a network, or an attacker in it, may do to the bytes of one direction of a
connection."""

from __future__ import annotations

import random
import struct
from typing import Callable, Protocol

from harness.protocol import HEADER_LEN

# Of a record's head, behind which as many bytes of data come as it says, and a tag.
_HEAD_LEN, _TAG_LEN = 4, 16
_LENGTH = (1 << 31) - 1


class Change(Protocol):
    def follow(self, data: bytes) -> bytes:
        """Returns the next bytes, as they are to be passed on."""


def _flip(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


class FlippedBit:
    """Changes one bit, `at` bytes from the beginning of the connection."""

    def __init__(self, at: int, bit: int, on_flip: Callable[[], None]) -> None:
        self._left, self._bit, self._on_flip = at, bit, on_flip

    def follow(self, data: bytes) -> bytes:
        here, self._left = self._left, self._left - len(data)
        if not 0 <= here < len(data):
            return data
        self._on_flip()
        return _flip(data, here, self._bit)


class FirstFrame:
    """Replaces the first frame of a connection."""

    def __init__(self, edit: Callable[[bytes], bytes]) -> None:
        self._edit: Callable[[bytes], bytes] | None = edit
        self._frame = b""

    def follow(self, data: bytes) -> bytes:
        if self._edit is None:
            return data
        self._frame += data
        if len(self._frame) < HEADER_LEN:
            return b""
        length = HEADER_LEN + struct.unpack_from("<I", self._frame, 4)[0]
        if len(self._frame) < length:
            return b""
        frame, rest = self._frame[:length], self._frame[length:]
        edit, self._edit = self._edit, None
        return edit(frame) + rest


class Headers:
    """Follows the framing of docs/protocol.md, and damages the chosen header."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._data_left = 0
        self._until_damage: int | None = None
        self._on_damage: Callable[[], None] = lambda: None
        self._bit = 0

    def damage(self, frames: int, on_damage: Callable[[], None]) -> None:
        # A part of the current header has already been passed on.
        self._until_damage = frames + (1 if self._header else 0)
        self._on_damage = on_damage
        self._bit = random.randrange(HEADER_LEN * 8)

    def follow(self, data: bytes) -> bytes:
        at, damaged = 0, data
        while at < len(data):
            if self._data_left:
                step = min(self._data_left, len(data) - at)
                self._data_left -= step
            else:
                known = len(self._header)
                step = min(HEADER_LEN - known, len(data) - at)
                self._header += data[at : at + step]
                if self._until_damage == 0 and known <= self._bit // 8 < known + step:
                    damaged = _flip(damaged, at + self._bit // 8 - known, self._bit % 8)
                    self._until_damage = None
                    self._on_damage()
                if len(self._header) == HEADER_LEN:
                    self._data_left = struct.unpack_from("<I", self._header, 4)[0]
                    self._header.clear()
                    if self._until_damage:
                        self._until_damage -= 1
            at += step
        return damaged


class Records:
    """Follows a secured connection, which is one frame in clear and then records, and damages the
    chosen record."""

    def __init__(self) -> None:
        self._is_clear = True
        self._head = b""
        # For the current record: the bytes still to come, the bytes passed, and the byte to damage.
        self._left = 0
        self._passed = 0
        self._target: int | None = None
        self._least: int | None = None
        self._place = self._bit = 0
        self._on_damage: Callable[[], None] = lambda: None

    def damage(self, least: int, place: int, bit: int, on_damage: Callable[[], None]) -> None:
        """Chooses the next record with at least this many bytes of data. A negative position counts
        from its end."""
        self._least, self._place, self._bit, self._on_damage = least, place, bit, on_damage

    def follow(self, data: bytes) -> bytes:
        passed = []
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                passed.append(self._pass(piece))
                continue
            length = HEADER_LEN if self._is_clear else _HEAD_LEN
            need = length - len(self._head)
            self._head, data = self._head + data[:need], data[need:]
            if len(self._head) == length:
                self._begin()
                passed.append(self._pass(self._head))
                self._head = b""
        return b"".join(passed)

    def _begin(self) -> None:
        self._passed, self._target = 0, None
        if self._is_clear:
            self._is_clear = False
            self._left = struct.unpack_from("<I", self._head, 4)[0]
            return
        length = struct.unpack("<I", self._head)[0] & _LENGTH
        self._left = length + _TAG_LEN
        if self._least is not None and length >= self._least:
            self._least = None
            self._target = self._place % (_HEAD_LEN + self._left)

    def _pass(self, piece: bytes) -> bytes:
        at = None if self._target is None else self._target - self._passed
        self._passed += len(piece)
        if at is None or not 0 <= at < len(piece):
            return piece
        self._on_damage()
        return _flip(piece, at, self._bit)
