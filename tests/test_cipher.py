"""Encrypted connections: I/O with each cipher, and what an eavesdropper sees of it."""

from __future__ import annotations

import pytest

from harness.backends import session_of, writes_at
from harness.checker import Checker, start_checker
from harness.keys import HOST, KeyFile, KeyedService
from harness.lab import Lab
from harness.noise import AES_256_GCM, CIPHER_NAMES
from harness.protocol import Connection, READ, SUCCESS, Session, ident
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.secure import Key
from harness.service import BLOCK, attach_to
from harness.spdk import Job, assert_clean
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

MIB = 64
CIPHERS = list(CIPHER_NAMES.values())
# The beginning of each of the checker's blocks: `BLOCK_MAGIC` in spdk/apps/check/journal.c.
PATTERN = b"DSTBLOCK"


def test_each_cipher_with_and_without_digests(lab: Lab) -> None:
    service = KeyedService(lab)
    checker = start_checker(lab)
    for number, (cipher, digest) in enumerate((c, d) for c in CIPHERS for d in ("crc32c", "none")):
        name = f"remote{number}"
        service.attach(checker, name, cipher=cipher, digest=digest)
        checker.begin_and_flow(name, depth=32, io_blocks=16, zeroes=5, compares=10, flushes=1)
        checker.wait_flow(2000)
        (info,) = checker.rpc.call("bdev_dst_get_info", name=name)
        assert (info["cipher"], info["negotiated"]["cipher"]) == (cipher, cipher)
        assert (info["digest"], info["negotiated"]["digest"]) == (digest, digest)
        session = service.session()
        assert (session["host"], session["cipher"], session["digest"]) == (HOST, cipher, digest)
        checker.end().assert_clean()
        checker.verify(name).assert_clean()
        checker.rpc.call("bdev_dst_delete", name=name)
        wait_until(lambda: not service.application.rpc.call("dst_get_sessions"), "the session to end")


@pytest.mark.parametrize(
    "size, reactors",
    [(4096, 1), (4096, 2), (128 * 1024, 2), (2**20, 1)],
    ids=["4KiB", "4KiB-2-reactors", "128KiB-2-reactors", "1MiB"],
)
def test_bdevperf_verifies(lab: Lab, size: int, reactors: int) -> None:
    """Each cipher is used in turn."""
    service = KeyedService(lab)
    perf = lab.bdevperf_unattached(Job(size=size, depth=32, seconds=1), MIB * 2**20 // BLOCK, reactors)
    for cipher in CIPHERS:
        service.attach(perf, cipher=cipher)
        assert_clean(perf.run())
        perf.rpc.call("bdev_dst_delete", name="remote0")


def listen_in(lab: Lab, service: KeyedService, checker: Checker, name: str, cipher: str) -> list[bytes]:
    """Returns what client and target send while blocks are written and read."""
    proxy = Proxy(service.remote, secured=cipher != "none", record=32 * 2**20)
    lab.on_end(proxy.end)
    options = {} if cipher == "none" else {"cipher": cipher, "psk_file": service.at_client.path}
    attach_to(checker, proxy.remote, name, keep_alive_timeout_ms=10_000, **options)
    checker.begin_and_flow(name, depth=8, io_blocks=4, reads=50)
    checker.wait_flow(1000)
    checker.end().assert_clean()
    checker.rpc.call("bdev_dst_delete", name=name)
    recordings = proxy.recordings()
    said = [b"".join(recording.client for recording in recordings)]
    said.append(b"".join(recording.target for recording in recordings))
    assert all(len(of) > 1000 * BLOCK for of in said)
    return said


def test_what_a_listener_sees(lab: Lab) -> None:
    """An eavesdropper sees no data. Without a cipher it does, which shows that the test can detect
    data."""
    service, checker = KeyedService(lab), start_checker(lab)
    for cipher in CIPHERS:
        for said in listen_in(lab, service, checker, f"with-{cipher}", cipher):
            assert said.count(PATTERN) == 0
    call = service.application.rpc.call
    call("dst_export_remove_host", export="volume", host=HOST)
    call("dst_export_add_host", export="volume", host=HOST, access="rw")
    for said in listen_in(lab, service, checker, "without", "none"):
        assert said.count(PATTERN) > 500


def test_a_key_means_a_cipher_and_a_cipher_a_key(lab: Lab) -> None:
    service, client, key = KeyedService(lab), lab.client(), KeyFile(lab.folder, "key")
    service.attach(client)
    (info,) = client.rpc.call("bdev_dst_get_info", name="remote0")
    assert info["negotiated"]["cipher"] == service.session()["cipher"] == "aes-256-gcm"
    client.rpc.call("bdev_dst_delete", name="remote0")
    call = {"name": "x", "traddr": "127.0.0.1", "trsvcid": "9", "export": "x"}
    for options in ({"cipher": "aes-256-gcm"}, {"cipher": "none", "psk_file": key.path}, {"cipher": "rot13"}):
        with pytest.raises(RpcError, match="cipher"):
            client.rpc.call("bdev_dst_create", **call, **options)
    assert client.rpc.call("bdev_dst_get_info") == []


def test_what_was_attached_with_a_right_does_not_outlive_it(lab: Lab) -> None:
    """Removing a host ends its secured sessions at once. An entry of its own, instead of `*`, closes
    its connections, which may come back as that entry says."""
    service = KeyedService(lab)
    call = service.application.rpc.call
    group, own = service.at_target, KeyFile(lab.folder, "own.psk")

    def attach(host: str, key: KeyFile) -> tuple[Session, Connection]:
        session = Session(service.remote, host, dial=Key(key.key).dial, ciphers=bytes([AES_256_GCM]))
        queue = session.join(1)
        assert queue.request(READ, ident(0, 1), 0, 1).code == SUCCESS
        return session, queue

    def add(host: str, access: str, key: KeyFile) -> None:
        call("dst_export_add_host", export="volume", host=host, access=access, psk_file=key.path)

    def assert_closed(session: Session, queue: Connection) -> None:
        queue.assert_closed()
        session.control.assert_closed()

    def assert_ended(session: Session, queue: Connection) -> None:
        assert_closed(session, queue)
        assert session_of(service.application, session.host) is None

    add("*", "rw", group)
    other = attach("other", group)
    for access, key in (("ro", group), ("rw", own)):
        # The host gets its own entry, which grants less than `*` or requires another key.
        session = attach("somebody", group)
        add("somebody", access, key)
        assert_closed(*session)
        session = attach("somebody", key)
        call("dst_export_remove_host", export="volume", host="somebody")
        assert_ended(*session)
    other[0].control.keep_alive()
    call("dst_export_remove_host", export="volume", host="*")
    assert_ended(*other)


def test_client_whose_entry_goes(lab: Lab) -> None:
    service, client = KeyedService(lab), start_checker(lab)
    service.attach(client, transaction_timeout_ms=1000)
    client.begin_and_flow()
    call = service.application.rpc.call
    call("dst_export_remove_host", export="volume", host=HOST)
    assert call("dst_get_sessions") == []
    before = writes_at(service.application, service.backend.name)
    wait_until(lambda: client.findings().all_failed > 0 or client.findings().removed, "the client's user to notice")
    assert writes_at(service.application, service.backend.name) == before
    client.assert_running()
