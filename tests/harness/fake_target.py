"""A target that is a script: it lets everybody in, and does then what the test says."""

from __future__ import annotations

import os
import socket
import struct
import threading
from typing import Callable

from harness.channel import Channel, Closed
from harness.protocol import Frame, WELCOME, attribute, attributes, header, receive_frame
from harness.served import BLOCK
from harness.transport import Remote

BLOCKS = 2048

# Gives a connection that was just made a channel, of whatever kind.
Opens = Callable[[socket.socket], Channel]


class FakeTarget:
    def __init__(
        self,
        behind_welcome: bytes = b"",
        close: bool = False,
        opens: Opens = Channel,
        cipher: int = 0,
        keep_alive_ms: int = 10_000,
        write_cache: bool = False,
    ) -> None:
        """`behind_welcome` is sent with it; `close`: each connection after that."""
        self.connections = 0
        self.hellos: list[Frame] = []
        self.errors: list[BaseException] = []
        """Of connections that did not get as far as a welcome."""
        self._behind, self._close, self._opens, self._cipher = behind_welcome, close, opens, cipher
        self._keep_alive_ms = keep_alive_ms
        self.write_cache = write_cache
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._ended = False
        self.channels: list[Channel] = []
        """Of the connections that got as far as a welcome."""
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
                self._greet(channel)
            except (Closed, AssertionError) as error:
                self.errors.append(error)
                sock.close()
                continue
            self.channels.append(channel)
            if self._close:
                channel.close()

    def _greet(self, channel: Channel) -> None:
        hello = receive_frame(channel)
        self.hellos.append(hello)
        new = attribute(1, os.urandom(16)) + attribute(2, bytes(2)) + attribute(3, bytes(4))
        session = attributes(hello.data).get(5, new)
        channel.send(welcome(session, self._cipher, self._keep_alive_ms, self.write_cache) + self._behind)


def welcome(session: bytes, cipher: int = 0, keep_alive_ms: int = 10_000, write_cache: bool = False) -> bytes:
    """The frame. `session`: a list of attributes."""
    device = attribute(1, bytes(range(16))) + attribute(2, struct.pack("<Q", BLOCKS))
    device += attribute(3, struct.pack("<I", BLOCK)) + attribute(9, struct.pack("<I", 0xFE))
    device += attribute(7, bytes([write_cache]))
    data = attribute(1, struct.pack("<H", 1)) + attribute(2, bytes(16)) + attribute(3, session)
    data += attribute(4, device) + attribute(5, struct.pack("<H", 32)) + attribute(6, struct.pack("<I", 65536))
    data += attribute(9, struct.pack("<I", keep_alive_ms))
    if cipher:
        data += attribute(8, bytes([cipher]))
    return header(WELCOME, length=len(data)) + data
