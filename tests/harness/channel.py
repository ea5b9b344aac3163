"""A connected socket, as far as a script that plays client or target needs it."""

from __future__ import annotations

import socket


class Closed(Exception):
    """The other side has closed the connection."""


class Channel:
    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Closed from error

    def exactly(self, count: int) -> bytes:
        """The next so many bytes that the other side says."""
        received = bytearray()
        while len(received) < count:
            try:
                chunk = self.socket.recv(count - len(received))
            except TimeoutError:
                raise AssertionError("the other side said nothing in time") from None
            except OSError as error:
                raise Closed from error
            if not chunk:
                raise Closed
            received += chunk
        return bytes(received)

    def close(self) -> None:
        self.socket.close()
