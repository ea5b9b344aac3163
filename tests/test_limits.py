"""Limits against hostile peers: anybody may connect and stay silent, but keeps no one out by
that."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness.backends import await_requests, slow_export
from harness.channel import Channel
from harness.checker import start_checker
from harness.lab import Lab
from harness.ports import free_port
from harness.protocol import BUSY, GOODBYE, HELLO, NO_SESSION, OUT_OF_RANGE, READ, REQUEST, WELCOME, Closed, Connection, Session
from harness.protocol import attribute, header, hello, ident, refusal_of, write
from harness.spdk import Application
from harness.rpc import RpcError
from harness.service import attach_to
from harness.transport import Remote, attach
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

BLOCK = 512
SLOW_S = 1.0
# Connections must be admitted or closed within this time in seconds, far less than a handshake may
# take here.
SOON = 5.0
# The address of silent connections that do not come from the clients' address.
ELSEWHERE = "127.0.0.2"

# The number of files that the target leaves for other uses.
SPARE_FILES = 64

# The target counts one additional file for this many connections, for their socket groups.
CONNECTIONS_A_FILE = 8

Served = tuple[Application, Remote]


def served(lab: Lab, **options: int) -> Served:
    """A target with these options, and a limit on handshakes that is longer than any test."""
    target = lab.target()
    target.rpc.call("dst_set_options", **({"handshake_timeout_ms": 60_000} | options))
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=16 * 2048, block_size=BLOCK)
    return target, lab.transport.serve(target, "Malloc0")


def stat(target: Application, name: str) -> int:
    return target.rpc.call("dst_get_stats")[name]


def sessions(target: Application, host: str) -> list[dict[str, Any]]:
    return [session for session in target.rpc.call("dst_get_sessions") if session["host"] == host]


def await_stat(target: Application, name: str, value: int) -> None:
    wait_until(lambda: stat(target, name) == value, f"{name} to be {value}, not {stat(target, name)}", SOON)


class Silent:
    """Silent connections."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self.socks: list[socket.socket] = []

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: Any) -> None:
        for sock in self.socks:
            sock.close()

    def come(self, count: int, source: str = ELSEWHERE) -> None:
        place = (self._remote.address, self._remote.port)
        for _ in range(count):
            sock = socket.create_connection(place, 10, (source, 0))
            sock.setblocking(False)
            self.socks.append(sock)

    def closed(self) -> list[int]:
        """Returns the numbers, in the order of connecting, of the connections that the target has
        closed."""

        def is_closed(sock: socket.socket) -> bool:
            try:
                return not sock.recv(1)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True

        return [number for number, sock in enumerate(self.socks) if is_closed(sock)]


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"this user may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_silence_of_one_address(lab: Lab) -> None:
    """A thousand connections of one address hold no more places than one address may have."""
    target, remote = served(lab)
    files, lines = target.open_files(), len(target.text().splitlines())
    client = lab.client()
    with Silent(remote) as silent:
        silent.come(1000)
        await_stat(target, "handshakes", 64)
        assert stat(target, "handshakes_evicted") == 1000 - 64
        assert silent.closed() == list(range(1000 - 64)), "the oldest go first"
        # Sockets are in groups of 32, which need a file or two each.
        assert files + 64 <= target.open_files() <= files + 64 + 6
        # The log has at most ten lines a second.
        assert len(target.text().splitlines()) - lines < 100
        begun = time.monotonic()
        attach(lab.transport, client, remote)
        assert time.monotonic() - begun < SOON
        await_stat(target, "handshakes", 64)
    assert stat(target, "connections_refused") == 0


def test_control_connections_are_looked_at_apart(lab: Lab) -> None:
    """Silent control connections are in separate socket groups, since a thousand of them would slow
    down those that carry requests."""
    target, remote = served(lab)

    def polls() -> int:
        """The epoll files with which the socket groups wait, one or more each."""
        kinds = []
        for file in Path(f"/proc/{target.pid}/fd").iterdir():
            # The file of an RPC may be closed meanwhile.
            with suppress(FileNotFoundError):
                kinds.append(os.readlink(file))
        return kinds.count("anon_inode:[eventpoll]")

    def settled() -> int:
        """The same, when nothing moves to another group any more, and empty groups are gone."""
        seen: list[int] = []

        def is_steady() -> bool:
            seen.append(polls())
            return len(seen) >= 10 and len(set(seen[-10:])) == 1

        wait_until(is_steady, "the socket groups to settle")
        return seen[-1]

    session = Session(remote, "me")
    of_control = settled()
    queues = [session.join(1)]
    of_all = settled()
    assert of_all > of_control
    queues += [session.join(number) for number in range(2, 6)]
    others = [Session(remote, "me") for _ in range(4)]
    assert settled() == of_all
    for connection in [session.control, *queues, *(other.control for other in others)]:
        connection.keep_alive()


