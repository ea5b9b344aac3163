"""Addresses at which something else than a target is."""

from __future__ import annotations

import socket
import threading


class BlackHole:
    """An address that does not answer attempts to connect: its queue is full, so Linux drops every
    further SYN, as a router that has lost a machine does."""

    def __init__(self, address: str, port: int) -> None:
        self._sockets = [socket.create_server((address, port), backlog=0)]
        # Linux lets one more wait than the backlog says. What is not queued stays half-open.
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((address, port))
            self._sockets.append(filler)

    def end(self) -> None:
        for each in self._sockets:
            each.close()


class Silent:
    """An address that accepts connections and says nothing."""

    def __init__(self, address: str, port: int) -> None:
        self._server = socket.create_server((address, port))
        self._accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._accepted.append(connection)

    def accepted(self) -> int:
        """Returns how many connections came so far."""
        return len(self._accepted)

    def end(self) -> None:
        # Wakes the thread, which a close alone does not.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for connection in self._accepted:
            connection.close()
