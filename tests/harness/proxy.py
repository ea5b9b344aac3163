"""A hostile network: a proxy that forwards connections to a target, and cuts, delays, holds back,
corrupts or records them on command.

A separate thread forwards the bytes; the test's thread may call the methods of `Proxy`.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, Literal, TypeVar

from harness.damage import FirstFrame, FlippedBit
from harness.stream import CLIENT, SIDES, TARGET, Side, Stream, other
from harness.transport import Remote

T = TypeVar("T")

How = Literal["rst", "fin"]

_READ = 256 * 1024
# Closing such a socket sends RST, and the bytes in it are lost.
_LINGER_NONE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Flip:
    """A flip of one bit of a connection."""

    source: Side
    at: int
    """The offset from the beginning, in bytes."""
    bit: int


@dataclass(frozen=True)
class Recording:
    """The recorded bytes of a connection's two sides."""

    number: int
    client: bytes
    target: bytes


class Link:
    """One forwarded connection. Only the proxy's thread uses it, except for `number`."""

    def __init__(
        self, number: int, client: socket.socket, target: socket.socket, secured: bool, record: int
    ) -> None:
        self.number = number
        self.sockets: dict[Side, socket.socket] = {CLIENT: client, TARGET: target}
        # Indexed by the side from which the bytes come.
        self.streams = {side: Stream(secured, record) for side in SIDES}
        self.open = {side: True for side in SIDES}

    @property
    def is_open(self) -> bool:
        return any(self.open.values())

    def recording(self) -> Recording:
        client, target = (bytes(self.streams[side].recorded) for side in (CLIENT, TARGET))
        return Recording(self.number, client, target)

    def end(self, how: How, sides: tuple[Side, ...] = SIDES) -> None:
        """Ends the connections to these sides. A remaining side finds a connection on which nothing
        is transferred."""
        for side in sides:
            self._close(side, how)
            self.streams[side].drop()

    def left(self, side: Side) -> None:
        """Handles that this side has closed its connection. What it sent before is still passed on
        when that is allowed."""
        self._close(side, "fin")
        self.streams[side].take_end()

    def _close(self, side: Side, how: How) -> None:
        if self.open[side]:
            self.open[side] = False
            if how == "rst":
                self.sockets[side].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            self.sockets[side].close()
            self.streams[other(side)].sink_is_gone()


