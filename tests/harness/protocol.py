"""A DST client written only from docs/protocol.md, to test the target independently of DST's own
client."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Any, Callable

from harness.channel import Channel, Closed
from harness.transport import Remote

HEADER_LEN = 48

HELLO, WELCOME, REFUSAL, REQUEST, ANSWER, KEEP_ALIVE, KEEP_ALIVE_ACK, EVENT, GOODBYE = range(1, 10)
# Both only where the Welcome allows them.
ABORT, HELD = 12, 13
READ, WRITE, FLUSH, UNMAP, WRITE_ZEROES, COMPARE_AND_WRITE, RESET = range(1, 8)
SUCCESS, FAILED, MISCOMPARE, ABORTED, NOT_SUPPORTED, OUT_OF_RANGE, READ_ONLY, CORRUPT = range(8)
# The flag of a header whose data has a digest, and the code of the digest in the handshake.
DIGEST = 1
CRC32C = 1
# The flag of a Request that was sent before.
RESENT = 2
REMOVED = 2
NOT_ALLOWED, VERSION, PROTECTION, BUSY, MALFORMED, NO_SESSION, OWNED = range(1, 8)

_CRC_TABLE = []
for _value in range(256):
    for _ in range(8):
        _value = (_value >> 1) ^ (0x82F63B78 if _value & 1 else 0)
    _CRC_TABLE.append(_value)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def header(
    kind: int,
    code: int = 0,
    flags: int = 0,
    length: int = 0,
    ident: int = 0,
    start: int = 0,
    count: int = 0,
    digest: int = 0,
) -> bytes:
    """Returns a header with a correct CRC and arbitrary fields."""
    begin = struct.pack("<BBHIQQQI", kind, code, flags, length, ident, start, count, digest) + bytes(8)
    return begin + struct.pack("<I", crc32c(begin))


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", kind, len(value)) + value


def attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while data:
        kind, length = struct.unpack_from("<HH", data)
        assert len(data) >= 4 + length, "an attribute runs past the end of its list"
        found[kind] = data[4 : 4 + length]
        data = data[4 + length :]
    return found


@dataclass(frozen=True)
class SessionRef:
    id: bytes
    queue: int
    epoch: int


def hello(
    export: str,
    host: str,
    session: SessionRef | None = None,
    versions: tuple[int, int] = (1, 1),
    digests: bytes = b"\0",
    ciphers: bytes = b"\0",
    credits: int = 128,
    keep_alive_ms: int = 10_000,
    more: bytes = b"",
) -> bytes:
    """Returns a whole Hello frame. `more`: further attributes, as bytes."""
    data = attribute(1, struct.pack("<H", versions[0])) + attribute(2, struct.pack("<H", versions[1]))
    data += attribute(3, export.encode()) + attribute(4, host.encode())
    data += attribute(6, struct.pack("<H", credits))
    data += attribute(7, digests) + attribute(8, ciphers)
    data += attribute(9, struct.pack("<I", keep_alive_ms))
    if session is not None:
        place = attribute(1, session.id) + attribute(2, struct.pack("<H", session.queue))
        data += attribute(5, place + attribute(3, struct.pack("<I", session.epoch)))
    data += more
    return header(HELLO, length=len(data)) + data


@dataclass(frozen=True)
class Frame:
    kind: int
    code: int
    ident: int
    data: bytes
    # The digest of the data; 0 without the flag.
    digest: int | None = None
    flags: int = 0
    start: int = 0
    count: int = 0


def receive_frame(channel: Channel) -> Frame:
    head = channel.exactly(HEADER_LEN)
    assert struct.unpack_from("<I", head, 44)[0] == crc32c(head[:44]), "a header with a wrong CRC"
    kind, code, flags, length, ident, start, count, digest = struct.unpack_from("<BBHIQQQI", head)
    data = channel.exactly(length)
    return Frame(kind, code, ident, data, digest if flags & DIGEST else None, flags, start, count)


class Connection:
    """A connection on which the test sends every frame."""

    def __init__(self, remote: Remote, timeout: float = 20.0, channel: Channel | None = None) -> None:
        self.session: Session | None = None
        # The numbers of the newest keep-alive sent and of the newest acknowledged one.
        self.asked = 0
        self.acknowledged = 0
        self.channel = channel or Channel(socket.create_connection((remote.address, remote.port), timeout=timeout))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self.channel.close()

    def send(self, data: bytes) -> None:
        self.channel.send(data)

    def receive(self) -> Frame:
        frame = receive_frame(self.channel)
        if frame.kind == KEEP_ALIVE_ACK and frame.ident:
            self.acknowledged = frame.ident
        return frame

    def assert_closed(self) -> None:
        """Waits until the target has closed the connection, and skips frames that come before."""
        try:
            while True:
                self.receive()
        except Closed:
            pass

    def request(self, code: int, ident: int, start: int = 0, count: int = 0, data: bytes = b"") -> Frame:
        """Sends a Request and returns its Answer, which must be the next frame."""
        self.send(header(REQUEST, code, 0, len(data), ident, start, count) + data)
        answer = self.receive()
        assert (answer.kind, answer.ident) == (ANSWER, ident), answer
        return answer

    def send_keep_alive(self, has: int | None = None) -> None:
        """Sends the next keep-alive, which renews the lease if `has`, the acknowledgement that it
        shows, is the newest."""
        self.asked += 1
        self.send(header(KEEP_ALIVE, ident=self.asked, start=self.acknowledged if has is None else has))

    def keep_alive(self) -> None:
        """Sends a keep-alive with the newest acknowledgement and receives its acknowledgement,
        which must be the next frame."""
        self.send_keep_alive()
        ack = self.receive()
        assert (ack.kind, ack.ident) == (KEEP_ALIVE_ACK, self.asked), ack


# Opens a connection of a host for an export, before the hello.
Dial = Callable[[Remote, str, str], Connection]


def plain(remote: Remote, _export: str, _host: str) -> Connection:
    return Connection(remote)


# How often a hello that waits for the backend is repeated. Each waits for a second or more.
PATIENCE = 10


class Session:
    """A session's first connection, queue 0."""

    def __init__(
        self,
        remote: Remote,
        host: str = "test-script",
        export: str | None = None,
        # The keep-alive time is longer than any test; a test that needs a lease to end gives
        # another one.
        keep_alive_ms: int = 120_000,
        more: bytes = b"",
        digests: bytes = b"\0",
        dial: Dial = plain,
        ciphers: bytes = b"\0",
    ) -> None:
        self.remote = remote
        self.dial = dial
        self.offers = {"digests": digests, "ciphers": ciphers}
        self.host = host
        self.export = export or remote.export
        self.keep_alive_ms = keep_alive_ms
        for _ in range(PATIENCE):
            self.control = dial(remote, self.export, host)
            self.control.send(hello(self.export, host, keep_alive_ms=keep_alive_ms, more=more, **self.offers))
            welcome = self.control.receive()
            if not waits_for_backend(welcome):
                break
        assert welcome.kind == WELCOME, refusal_of(welcome)
        self.welcome = attributes(welcome.data)
        self.instance = self.welcome[2]
        # Whether the target says that nothing of the previous session is executed any more.
        self.previous_ended = self.welcome.get(10) not in (None, b"\0")
        self.id = attributes(self.welcome[3])[1]
        device = attributes(self.welcome[4])
        self.blocks, self.block_size = struct.unpack("<Q", device[2])[0], struct.unpack("<I", device[3])[0]
        self.max_transfer: int = struct.unpack("<I", self.welcome[6])[0]

    def join(self, queue: int, epoch: int = 1, keep_alive_ms: int | None = None) -> Connection:
        """A connection that carries requests."""
        for again in range(PATIENCE):
            connection = self.say_hello(queue, epoch + again, keep_alive_ms)
            welcome = connection.receive()
            if not waits_for_backend(welcome):
                break
        assert welcome.kind == WELCOME, refusal_of(welcome)
        return connection

    def say_hello(self, queue: int, epoch: int = 1, keep_alive_ms: int | None = None) -> Connection:
        """Sends a hello on a connection."""
        connection = self.dial(self.remote, self.export, self.host)
        # Keeps the session alive for as long as the connection.
        connection.session = self
        place = SessionRef(self.id, queue, epoch)
        keep_alive_ms = keep_alive_ms or self.keep_alive_ms
        connection.send(hello(self.export, self.host, place, keep_alive_ms=keep_alive_ms, **self.offers))
        return connection