def test_silence_of_many_addresses(lab: Lab) -> None:
    """One place for each address is not enough for everybody: if all addresses have as many, the
    oldest connection of all goes."""
    target, remote = served(lab, max_handshakes=32, max_handshakes_per_address=2)
    with Silent(remote) as silent:
        for number in range(200):
            silent.come(1, f"127.0.1.{1 + number}")
        await_stat(target, "handshakes", 32)
        assert silent.closed() == list(range(168))
        assert stat(target, "handshakes_evicted") == 168
        begun = time.monotonic()
        with Session(remote).join(1):
            assert time.monotonic() - begun < SOON


def test_attach_while_silent_ones_come(lab: Lab) -> None:
    """This holds even for the client's own address, whose oldest connection is always replaced by
    the newest."""
    target, remote = served(lab)
    client = lab.client()
    ended = threading.Event()
    came = 0

    def flood() -> None:
        nonlocal came
        while not ended.is_set():
            with Silent(remote) as silent:
                silent.come(50, "127.0.0.1")
                came += 50
                # A client's SYN that finds the kernel's queue full is sent again only after one
                # second.
                time.sleep(0.01)

    with Silent(remote) as silent:
        silent.come(300, "127.0.0.1")
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for number in range(10):
                begun = time.monotonic()
                attach(lab.transport, client, remote, f"remote{number}")
                assert time.monotonic() - begun < SOON
                # The previous connection may still be ending.
                await_stat(target, "sessions", 1)
                lab.transport.detach(client, f"remote{number}")
            wait_until(lambda: came > 1000, "the flood", 20)
        finally:
            ended.set()
            thread.join()
    await_stat(target, "sessions", 0)


def test_who_waits_is_not_evicted(lab: Lab) -> None:
    """The connection has a right to be admitted, and is admitted when the backend has finished its
    queue's earlier requests."""
    target, remote = served(lab, max_handshakes=4)
    with slow_export(target, remote, SLOW_S) as slow, Silent(remote) as silent:
        session = Session(slow, "patient")
        first = session.join(1)
        first.send(write(0, 1, 0, bytes(BLOCK)))
        await_requests(target, "patient", "writes", 1)
        waiting = session.say_hello(1, epoch=2)
        first.assert_closed()
        silent.come(50, "127.0.0.1")
        await_stat(target, "handshakes_evicted", 46)
        assert waiting.receive().kind == WELCOME
        waiting.close()
        session.control.close()


def test_place_of_all_connections(lab: Lab) -> None:
    """Even when all places are taken, silent connections make room for others; admitted ones never
    do."""
    target, remote = served(lab, max_connections=4)
    with Silent(remote) as silent, ExitStack() as joined:
        session = Session(remote)
        silent.come(3)
        await_stat(target, "connections", 4)
        for number in range(1, 4):
            joined.enter_context(session.join(number))
        wait_until(lambda: silent.closed() == [0, 1, 2], "the silent ones to make room", SOON)
        assert (stat(target, "handshakes_evicted"), stat(target, "connections_refused")) == (3, 0)
        silent.come(2)
        wait_until(lambda: silent.closed() == [0, 1, 2, 3, 4], "the new ones to be closed", SOON)
        assert (stat(target, "handshakes_evicted"), stat(target, "connections_refused")) == (3, 2)
        session.control.keep_alive()


def test_connections_of_a_host(lab: Lab) -> None:
    target, remote = served(lab, max_connections_per_host=3)
    session, other = Session(remote, "greedy"), Session(remote, "modest")
    queues = [session.join(number) for number in (1, 2)]
    with session.say_hello(3) as late:
        reason, text = refusal_of(late.receive())
        assert (reason, "3 connections" in text) == (BUSY, True)
    with Connection(remote) as late:
        late.send(hello(remote.export, "greedy"))
        assert refusal_of(late.receive())[0] == BUSY
    assert (stat(target, "refused_busy"), stat(target, "refused_hellos")) == (2, 2)
    other.join(1).close()
    # A connection that replaces another one does not count as one more.
    again = session.join(2, epoch=2)
    queues[1].assert_closed()
    # One connection less makes room for another.
    again.close()
    await_stat(target, "connections", 3)
    with session.join(3):
        assert stat(target, "refused_busy") == 2