class Proxy:
    """Listens on a free port and forwards to `to`; `remote` is the address for clients."""

    def __init__(
        self, to: Remote, secured: bool = False, record: int = 0, at: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        """`at`: where to listen. `secured`: the connections carry records after their first frames. `record`: the number
        of bytes to keep of each side of each connection."""
        self._to = to
        self._secured, self._record = secured, record
        self._recordings: list[Recording] = []
        self._flips: Iterator[Flip] = iter(())
        self._edits: dict[Side, Callable[[bytes], bytes]] = {}
        self._listener: socket.socket | None = None
        self._address, self._port = at
        self._links: list[Link] = []
        self._commands: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        self._ended = False
        self.accepted = 0
        self.corrupted = 0
        """The numbers of headers and records so far."""
        self.flipped: list[Flip] = []
        """The flips that have happened."""
        self._delay_s = 0.0
        self._held: tuple[Side, ...] = ()
        self._listen()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    @property
    def remote(self) -> Remote:
        return Remote("127.0.0.1", self._port, self._to.export)

    # Commands. `links`: the numbers of the connections, by default all.

    def links(self) -> list[int]:
        """Returns the numbers of the connections that have at least one side."""
        return self._do(lambda: [link.number for link in self._links if link.is_open])

    def whole_links(self) -> list[int]:
        """Returns the numbers of the connections that have both sides."""
        return self._do(lambda: [link.number for link in self._links if all(link.open.values())])

    def forwarded(self, link: int, source: Side) -> int:
        """Returns how many bytes from this side have been passed on."""
        return self._do(lambda: sum(each.streams[source].forwarded for each in self._chosen([link])))

    def waiting(self, source: Side) -> int:
        """Returns how many bytes from this side the proxy holds."""
        return self._do(lambda: sum(link.streams[source].waiting for link in self._links))

    def cut(self, how: How = "rst", sides: tuple[Side, ...] = SIDES, links: list[int] | None = None) -> None:
        """Cuts connections now. If only one side is given, the other one keeps a connection without
        a peer."""
        self._each(links, lambda link: link.end(how, sides))

    def cut_after(
        self, count: int, source: Side, how: How = "rst", sides: tuple[Side, ...] = SIDES, links: list[int] | None = None
    ) -> None:
        """Cuts connections once exactly `count` more bytes from `source` have been passed on."""
        self._each(links, lambda link: link.streams[source].end_after(count, lambda: link.end(how, sides)))

    def hold(self, *sources: Side, links: list[int] | None = None) -> None:
        """Black hole: connections stay, but bytes from these sides (by default both) are kept and
        not passed on."""
        self._each(links, lambda link: [link.streams[side].hold() for side in sources or SIDES])

    def hold_new(self, *sources: Side) -> None:
        """Black hole for future connections; without a side, ends it."""
        self._do(lambda: setattr(self, "_held", sources))

    def release(self, links: list[int] | None = None) -> None:
        """Passes on the held bytes and everything after them."""
        self._each(links, lambda link: [stream.release() for stream in link.streams.values()])

    def drop(self, links: list[int] | None = None) -> None:
        """Discards the held bytes, and continues to hold new ones."""
        self._each(links, lambda link: [stream.drop() for stream in link.streams.values()])

    def delay(self, seconds: float, links: list[int] | None = None) -> None:
        """Delays all bytes in both directions by this time, also for new connections. 0 ends it."""
        self._do(lambda: setattr(self, "_delay_s", seconds))
        self._each(links, lambda link: [stream.set_delay(seconds) for stream in link.streams.values()])

    def corrupt_header(self, source: Side, frames: int = 0, links: list[int] | None = None) -> None:
        """Flips one bit of the header that comes after this many more whole frames from
        `source`."""

        self._each(links, lambda link: link.streams[source].corrupt_header(frames, self._count))

    def corrupt_record(
        self, source: Side, place: int, bit: int, least: int = 0, links: list[int] | None = None
    ) -> None:
        """Flips one bit of the next record from `source` that has at least this many bytes of data.
        A negative position counts from the record's end. Only for secured connections."""
        self._each(links, lambda link: link.streams[source].corrupt_record(least, place, bit, self._count))

    def flip_new(self, flips: Iterable[Flip]) -> None:
        """Each future connection takes the next of these flips, until none is left. A flip happens
        if the connection gets that far."""
        self._do(lambda: setattr(self, "_flips", iter(flips)))

    def edit_new(self, source: Side, edit: Callable[[bytes], bytes] | None) -> None:
        """In each future connection, replaces the first frame by the result of `edit`; None ends
        it."""
        self._do(lambda: self._edits.pop(source, None) if edit is None else self._edits.update({source: edit}))

    def recordings(self) -> list[Recording]:
        """Returns the records of all connections so far."""
        return self._do(lambda: self._recordings + [link.recording() for link in self._links])

    def refuse(self) -> None:
        """Closes the port, so that there are no new connections."""
        self._do(self._close_listener)

    def accept(self) -> None:
        self._do(self._listen)

    def end(self) -> None:
        def stop() -> None:
            self._ended = True

        self._do(stop)
        self._thread.join(10)

    # The code of the proxy's thread.

    def _count(self) -> None:
        self.corrupted += 1

    def _do(self, action: Callable[[], T]) -> T:
        future: Future[T] = Future()

        def command() -> None:
            try:
                future.set_result(action())
            except BaseException as error:
                future.set_exception(error)

        with self._lock:
            self._commands.append(command)
        self._wake.send(b"!")
        return future.result(20)

    def _chosen(self, links: list[int] | None) -> list[Link]:
        return [link for link in self._links if links is None or link.number in links]

    def _each(self, links: list[int] | None, action: Callable[[Link], object]) -> None:
        def all_of_them() -> None:
            for link in self._chosen(links):
                action(link)

        self._do(all_of_them)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((self._address, self._port))
            self._listener.setblocking(False)
            self._port = self._listener.getsockname()[1]

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _run(self) -> None:
        while not self._ended:
            self._wait()
            with self._lock:
                commands, self._commands = self._commands, []
            for command in commands:
                command()
            for link in self._links:
                for side in SIDES:
                    self._forward(link, side)
        self._close_listener()
        for link in self._links:
            link.end("rst")
        for sock in (self._wake, self._woken):
            sock.close()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        try:
            target = socket.create_connection((self._to.address, self._to.port), timeout=2)
        except OSError:
            # Refuses the connection, as without a target.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            client.close()
            return
        for sock in (client, target):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted += 1
        link = Link(self.accepted, client, target, self._secured, self._record)
        for side in SIDES:
            link.streams[side].set_delay(self._delay_s)
            if side in self._held:
                link.streams[side].hold()
            if side in self._edits:
                link.streams[side].change(FirstFrame(self._edits[side]))
        flip = next(self._flips, None)
        if flip is not None:
            link.streams[flip.source].change(FlippedBit(flip.at, flip.bit, lambda: self.flipped.append(flip)))
        if self._record:
            self._recordings += [each.recording() for each in self._links if not each.is_open]
        self._links = [each for each in self._links if each.is_open] + [link]

    def _wait(self) -> None:
        """Waits until something can be done, and receives what has come."""
        # The list is built each time: there are only a few sockets, and no closed one can be left
        # over.
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if self._listener is not None:
            poll.register(self._listener, select.POLLIN)
        receivers: dict[int, tuple[Link, Side]] = {}
        for link in self._links:
            for side in SIDES:
                if link.open[side]:
                    events = 0
                    if link.streams[side].has_room:
                        events |= select.POLLIN
                        receivers[link.sockets[side].fileno()] = link, side
                    if link.streams[other(side)].can_forward():
                        events |= select.POLLOUT
                    if events:
                        poll.register(link.sockets[side], events)
        patience = self._patience()
        ready = poll.poll(None if patience is None else patience * 1000 + 1)
        for fd, events in ready:
            if fd == self._woken.fileno():
                self._woken.recv(4096)
            elif self._listener is not None and fd == self._listener.fileno():
                self._accept()
            elif fd in receivers and events & ~select.POLLOUT:
                self._receive(*receivers[fd])

    def _patience(self) -> float | None:
        """Returns the time until the first delayed bytes are due."""
        dues = [stream.due_in() for link in self._links for stream in link.streams.values()]
        return min((due for due in dues if due is not None), default=None)

    def _receive(self, link: Link, side: Side) -> None:
        try:
            data = link.sockets[side].recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            link.streams[side].take(data)
        else:
            link.left(side)

    def _forward(self, link: Link, source: Side) -> None:
        stream, sink = link.streams[source], other(source)
        while link.open[sink] and (data := stream.next_bytes()):
            try:
                sent = link.sockets[sink].send(data)
            except BlockingIOError:
                return
            except OSError:
                link.left(sink)
                return
            stream.sent(sent)
        if stream.ended and not stream.waiting and not stream.holds:
            # The end of a connection is passed on after the bytes before it, and delayed like them.
            link.end("fin")
