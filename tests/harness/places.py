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


def _has_received(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


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

    def asked(self) -> int:
        """Returns on how many connections something was sent. A client that connects to several addresses
        side by side, since the first one takes long, sends something to one of them only."""
        return sum(map(_has_received, self._accepted))

    def end(self) -> None:
        # Wakes the thread, which a close alone does not.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for connection in self._accepted:
            connection.close()


class SmallOnly:
    """A path on which small packets pass, and behind the first large one of a connection nothing
    does, as TCP repeats it for ever."""

    # The smallest MTU of IPv6.
    SMALL = 1280

    def __init__(self, address: str, port: int, at: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        """Forwards to this address and port from `at`."""
        self._to = (address, port)
        self._server = socket.create_server(at)
        self.port: int = self._server.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._is_healed = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def heal(self) -> None:
        """From now on everything passes, on new connections."""
        self._is_healed.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._to)
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        small = not self._is_healed.is_set()
        is_stuck = False
        try:
            while data := source.recv(65536):
                is_stuck |= small and len(data) > self.SMALL
                if not is_stuck:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The other direction has ended the connection.
            pass

    def end(self) -> None:
        # Wakes the threads, which a close alone does not.
        for each in (self._server, *self._sockets):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()
        self._thread.join()