def test_a_thread_that_is_not_let_in_says_why(lab: Lab) -> None:
    """The control connection works, so nothing else would show the reason. The message is dropped
    when all connections work."""
    _, remote = served(lab, max_connections_per_host=1)
    checker = start_checker(lab)
    attach_to(checker, remote, reconnect_delay_ms=100)
    checker.begin(depth=4)

    def shown() -> tuple[str, str]:
        (info,) = checker.rpc.call("bdev_dst_get_info", name="remote0")
        return info["state"], info["last_error"] or ""

    wait_until(lambda: "1 connections" in shown()[1] and shown()[1].startswith("connection "), "the reason", SOON)
    assert shown()[0] == "reconnecting"
    assert "1 connections" in checker.text(), "the log must have it"
    # Its I/O waits for ever.
    checker.kill()


def test_sessions_that_are_left_behind(lab: Lab) -> None:
    """A host that opens session after session keeps no one else out, and loses none that is in
    use."""
    target, remote = served(lab, max_sessions=4)
    left = Session(remote, "modest")
    left.control.close()

    def await_idle(host: str) -> None:
        in_use = lambda: [session for session in sessions(target, host) if session["connections"]]
        wait_until(lambda: not in_use(), f"the sessions of {host} to be left behind", SOON)

    for _ in range(20):
        Session(remote, "greedy").control.close()
        await_idle("greedy")
    assert (len(sessions(target, "greedy")), stat(target, "refused_busy")) == (3, 0)
    # The host has more unused sessions than others, so one of its own goes; the other host's unused
    # session stays.
    left.join(1).close()
    used = [Session(remote, "greedy") for _ in range(3)]
    with Connection(remote) as late:
        late.send(hello(remote.export, "greedy"))
        assert refusal_of(late.receive())[0] == BUSY
    left.join(1, epoch=2).close()
    # A host that has fewer gets the place.
    await_idle("modest")
    Session(remote, "newcomer").control.close()
    assert not sessions(target, "modest")
    for session in used:
        session.control.keep_alive()


def test_queues_that_are_left_behind(lab: Lab) -> None:
    """Records whose client does not come back keep no one out: their session ends, and its client
    is told so."""
    target, remote = served(lab, max_connections=16)
    greedy, modest = Session(remote, "greedy"), Session(remote, "modest")
    for number in range(1, 15):
        greedy.join(number).close()
    await_stat(target, "connections", 2)
    with modest.join(1):
        greedy.control.assert_closed()
        with greedy.say_hello(1, epoch=2) as late:
            assert refusal_of(late.receive())[0] == NO_SESSION
        modest.control.keep_alive()
    assert stat(target, "refused_busy") == 0


def test_bytes_before_being_let_in(lab: Lab) -> None:
    target, remote = served(lab, max_handshake_bytes=512)

    def say_hello(length: int) -> Connection:
        """Returns a hello with this many bytes of data, the last of which are an unknown
        attribute."""
        spare = length - (len(hello(remote.export, "me")) - 48)
        connection = Connection(remote)
        connection.send(hello(remote.export, "me", more=attribute(1000, bytes(spare - 4))))
        return connection

    with say_hello(512) as connection:
        assert connection.receive().kind == WELCOME
    with say_hello(513) as connection, pytest.raises(Closed):
        connection.receive()
    # The announced length is reason enough to close, without data.
    with Connection(remote) as connection:
        connection.send(header(HELLO, length=4096))
        connection.assert_closed()
    assert "announces 513 bytes of data, at most 512" in target.text()
    await_stat(target, "handshake_bytes_exceeded", 2)
    assert stat(target, "violations") == 0


def test_time_until_being_let_in(lab: Lab) -> None:
    target, remote = served(lab, handshake_timeout_ms=300)
    with Silent(remote) as silent:
        begun = time.monotonic()
        silent.come(5)
        wait_until(lambda: len(silent.closed()) == 5, "the target to lose patience", SOON)
        assert time.monotonic() - begun > 0.2
    await_stat(target, "handshake_timeouts", 5)
    assert stat(target, "handshakes_evicted") == 0


def test_time_until_a_session_is_forgotten(lab: Lab) -> None:
    target, remote = served(lab, session_timeout_ms=1000)
    ended, lost = Session(remote, "ended"), Session(remote, "lost")
    ended.control.send(header(GOODBYE))
    ended.control.close()
    lost.control.close()
    await_stat(target, "sessions", 0)
    assert stat(target, "sessions_timed_out") == 1


