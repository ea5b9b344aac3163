"""A connected socket, for scripts that act as client or target."""

from __future__ import annotations

import socket


class Closed(Exception):
    """The peer has closed the connection."""


class Channel:
    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Closed from error

    def exactly(self, count: int) -> bytes:
        """Returns the next `count` bytes from the peer."""
        received = bytearray()
        while len(received) < count:
            try:
                chunk = self.socket.recv(count - len(received))
            except TimeoutError:
                raise AssertionError("the peer sent nothing in time") from None
            except OSError as error:
                raise Closed from error
            if not chunk:
                raise Closed
            received += chunk
        return bytes(received)

    def close(self) -> None:
        self.socket.close()
