"""A start does not die of one thing: what can come later is waited for, and shown."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.keys import HOST, KeyFile
from harness.lab import Lab
from harness.ports import free_port
from harness.protocol import Session
from harness.rpc import RpcError
from harness.spdk import Application, lvol_size
from harness.transport import Remote
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst


class LateAddress:
    """An address for documentation (RFC 5737) that the machine has while this is there."""

    def __init__(self, lab: Lab) -> None:
        self.text = f"203.0.113.{random.randrange(1, 255)}"
        lab.on_end(self.remove)

    def _ip(self, verb: str) -> subprocess.CompletedProcess[str]:
        command = ["ip", "address", verb, f"{self.text}/32", "dev", "lo"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def add(self) -> None:
        added = self._ip("add")
        assert added.returncode == 0, added.stderr

    def remove(self) -> None:
        self._ip("del")


def listeners(target: Application) -> dict[str, tuple[str, str | None]]:
    return {
        listener["traddr"]: (listener["state"], listener["last_error"])
        for listener in target.rpc.call("dst_get_listeners")
    }


def config(*calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    entries = [{"method": method, "params": params} for method, params in calls]
    return {"subsystems": [{"subsystem": "bdev", "config": entries}]}


def test_an_address_may_come_later(lab: Lab) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can add an address")
    address, port = LateAddress(lab), str(free_port())
    late, here = {"traddr": address.text, "trsvcid": port}, {"traddr": "127.0.0.1", "trsvcid": port}
    target = lab.target(
        config=config(
            ("dst_create_export", {"name": "volume", "bdev_name": "Malloc0", "hosts": [{"host": "*", "access": "rw"}]}),
            ("bdev_malloc_create", {"name": "Malloc0", "num_blocks": 2048, "block_size": 512}),
            ("dst_create_listener", late),
            ("dst_create_listener", here),
        )
    )
    call = target.rpc.call
    waits = ("waiting", f"this machine does not have the address {address.text}")
    assert listeners(target) == {address.text: waits, "127.0.0.1": ("listening", None)}
    Session(Remote("127.0.0.1", int(port), "volume"), HOST).control.keep_alive()
    # It is a listener like any other.
    with pytest.raises(RpcError, match="already exists"):
        call("dst_create_listener", **late)
    call("dst_delete_listener", **late)
    call("dst_create_listener", **late)
    assert listeners(target)[address.text] == waits

    address.add()
    wait_until(lambda: listeners(target)[address.text] == ("listening", None), "the target to listen")
    Session(Remote(address.text, int(port), "volume"), HOST).control.keep_alive()
    text = target.text()
    assert text.count(f"does not listen on {address.text}:{port} yet") == 2, "one line for each time it was created"
    assert "still does not listen" not in text
    assert target.stop() == 0


def test_what_cannot_be_right_is_refused_at_once(lab: Lab) -> None:
    target, remote = lab.malloc_target(16)
    before = target.rpc.call("dst_get_listeners")
    for place in (
        {"traddr": remote.address, "trsvcid": str(remote.port)},
        # An address of a link needs the link's name.
        {"traddr": "fe80::1", "trsvcid": str(free_port())},
    ):
        with pytest.raises(RpcError, match="traddr, trsvcid"):
            target.rpc.call("dst_create_listener", **place)
    assert target.rpc.call("dst_get_listeners") == before


def key_error(target: Application) -> str | None:
    (host,) = target.rpc.call("dst_get_exports", name="volume")[0]["hosts"]
    error: str | None = host["key_error"]
    return error


def test_a_key_may_come_later(lab: Lab) -> None:
    path, port = lab.folder / "late.psk", free_port()
    entry = {"host": HOST, "access": "rw", "psk_file": str(path)}
    remote = Remote("127.0.0.1", port, "volume")
    target = lab.target(
        config=config(
            ("dst_create_export", {"name": "volume", "bdev_name": "Malloc0", "hosts": [entry]}),
            ("bdev_malloc_create", {"name": "Malloc0", "num_blocks": 2048, "block_size": 512}),
            ("dst_create_listener", {"traddr": remote.address, "trsvcid": str(port)}),
        )
    )
    assert "No such file" in (key_error(target) or "")
    assert target.text().count("can't attach yet") == 1
    # Nor does a client's start end of it.
    method, params = lab.transport.attach_call("remote0", remote)
    params |= {"wait": False, "psk_file": str(path), "reconnect_delay_ms": 50}
    client = lab.client(config=config((method, params)))

    def last_error() -> str:
        return str(client.rpc.call("bdev_dst_get_info", name="remote0")[0]["last_error"])

    wait_until(lambda: "psk_file" in last_error() and "No such file" in last_error(), "the client to say what is missing")

    KeyFile(lab.folder, path.name)
    wait_until(lambda: client.bdev("remote0"), "the client to attach")
    assert key_error(target) is None
    # A key that is lost is noticed when it is needed next.
    Path(path).unlink()
    assert key_error(target) is None
    assert client.rpc.call("bdev_dst_delete", name="remote0") is True
    assert target.stop() == 0


def test_a_renamed_lvol_is_found(lab: Lab) -> None:
    """Both when the configuration is loaded again, and when the lvstore goes and comes back while
    the target runs. The alias under which it was exported does not exist any more."""
    volume = lab.folder / "volume.img"
    with open(volume, "wb") as file:
        file.truncate(64 << 20)

    def aio(target: Application) -> None:
        target.rpc.call("bdev_aio_create", name="Aio0", filename=str(volume), block_size=4096)

    target = lab.target()
    call = target.rpc.call
    aio(target)
    call("bdev_lvol_create_lvstore", bdev_name="Aio0", lvs_name="lvs", cluster_sz=1 << 20)
    own_name = call("bdev_lvol_create", lvs_name="lvs", lvol_name="old", **lvol_size(8))
    call("dst_create_export", name="volume", bdev_name="lvs/old", hosts=[{"host": "*", "access": "rw"}])
    call("bdev_lvol_rename", old_name="lvs/old", new_name="new")

    def state() -> str:
        return str(call("dst_get_exports", name="volume")[0]["state"])

    assert state() == "online"
    call("bdev_aio_delete", name="Aio0")
    wait_until(lambda: state() == "offline", "the export to be offline")
    aio(target)
    wait_until(lambda: state() == "online", "the export to find its bdev")
    names = [entry["subsystem"] for entry in call("framework_get_subsystems")]
    saved = [{"subsystem": name, "config": call("framework_get_config", name=name)} for name in names]
    created = [entry for subsystem in saved for entry in subsystem["config"] or [] if entry["method"] == "dst_create_export"]
    assert [entry["params"]["bdev_name"] for entry in created] == [own_name]
    assert target.stop() == 0

    target = lab.target(config={"subsystems": saved})
    call = target.rpc.call
    wait_until(lambda: state() == "online", "the export to find its bdev")
