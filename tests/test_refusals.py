"""A client without the right key is not admitted and not told why; the target's log has the
reason."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Callable, Iterator

import pytest

from harness.keys import HOST, KeyFile
from harness.lab import Lab
from harness.noise import AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305
from harness.opened import Opened
from harness.ports import free_port
from harness.protocol import Connection, HEADER_LEN, NOT_ALLOWED, PROTECTION, READ, SUCCESS, Session, VERSION
from harness.protocol import attribute, header, hello, ident, refusal_of
from harness.protocol import REFUSAL as REFUSAL_KIND
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.secure import Initiator, Key, SECURE, offer
from harness.served import BLOCK, MIB
from harness.service import attach_to
from harness.spdk import Application
from harness.stream import CLIENT
from harness.transport import Remote
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

NO_KEY_OF_ITS_ENTRY = "it does not have the key of its entry"


@dataclass
class World:
    """The exports `volume` and `second`, their hosts, and the hosts' keys."""

    target: Application
    client: Application
    remote: Remote
    keys: dict[str, KeyFile]

    def of(self, export: str) -> Remote:
        return Remote(self.remote.address, self.remote.port, export)


@pytest.fixture(scope="module")
def whole_world(needs_dst: None, module_lab: Lab) -> World:
    target, client = module_lab.target(), module_lab.client()
    keys = {name: KeyFile(module_lab.folder, name) for name in ("ours", "other", "second", "nobody")}
    call = target.rpc.call
    for number, export in enumerate(("volume", "second")):
        call("bdev_malloc_create", name=f"Malloc{number}", num_blocks=MIB * 2048, block_size=BLOCK)
        call("dst_create_export", name=export, bdev_name=f"Malloc{number}")
    for export, host, key in (
        ("volume", HOST, "ours"),
        ("volume", "other", "other"),
        ("volume", "open", None),
        ("second", HOST, "second"),
    ):
        file = {"psk_file": keys[key].path} if key else {}
        call("dst_export_add_host", export=export, host=host, access="rw", **file)
    remote = Remote("127.0.0.1", free_port(), "volume")
    call("dst_create_listener", traddr=remote.address, trsvcid=str(remote.port))
    return World(target, client, remote, keys)


@pytest.fixture
def world(whole_world: World) -> Iterator[World]:
    yield whole_world
    whole_world.target.assert_running()
    with served_session(whole_world).join(1) as queue:
        assert queue.request(READ, ident(0, 1), 0, 1).code == SUCCESS


def served_session(world: World) -> Session:
    dial = Key(world.keys["ours"].key).dial
    return Session(world.remote, HOST, dial=dial, ciphers=bytes([AES_256_GCM]))


def until_told(world: World, reason: str, attempt: Callable[[], None]) -> None:
    """Tries until the target's log has the reason, since the log has only a few lines a second."""
    before = len(world.target.text())

    def told() -> bool:
        attempt()
        return reason in world.target.text()[before:]

    wait_until(told, f"the target's log to say {reason!r}")
    assert reason not in world.client.text()


# The refusal is identical, whatever was wrong.
TOLD = "bdev_dst_create: export, host: export `EXPORT`, host `HOST`: the target refused: not allowed (code -13)"
REFUSAL = attribute(1, struct.pack("<H", NOT_ALLOWED)) + attribute(2, b"not allowed")


def assert_refused(world: World, remote: Remote, host: str, key: str | None) -> None:
    """Returns the error of a client that may not attach."""
    file = {} if key is None else {"psk_file": world.keys[key].path}
    with pytest.raises(RpcError) as error:
        attach_to(world.client, remote, "refused0", host=host, attach_timeout_ms=5000, **file)
    assert str(error.value).replace(f"`{remote.export}`", "`EXPORT`").replace(f"`{host}`", "`HOST`") == TOLD
    assert world.client.bdev("refused0") is None
    assert world.client.rpc.call("bdev_dst_get_info") == []


def assert_refusal(connection: Connection) -> None:
    answer = connection.receive()
    assert (answer.kind, answer.data) == (REFUSAL_KIND, REFUSAL)
    connection.assert_closed()


CASES = {
    "wrong-key": ("volume", HOST, "nobody", NO_KEY_OF_ITS_ENTRY),
    "another-hosts-key": ("volume", HOST, "other", NO_KEY_OF_ITS_ENTRY),
    "another-exports-key": ("volume", HOST, "second", NO_KEY_OF_ITS_ENTRY),
    "no-key": ("volume", HOST, None, "its entry demands a key, it has shown none"),
    "key-for-a-host-without": ("volume", "open", "ours", "it wants to be let in with a key, but its entry has none"),
    "no-such-host": ("volume", "stranger", "ours", "the export has no entry that lets this host in from there"),
    "no-such-host-no-key": ("volume", "stranger", None, "the export has no entry that lets this host in from there"),
    "no-such-export": ("third", HOST, "ours", "there is no such export"),
}


@pytest.mark.parametrize("export, host, key, reason", CASES.values(), ids=CASES.keys())
def test_client_is_refused(world: World, export: str, host: str, key: str | None, reason: str) -> None:
    until_told(world, reason, lambda: assert_refused(world, world.of(export), host, key))


NOT_SECURED = ("wrong-key", "key-for-a-host-without", "no-such-host", "no-such-export")


