"""Keys stay in their files, and only for a moment in the memory of the processes that compute with
them."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from harness.channel import Channel
from harness.checker import start_checker
from harness.environment import environment
from harness.fake_target import FakeTarget, Memory
from harness.keys import HOST, KeyFile, KeyedService, forms
from harness.lab import Lab
from harness.memory import find, mappings
from harness.noise import AES_256_GCM, CIPHER_NAMES
from harness.process import Process
from harness.protocol import READ, SUCCESS, Session, ident, write
from harness.rpc import RpcError
from harness.secure import Key, SecureChannel, accept
from harness.service import BLOCK, attach_to
from harness.spdk import Application
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst


def said(application: Application) -> str:
    """Returns everything that RPCs show."""
    call = application.rpc.call
    names = [entry["subsystem"] for entry in call("framework_get_subsystems")]
    answers: list[Any] = [call("framework_get_config", name=name) for name in names]
    for method in ("bdev_dst_get_info", "bdev_get_bdevs", "bdev_dst_get_options"):
        answers.append(call(method))
    for method in ("dst_get_exports", "dst_get_sessions", "dst_get_listeners", "dst_get_stats", "dst_get_options"):
        answers.append(call(method))
    return json.dumps(answers)


def secrets(keys: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name} key, {form}": value for name, key in keys.items() for form, value in forms(key).items()}


def assert_not_in_memory(process: Process, unwanted: dict[str, bytes], present: str) -> None:
    """Asserts that no secret is in the process's memory. `present` must be found, which shows that
    the search works."""
    found = find(process, unwanted | {"witness": present.encode()})
    assert found.pop("witness", None), f"{present} is not found in the memory of {process.name}, so the search does not work"
    assert not found, f"in the memory of {process.name}: {found}"


@pytest.mark.watchdog(150)
def test_no_key_is_told_or_kept(lab: Lab) -> None:
    service = KeyedService(lab)
    target, checker = service.application, start_checker(lab)
    keys = {name: os.urandom(32) for name in ("old", "new", "wrong")}
    unwanted = secrets(keys)
    in_memory = {name: value for name, value in unwanted.items() if name.endswith(("raw", "hex", "base64"))}
    call = checker.rpc.call
    texts: list[str] = []

    def assert_secret() -> None:
        for process, path in ((target, service.at_target.path), (checker, service.at_client.path)):
            assert_not_in_memory(process, in_memory, path)

    # A host is admitted, with several keys at each end.
    service.at_target.write(keys["old"], keys["new"])
    service.at_client.write(keys["new"], keys["old"])
    service.attach(checker)
    checker.begin_and_flow()
    assert_secret()
    checker.end().assert_clean()
    texts += [said(target), said(checker)]
    call("bdev_dst_delete", name="remote0")
    wait_until(lambda: not target.rpc.call("dst_get_sessions"), "the session to end")
    assert_secret()

    # A host is refused.
    service.at_client.write(keys["wrong"])
    with pytest.raises(RpcError) as error:
        service.attach(checker)
    texts.append(str(error.value))
    assert_secret()

    # Files that are not valid key files, because they lack a header or a digit, or because others
    # may read them.
    path = lab.folder / "bad.psk"
    path.touch(0o600)
    for content, mode in ((keys["old"].hex(), 0o600), ("DST-PSK-1\n" + keys["old"].hex()[1:], 0o600), ("", 0o644)):
        path.write_text(content)
        path.chmod(mode)
        with pytest.raises(RpcError) as error:
            service.attach(checker, psk_file=str(path))
        texts.append(str(error.value))
        with pytest.raises(RpcError) as error:
            target.rpc.call("dst_export_add_host", export="volume", host="x", access="rw", psk_file=str(path))
        texts.append(str(error.value))
    assert_secret()

    texts += [said(target), said(checker)]
    assert HOST in texts[0] and service.at_target.path in texts[0] and service.at_client.path in texts[1]
    assert checker.stop() == 0
    assert target.stop() == 0
    texts += [target.text(), checker.text()]
    for name, value in unwanted.items():
        assert all(value not in text.encode() for text in texts), name
        assert value[:-4] not in "".join(texts).encode(), f"most of {name}"


def test_all_memory_is_searched(lab: Lab) -> None:
    """Data written to a malloc bdev is found in hugepages, if there are any."""
    service, data = KeyedService(lab), os.urandom(BLOCK)
    with Session(service.remote, HOST, dial=Key(service.at_target.key).dial, ciphers=bytes([AES_256_GCM])).join(1) as queue:
        queue.send(write(0, 1, 0, data, BLOCK))
        assert queue.receive().code == SUCCESS
    where = find(service.application, {"data": data})
    assert "map_" in where["data"] or environment().variables.get("DST_HUGEPAGES") != "reserved", where
    # SPDK's trace buffer is a file that its processes map.
    assert any("_trace." in name for _, _, name in mappings(service.application))


@pytest.mark.watchdog(100)
@pytest.mark.parametrize("cipher", CIPHER_NAMES, ids=CIPHER_NAMES.values())
def test_target_forgets_the_keys_of_a_closed_connection(lab: Lab, cipher: int) -> None:
    """The client is a script, so that the keys are known."""
    service = KeyedService(lab)
    session = Session(service.remote, HOST, dial=Key(service.at_target.key, bytes([cipher])).dial, ciphers=bytes([cipher]))
    with session.join(1) as queue:
        assert queue.request(READ, ident(0, 1), 0, 8).code == SUCCESS
        channels = [secure_channel(connection.channel) for connection in (queue, session.control)]
        # While the connections exist, the keys of records are in use.
        in_use = [channel.sends.secrets["key 1"] for channel in channels]
        found = find(service.application, {str(number): key for number, key in enumerate(in_use)})
        assert found, "the keys in use are not found in memory, so the search does not work"
    session.control.close()
    wait_until(lambda: service.application.rpc.call("dst_get_stats")["connections"] == 0, "the connections to end")
    for channel in channels:
        assert_not_in_memory(service.application, channel.secrets(), service.at_target.path)


@pytest.mark.watchdog(100)
@pytest.mark.parametrize("cipher", CIPHER_NAMES, ids=CIPHER_NAMES.values())
def test_client_forgets_the_keys_of_a_closed_connection(lab: Lab, cipher: int) -> None:
    """The target is a script."""
    key = KeyFile(lab.folder, "key")
    # What it does not answer would keep the bdev until the lease is over.
    fake = FakeTarget(opens=accept(key.key), cipher=cipher, keep_alive_ms=20_000, serves=Memory())
    lab.on_end(fake.end)
    client = lab.client()
    attach_to(client, fake.remote, psk_file=key.path, cipher=CIPHER_NAMES[cipher])
    channels = [secure_channel(channel) for channel in fake.channels]
    assert find(client, {"key": channels[0].receives.secrets["key 1"]}), "this test shows nothing"
    assert client.rpc.call("bdev_dst_delete", name="remote0") is True
    for channel in channels:
        assert_not_in_memory(client, channel.secrets(), HOST)


def secure_channel(channel: Channel) -> SecureChannel:
    assert isinstance(channel, SecureChannel)
    return channel
