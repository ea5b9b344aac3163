"""A scripted target: it admits every client, and then does what the test says."""

from __future__ import annotations

import os
import socket
import struct
import threading
from typing import Callable

from harness.channel import Channel, Closed
from harness.protocol import ANSWER, DIGEST, FLUSH, Frame, KEEP_ALIVE, KEEP_ALIVE_ACK, NOT_SUPPORTED, READ, REQUEST
from harness.protocol import SUCCESS, WELCOME, WRITE, attribute, attributes, crc32c, header, receive_frame
from harness.served import BLOCK
from harness.transport import Remote

BLOCKS = 2048
UUID = bytes(range(16))

# Makes a channel of some kind for a new connection.
Opens = Callable[[socket.socket], Channel]

# Serves a connection that carries requests after its welcome. Closed ends it.
Serves = Callable[[Channel], None]


class FakeTarget:
    # Attributes of the device, which a test may change.
    uuid, blocks, block_size = UUID, BLOCKS, BLOCK

    def __init__(
        self,
        behind_welcome: bytes = b"",
        close: bool = False,
        opens: Opens = Channel,
        cipher: int = 0,
        keep_alive_ms: int = 10_000,
        write_cache: bool = False,
        digest: int = 0,
        serves: Serves | None = None,
    ) -> None:
        """`behind_welcome` is sent with the welcome. `close` is called for each connection
        afterwards. `serves` is called for each connection that carries requests, on its own
        thread."""
        self.connections = 0
        self.hellos: list[Frame] = []
        self.errors: list[BaseException] = []
        """The errors of connections that did not reach a welcome."""
        self._behind, self._close, self._opens, self._cipher = behind_welcome, close, opens, cipher
        self._keep_alive_ms = keep_alive_ms
        self.write_cache = write_cache
        self._digest, self._serves = digest, serves
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._ended = False
        self.channels: list[Channel] = []
        """The hellos of connections that reached a welcome."""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def remote(self) -> Remote:
        return Remote("127.0.0.1", self._listener.getsockname()[1], "fake")

    def end(self) -> None:
        self._ended = True
        self._thread.join()
        self._listener.close()
        for channel in self.channels:
            channel.close()

    def _serve(self) -> None:
        while not self._ended:
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            sock.settimeout(5)
            try:
                channel = self._opens(sock)
                queue = self._greet(channel)
            except (Closed, AssertionError) as error:
                self.errors.append(error)
                sock.close()
                continue
            self.channels.append(channel)
            if self._close:
                channel.close()
            elif queue and self._serves:
                threading.Thread(target=self._serve_requests, args=(channel,), daemon=True).start()

    def _serve_requests(self, channel: Channel) -> None:
        assert self._serves
        # The connection stays until the client closes it, at the latest at the test's end.
        channel.socket.settimeout(None)
        try:
            self._serves(channel)
        except (Closed, OSError):
            pass
        channel.close()

    def _greet(self, channel: Channel) -> int:
        """Answers the hello and returns the connection's queue."""
        hello = receive_frame(channel)
        self.hellos.append(hello)
        new = attribute(1, os.urandom(16)) + attribute(2, bytes(2)) + attribute(3, bytes(4))
        session = attributes(hello.data).get(5, new)
        device = device_of(self.uuid, self.blocks, self.block_size, self.write_cache)
        said = welcome(session, device, self._cipher, self._digest, self._keep_alive_ms)
        channel.send(said + self._behind)
        queue: int = struct.unpack("<H", attributes(session)[2])[0]
        return queue


class Memory:
    """Serves requests from memory, by default without digests."""

    def __init__(self, has_digests: bool = False) -> None:
        self.data = bytearray(BLOCKS * BLOCK)
        self.block_size = BLOCK
        self._has_digests = has_digests

    def __call__(self, channel: Channel) -> None:
        while True:
            request = receive_frame(channel)
            if request.kind == KEEP_ALIVE:
                channel.send(header(KEEP_ALIVE_ACK, ident=request.ident))
            elif request.kind == REQUEST:
                channel.send(self.answer(request))

    def answer(self, request: Frame) -> bytes:
        at, end = request.start * self.block_size, (request.start + request.count) * self.block_size
        if request.code == WRITE:
            self.data[at:end] = request.data
        data = bytes(self.data[at:end]).ljust(end - at, b"\0") if request.code == READ else b""
        status = SUCCESS if request.code in (READ, WRITE, FLUSH) else NOT_SUPPORTED
        return answer(request, data, crc32c(data) if data and self._has_digests else None, status)


def answer(request: Frame, data: bytes = b"", digest: int | None = None, status: int = SUCCESS) -> bytes:
    """Returns the frame."""
    flags = 0 if digest is None else DIGEST
    return header(ANSWER, status, flags, len(data), request.ident, digest=digest or 0) + data


def device_of(
    uuid: bytes = UUID, blocks: int = BLOCKS, block_size: int = BLOCK, write_cache: bool = False
) -> bytes:
    """Returns the welcome's attributes for the device."""
    device = attribute(1, uuid) + attribute(2, struct.pack("<Q", blocks)) + attribute(3, struct.pack("<I", block_size))
    return device + attribute(9, struct.pack("<I", 0xFE)) + attribute(7, bytes([write_cache]))


def welcome(session: bytes, device: bytes = device_of(), cipher: int = 0, digest: int = 0, keep_alive_ms: int = 10_000) -> bytes:
    """Returns the frame. `session` and `device` are lists of attributes."""
    data = attribute(1, struct.pack("<H", 1)) + attribute(2, bytes(16)) + attribute(3, session)
    data += attribute(4, device) + attribute(5, struct.pack("<H", 32)) + attribute(6, struct.pack("<I", 65536))
    data += attribute(9, struct.pack("<I", keep_alive_ms))
    if digest:
        data += attribute(7, bytes([digest]))
    if cipher:
        data += attribute(8, bytes([cipher]))
    return header(WELCOME, length=len(data)) + data