@pytest.mark.parametrize("case", NOT_SECURED)
def test_no_entry_costs_what_a_wrong_key_costs(world: World, case: str) -> None:
    """Otherwise, the time of a refusal would reveal the reason. (A unit test counts what is done
    with the keys of the file.)"""
    export, host, key, reason = CASES[case]
    opened = Opened(*(file.path for file in world.keys.values()))

    def attempt() -> None:
        opened.take()
        with Connection(world.remote) as connection:
            connection.send(Initiator(world.keys[key].key, offer(export, host)).frame)
            assert_refusal(connection)
        assert opened.take() == 1

    until_told(world, reason, attempt)
    opened.close()


# The ciphers and the versions of the Secure.
OFFERS = {
    "no-ciphers": (None, (1, 1), PROTECTION, "it offers none of the target's ciphers"),
    "only-none": (b"\0", (1, 1), PROTECTION, "it offers none of the target's ciphers"),
    "unknown-ciphers": (b"\x04\xff", (1, 1), PROTECTION, "it offers none of the target's ciphers"),
    "later-versions": (bytes([AES_256_GCM]), (2, 9), VERSION, "it speaks versions 2 to 9, the target 1"),
}


@pytest.mark.parametrize("ciphers, versions, reason, text", OFFERS.values(), ids=OFFERS.keys())
def test_nothing_in_common(
    world: World, ciphers: bytes | None, versions: tuple[int, int], reason: int, text: str
) -> None:
    """Only a client that has the key is told."""
    asked = offer("volume", HOST, ciphers, versions)
    with Connection(world.remote) as connection:
        connection.send(Initiator(world.keys["ours"].key, asked).frame)
        assert refusal_of(connection.receive()) == (reason, text)
        connection.assert_closed()
    with Connection(world.remote) as connection:
        connection.send(Initiator(world.keys["other"].key, asked).frame)
        assert_refusal(connection)


def test_the_first_cipher_that_both_have_is_taken(world: World) -> None:
    for offered, taken in ((b"\x09\0\x03\x02", CHACHA20_POLY1305), (bytes([AES_128_GCM, AES_256_GCM]), AES_128_GCM)):
        dial = Key(world.keys["ours"].key, offered).dial
        session = Session(world.remote, HOST, dial=dial, ciphers=bytes([taken]))
        with session.join(1) as queue:
            assert queue.request(READ, ident(0, 1), 0, 1).code == SUCCESS
        assert session.welcome[8] == bytes([taken])


@pytest.mark.parametrize("field", ["export", "host"])
def test_hello_of_another_than_the_key_was_shown_for(world: World, field: str) -> None:
    """A client cannot use its key and then claim to be another host."""
    named = {"export": "volume", "host": HOST} | ({"export": "second"} if field == "export" else {"host": "other"})

    def attempt() -> None:
        with Key(world.keys["ours"].key).dial(world.remote, "volume", HOST) as connection:
            connection.send(hello(**named, ciphers=bytes([AES_256_GCM])))
            assert_refusal(connection)

    until_told(world, "it has not shown the key of this entry, but another one", attempt)


def test_secured_connection_to_a_host_without_a_key(world: World) -> None:
    with Key(world.keys["ours"].key).dial(world.remote, "volume", HOST) as connection:
        connection.send(hello("volume", "open", ciphers=bytes([AES_256_GCM])))
        assert_refusal(connection)


@pytest.mark.parametrize("ciphers", [bytes([AES_128_GCM]), b"", b"\0", b"\x09" + bytes([AES_256_GCM])])
def test_downgraded_offer(world: World, ciphers: bytes) -> None:
    """An attacker on the path wants a weaker cipher, or none: the key agreement covers the
    offer."""
    proxy = Proxy(world.remote, secured=True)

    def edit(frame: bytes) -> bytes:
        data = frame[HEADER_LEN:]
        offered = attribute(8, bytes([AES_256_GCM]))
        assert data.count(offered) == 1
        data = data.replace(offered, attribute(8, ciphers))
        return header(SECURE, length=len(data)) + data

    proxy.edit_new(CLIENT, edit)
    try:
        until_told(world, NO_KEY_OF_ITS_ENTRY, lambda: assert_refused(world, proxy.remote, HOST, "ours"))
    finally:
        proxy.end()


def test_export_that_demands_a_cipher(world: World) -> None:
    call, strict = world.target.rpc.call, world.of("strict")
    call("bdev_malloc_create", name="Strict", num_blocks=2048, block_size=BLOCK)
    call("dst_create_export", name="strict", bdev_name="Strict", require_cipher=True)
    with pytest.raises(RpcError, match="psk_file"):
        call("dst_export_add_host", export="strict", host="*", access="rw")
    assert [export["hosts"] for export in call("dst_get_exports", name="strict")] == [[]]
    call("dst_export_add_host", export="strict", host="*", access="rw", psk_file=world.keys["ours"].path)
    assert_refused(world, strict, HOST, None)
    assert_refused(world, strict, HOST, "other")
    # The key belongs to a group, so any name is accepted with it.
    attach_to(world.client, strict, "strict0", host="anybody", psk_file=world.keys["ours"].path)
    assert world.client.rpc.call("bdev_dst_delete", name="strict0") is True
    call("dst_delete_export", name="strict")
    call("bdev_malloc_delete", name="Strict")