def test_violations_are_counted(lab: Lab) -> None:
    target, remote = served(lab, max_transfer=65536, queue_depth=2)
    session = Session(remote)
    with session.join(1) as queue:
        # This is answered.
        assert queue.request(READ, ident(0, 1), 0, 65536 // BLOCK + 1).code == OUT_OF_RANGE
        queue.send(header(REQUEST, READ, ident=ident(2, 1), count=1))
        queue.assert_closed()
    with session.join(1, epoch=2) as queue:
        queue.send(hello(remote.export, session.host))
        queue.assert_closed()
    # A stranger that was not admitted cannot send a Request at all.
    with Connection(remote) as stranger:
        stranger.send(header(REQUEST, READ, ident=ident(0, 1), count=1))
        stranger.assert_closed()
    await_stat(target, "violations", 2)
    assert sessions(target, session.host)[0]["counters"]["violations"] == 2


def test_requests_that_wait_for_memory_are_counted_once(lab: Lab) -> None:
    target, remote = served(lab, buffer_mib=4)

    def dial(remote: Remote, _export: str, _host: str) -> Connection:
        """The connection's receive buffer is small."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(20)
        sock.connect((remote.address, remote.port))
        return Connection(remote, channel=Channel(sock))

    session = Session(remote)
    session.dial = dial
    with session.join(1) as queue:
        blocks = session.max_transfer // BLOCK
        queue.send(b"".join(header(REQUEST, READ, ident=ident(slot, 1), count=blocks) for slot in range(16)))
        wait_until(lambda: stat(target, "stalls"), "one of them to wait", SOON)
        # The target checks some 40 times whether there is memory.
        time.sleep(2)
        assert 1 <= stat(target, "stalls") <= 16
        assert sessions(target, session.host)[0]["counters"]["stalls"] == stat(target, "stalls")


def test_open_files_are_as_many_as_allowed(lab: Lab) -> None:
    """The soft limit is raised. The hard limit holds, and is logged before it is reached."""
    target = lab.target()
    call = target.rpc.call
    call("dst_set_options", max_connections=1000, handshake_timeout_ms=60_000)
    call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=BLOCK)
    # Each of DPDK's hugepages is a file.
    soft = target.descriptors() + 32
    hard = soft + SPARE_FILES
    resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert "open files" not in target.text()
    remote = lab.transport.serve(target, "Malloc0")
    assert resource.prlimit(target.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    most = stat(target, "max_connections")
    # There are 32 spare files, less those that the listener took.
    assert 20 <= most <= 28 and call("dst_get_options")["max_connections"] == 1000
    lines = [line for line in target.text().splitlines() if "open files" in line]
    assert len(lines) == 1 and all(word in lines[0] for word in ("1000", str(hard), f"only {most}")), lines
    with ExitStack() as joined, Silent(remote) as silent:
        session = Session(remote)
        for number in range(1, most):
            joined.enter_context(session.join(number))
        silent.come(100)
        await_stat(target, "connections_refused", 100)
        session.control.keep_alive()


def test_open_files_that_suffice_are_not_talked_about(lab: Lab) -> None:
    target = lab.target()
    soft = target.descriptors() + 32
    hard = soft + SPARE_FILES + 1000 + 1000 // CONNECTIONS_A_FILE
    resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (soft, hard))
    target.rpc.call("dst_set_options", max_connections=1000)
    target.rpc.call("dst_create_listener", traddr="127.0.0.1", trsvcid=str(free_port()))
    assert resource.prlimit(target.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    assert stat(target, "max_connections") == 1000
    assert "open files" not in target.text()


def test_options_are_shown_and_saved(lab: Lab) -> None:
    target = lab.target()
    chosen = {"max_handshakes": 5, "max_handshakes_per_address": 6, "max_handshake_bytes": 700}
    chosen |= {"max_connections": 50, "max_connections_per_host": 8}
    target.rpc.call("dst_set_options", **chosen)
    saved = [
        entry["params"]
        for subsystem in target.rpc.call("framework_get_subsystems")
        for entry in target.rpc.call("framework_get_config", name=subsystem["subsystem"]) or []
        if entry["method"] == "dst_set_options"
    ]
    for options in (target.rpc.call("dst_get_options"), *saved):
        assert {key: options[key] for key in chosen} == chosen
    assert len(saved) == 1


def test_a_listener_without_memory_is_refused(lab: Lab) -> None:
    """And nothing of it stays: with buffers that fit, the next one is there."""
    target = lab.target()
    place = {"traddr": "127.0.0.1", "trsvcid": str(free_port())}
    target.rpc.call("dst_set_options", buffer_mib=65_536)
    with pytest.raises(RpcError, match="not enough memory for 65536 MiB of buffers on core .*Lower buffer_mib") as error:
        target.rpc.call("dst_create_listener", **place)
    assert error.value.code == -errno.ENOMEM
    assert target.rpc.call("dst_get_listeners") == []
    target.rpc.call("dst_set_options", buffer_mib=16)
    target.rpc.call("dst_create_listener", **place)
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=512)
    target.rpc.call("dst_create_export", name="volume", bdev_name="Malloc0")
    target.rpc.call("dst_export_add_host", export="volume", host="*", access="rw")
    client = lab.client()
    attach(lab.transport, client, Remote(place["traddr"], int(place["trsvcid"]), "volume"))
    assert target.stop() == 0
