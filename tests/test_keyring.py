"""Keys in SPDK's keyring, if it has one."""

from __future__ import annotations

import os
from typing import Any

import pytest

from harness.environment import environment
from harness.keys import HOST, KeyFile
from harness.lab import Lab
from harness.ports import free_port
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.service import attach_to
from harness.spdk import Application
from harness.transport import Remote
from harness.waiting import wait_until
from test_config import save, saved

pytestmark = pytest.mark.needs_dst

FIRST = (24, 5)
VERSION = "{}.{:02}".format(*environment().spdk_version)

needs_keyring = pytest.mark.skipif(environment().spdk_version < FIRST, reason=f"SPDK {VERSION} has no keyring")


def add_key(application: Application, name: str, file: KeyFile) -> None:
    assert application.rpc.call("keyring_file_add_key", name=name, path=file.path) is True


def export(target: Application) -> Remote:
    remote = Remote("127.0.0.1", free_port(), "volume")
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=4096)
    target.rpc.call("dst_create_export", name="volume", bdev_name="Malloc0", require_cipher=True)
    target.rpc.call("dst_create_listener", traddr=remote.address, trsvcid=str(remote.port))
    return remote


def let_in(target: Application, **key: str) -> None:
    target.rpc.call("dst_export_add_host", export="volume", host=HOST, access="rw", **key)


def refused(application: Application, method: str, **params: Any) -> str:
    with pytest.raises(RpcError) as error:
        application.rpc.call(method, **params)
    return error.value.message


PLACE = {"name": "remote0", "traddr": "127.0.0.1", "trsvcid": "1", "export": "volume"}
ENTRY = {"export": "volume", "host": HOST, "access": "rw"}


@pytest.mark.skipif(environment().spdk_version >= FIRST, reason=f"SPDK {VERSION} has a keyring")
def test_without_a_keyring(lab: Lab) -> None:
    target = lab.target()
    export(target)
    told = f"psk: key key0 can't be looked up: SPDK {VERSION} has no keyring, 24.05 is the first that has one; "
    told += "give a psk_file instead"
    assert refused(target, "bdev_dst_create", **PLACE, psk="key0") == told
    assert refused(target, "dst_export_add_host", **ENTRY, psk="key0") == told


@needs_keyring
def test_attach_with_named_keys(lab: Lab) -> None:
    """A key may be in the keyring of both ends, or of one end only: it is the same key."""
    target, client = lab.target(), lab.client()
    remote, file = export(target), KeyFile(lab.folder, "key")
    add_key(target, "key0", file)
    add_key(client, "key1", file)
    let_in(target, psk="key0")
    for key in ({"psk": "key1"}, {"psk": ":key1"}, {"psk_file": file.path}):
        attach_to(client, remote, **key)
        (session,) = target.rpc.call("dst_get_sessions")
        assert session["cipher"] == "aes-256-gcm"
        (info,) = client.rpc.call("bdev_dst_get_info")
        assert {name: info[name] for name in ("psk", "psk_file") if name in info} == key
        assert client.rpc.call("bdev_dst_delete", name="remote0") is True
        wait_until(lambda: not target.rpc.call("dst_get_sessions"), "the session to end")
    (shown,) = target.rpc.call("dst_get_exports")[0]["hosts"]
    assert shown["psk"] == "key0" and "psk_file" not in shown


@needs_keyring
def test_a_named_key_is_replaced_like_any_other(lab: Lab) -> None:
    """The content of the keyring at the time of a handshake counts."""
    target, client = lab.target(), lab.client()
    remote, at_target, at_client = export(target), KeyFile(lab.folder, "target"), KeyFile(lab.folder, "client")
    at_client.write(at_target.key)
    add_key(target, "key0", at_target)
    add_key(client, "key0", at_client)
    let_in(target, psk="key0")
    proxy = Proxy(remote, secured=True)
    lab.on_end(proxy.end)
    attach_to(client, proxy.remote, psk="key0")
    old, new = at_target.key, os.urandom(32)

    def state() -> str:
        (info,) = client.rpc.call("bdev_dst_get_info", name="remote0")
        found: str = info["state"]
        return found

    def come_back() -> None:
        """Replaces all connections by new ones, made with the current content of the keyrings."""
        links = proxy.whole_links()
        proxy.cut()
        back = lambda: set(proxy.whole_links()).isdisjoint(links) and state() == "connected"
        wait_until(back, "the client to come back")

    for target_has, client_has in (([old, new], old), ([old, new], new), ([new], new)):
        at_target.write(*target_has)
        at_client.write(client_has)
        come_back()
    # A key that was removed from the keyring admits no client, and the log says why.
    assert target.rpc.call("keyring_file_remove_key", name="key0") is True
    said = len(target.text())
    with pytest.raises(RpcError, match="not allowed"):
        attach_to(client, remote, "remote1", psk="key0")
    assert "psk: key key0 is not in SPDK's keyring" in target.text()[said:]


@needs_keyring
def test_named_keys_that_will_not_do(lab: Lab) -> None:
    target = lab.target()
    export(target)
    file = KeyFile(lab.folder, "key")
    add_key(target, "key0", file)
    calls = (("bdev_dst_create", PLACE), ("dst_export_add_host", ENTRY))
    # At the target it may come later: see test_starts.py.
    assert refused(target, "bdev_dst_create", **PLACE, psk="key9") == "psk: key key9 is not in SPDK's keyring"
    for method, params in calls:
        assert refused(target, method, **params, psk="key0", psk_file=file.path).startswith("psk: given together with psk_file")
    for content, problem in (
        (file.key.hex(), "psk: key key0: its first line is not DST-PSK-1"),
        ("DST-PSK-1\n" + file.key.hex()[1:], "psk: key key0: line 2 is neither"),
        ("DST-PSK-1\n" + "#" * 5000, "psk: key key0 has more than 4096 bytes"),
    ):
        with open(file.path, "w") as text:
            text.write(content)
        for method, params in calls:
            told = refused(target, method, **params, psk="key0")
            assert told.startswith(problem) and file.key.hex()[:8] not in told, told


@needs_keyring
def test_named_keys_come_back(lab: Lab) -> None:
    """The configuration has the key's name; SPDK's keyring saves the location of the key."""
    target, file = lab.target(), KeyFile(lab.folder, "key")
    remote = export(target)
    add_key(target, "key0", file)
    let_in(target, psk="key0")
    attach_to(target, remote, psk="key0")
    config = save(target, lab.folder / "saved.json")
    assert file.key.hex() not in str(config)
    assert target.stop() == 0
    target = lab.target(config=lab.folder / "saved.json")
    wait_until(lambda: target.bdev("remote0"), "the bdev to be attached again")
    assert saved(target) == config