def previous(session: bytes, instance: bytes) -> bytes:
    """Returns the attribute of a Hello that names the previous session."""
    return attribute(10, attribute(1, session) + attribute(2, instance))


# The attribute of a Hello that asks who owns the export.
INQUIRY = attribute(11, b"")


def claim(after: int, takeover: bool = False) -> bytes:
    """Returns the attribute of a Hello that claims the ownership after this one."""
    return attribute(11, attribute(2, struct.pack("<Q", after)) + attribute(3, bytes([takeover])))


def ownership_of(frame: Frame) -> tuple[int, str | None]:
    """Returns the number of the newest ownership in a Refusal, and the owner."""
    found = attributes(attributes(frame.data)[3])
    return struct.unpack("<Q", found[1])[0], found[2].decode() if 2 in found else None


def write(slot: int, sequence: int, start: int, data: bytes, block_size: int = 512, flags: int = 0) -> bytes:
    """Returns a whole Write frame."""
    count = len(data) // block_size
    return header(REQUEST, WRITE, flags, len(data), ident(slot, sequence), start, count) + data


def ident(slot: int, sequence: int) -> int:
    return sequence << 16 | slot


def waits_for_backend(answer: Frame) -> bool:
    """Returns whether a hello has waited so long for the backend that the target refused it. Like
    any client, the tests then come again."""
    return answer.kind == REFUSAL and "the backend has not finished" in refusal_of(answer)[1]


def refusal_of(frame: Frame) -> tuple[int, str]:
    assert frame.kind == REFUSAL, frame
    found = attributes(frame.data)
    return struct.unpack("<H", found[1])[0], found[2].decode()
