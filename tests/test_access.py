"""A host's entry that changes while the host is attached."""

from __future__ import annotations

import errno
import socket

import pytest

from harness.channel import Channel
from harness.keys import KeyFile
from harness.lab import Lab
from harness.protocol import Connection, Dial, Session
from harness.rpc import RpcError
from harness.transport import Remote

pytestmark = pytest.mark.needs_dst

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"

# The maximum number of hosts at one export.
HOSTS_MAX = 4096


def dial_from(source: str) -> Dial:
    """Connects from this address."""

    def dial(remote: Remote, _export: str, _host: str) -> Connection:
        sock = socket.create_connection((remote.address, remote.port), 20, (source, 0))
        return Connection(remote, channel=Channel(sock))

    return dial


def test_own_entry_with_a_key_ends_what_came_in_without(lab: Lab) -> None:
    """A client that was admitted by `*` has not proven that it has the key of the host's new
    entry."""
    target, remote = lab.malloc_target(16)
    session, other = Session(remote, "anybody"), Session(remote, "other")
    file = KeyFile(lab.folder, "key").path
    target.rpc.call("dst_export_add_host", export=remote.export, host="anybody", access="rw", psk_file=file)
    session.control.assert_closed()
    other.control.keep_alive()
    # A new entry without a key and with the same rights changes nothing.
    target.rpc.call("dst_export_add_host", export=remote.export, host="other", access="rw")
    other.control.keep_alive()


def test_each_connection_counts_with_the_address_that_it_has(lab: Lab) -> None:
    """A client uses two addresses, of which one is no longer admitted, or is no longer used."""
    target, remote = lab.malloc_target(16)
    # One connection from an address that is not admitted is enough.
    for number, (first, second) in enumerate([(HERE, ELSEWHERE), (ELSEWHERE, HERE)]):
        host = f"both-{number}"
        session = Session(remote, host, dial=dial_from(first))
        session.dial = dial_from(second)
        with session.join(1) as queue:
            target.rpc.call("dst_export_add_host", export=remote.export, host=host, access="rw", addresses=[HERE])
            session.control.assert_closed()
            queue.assert_closed()
    # The address from which the session was opened does not matter if no connection uses it any
    # more.
    session = Session(remote, "moved", dial=dial_from(ELSEWHERE))
    session.control.close()
    session.dial = dial_from(HERE)
    with session.join(0) as control, session.join(1) as queue:
        target.rpc.call("dst_export_add_host", export=remote.export, host="moved", access="rw", addresses=[HERE])
        control.keep_alive()
        target.rpc.call("dst_export_remove_host", export=remote.export, host="*")
        control.keep_alive()
        queue.keep_alive()


# A thousand calls, each of which waits for the target's core.
@pytest.mark.watchdog(180)
def test_what_an_export_can_not_have_is_said(lab: Lab) -> None:
    """The message names the export, the limit and what to do."""
    target, remote = lab.malloc_target(16)
    call = target.rpc.call
    call("bdev_malloc_create", name="Malloc1", num_blocks=2048, block_size=512)
    call("dst_create_export", name="secret", bdev_name="Malloc1", require_cipher=True)
    with pytest.raises(RpcError) as caught:
        call("dst_export_add_host", export="secret", host="me", access="rw")
    assert caught.value.code == -errno.EINVAL
    assert all(word in caught.value.message for word in ("`secret`", "`me`", "psk_file"))
    # One entry exists already.
    for number in range(HOSTS_MAX - 1):
        call("dst_export_add_host", export=remote.export, host=f"host-{number}", access="ro")
    with pytest.raises(RpcError) as caught:
        call("dst_export_add_host", export=remote.export, host="one-more", access="ro")
    assert caught.value.code == -errno.ENOSPC
    assert all(word in caught.value.message for word in (f"`{remote.export}`", str(HOSTS_MAX), "dst_export_remove_host"))
