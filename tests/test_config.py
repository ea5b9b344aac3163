"""A saved configuration restores everything; a client may start before its target."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from harness.keys import KeyFile
from harness.lab import Lab
from harness.rpc import RpcError
from harness.ports import free_port
from harness.proxy import Proxy
from harness.spdk import TARGET_CORES, Application, Job, assert_clean
from harness.transport import Remote, attach, serve_nvmf
from harness.waiting import wait_until


def saved(application: Application) -> dict[str, Any]:
    """Returns what scripts/rpc.py save_config writes."""
    names = [entry["subsystem"] for entry in application.rpc.call("framework_get_subsystems")]
    return {
        "subsystems": [
            {"subsystem": name, "config": application.rpc.call("framework_get_config", name=name)} for name in names
        ]
    }


def save(application: Application, path: Path) -> dict[str, Any]:
    config = saved(application)
    path.write_text(json.dumps(config))
    return config


def test_target_and_client_come_back(lab: Lab) -> None:
    target, remote = lab.aio_target(64)
    client = lab.client()
    bdev = attach(lab.transport, client, remote)
    before = client.bdev(bdev)
    assert before is not None
    target_config = save(target, lab.folder / "saved-target.json")
    client_config = save(client, lab.folder / "saved-client.json")
    assert client.stop() == 0
    assert target.stop() == 0

    target = lab.target(config=lab.folder / "saved-target.json")
    client = lab.client(config=lab.folder / "saved-client.json")
    wait_until(lambda: client.bdev(bdev), "the bdev to come back")
    after = client.bdev(bdev)
    assert after is not None
    for key in ("name", "uuid", "block_size", "num_blocks", "supported_io_types"):
        assert after.get(key) == before.get(key), key
    assert saved(target) == target_config
    assert saved(client) == client_config


@pytest.mark.needs_dst
@pytest.mark.watchdog(240)
def test_thousands_of_exports_come_back(lab: Lab) -> None:
    """Each takes one call, which SPDK 20.07 makes every 8 ms. The test prints the time."""
    count, path = 2000, lab.folder / "saved.json"
    hosts = [{"host": f"host{at}", "addresses": [f"10.{at}.0.0/16"], "access": "rw"} for at in range(5)]
    calls = [
        {"method": "dst_create_export", "params": {"name": f"volume{at}", "bdev_name": "Null0", "hosts": hosts}}
        for at in range(count)
    ]
    null = {"method": "bdev_null_create", "params": {"name": "Null0", "num_blocks": 256, "block_size": 4096}}
    path.write_text(json.dumps({"subsystems": [{"subsystem": "bdev", "config": [*calls, null]}]}))
    began = time.monotonic()
    target = Application("spdk_tgt", "target", lab.folder, TARGET_CORES, config=path)
    lab.adopt(target)
    target.wait_ready(timeout=200.0)
    print(f"{count} exports with {len(hosts)} hosts each come back in {time.monotonic() - began:.1f} s")

    exports = target.rpc.call("dst_get_exports")
    assert len(exports) == count
    assert {export["state"] for export in exports} == {"online"}
    assert {len(export["hosts"]) for export in exports} == {len(hosts)}
    created = [
        call for part in saved(target)["subsystems"] for call in part["config"] or [] if call["method"] == "dst_create_export"
    ]
    assert sorted(call["params"]["name"] for call in created) == sorted(f"volume{at}" for at in range(count))
    assert {len(call["params"]["hosts"]) for call in created} == {len(hosts)}
    assert target.stop() == 0


@pytest.mark.needs_dst
def test_what_is_on_top_of_a_client_comes_back(lab: Lab) -> None:
    """The rest of the configuration needs the bdev while it is loaded; the target is up, but the
    network is slow."""
    _, remote = lab.malloc_target(64)
    proxy = Proxy(remote)
    lab.on_end(proxy.end)
    proxy.delay(0.15)
    client = lab.client()
    bdev = attach(lab.transport, client, proxy.remote)
    namespace = Remote("127.0.0.1", free_port(), "nqn.2016-06.io.spdk:again")
    serve_nvmf(client, bdev, namespace)
    config = save(client, lab.folder / "saved.json")
    assert client.stop() == 0

    client = lab.client(config=lab.folder / "saved.json")
    (subsystem,) = [s for s in client.rpc.call("nvmf_get_subsystems") if s["nqn"] == namespace.export]
    assert [ns["bdev_name"] for ns in subsystem["namespaces"]] == [bdev]
    assert saved(client) == config


@pytest.mark.needs_dst
def test_exports_come_back_whole(lab: Lab) -> None:
    target, remote = lab.aio_target(64)
    call = target.rpc.call
    call("dst_create_listener", traddr="::1", trsvcid=str(free_port("::1")), adrfam="ipv6")
    call("bdev_malloc_create", name="Malloc1", num_blocks=2048, block_size=4096)
    call("dst_create_export", name="second", bdev_name="Malloc1", read_only=True, reset="backend")
    call("bdev_malloc_create", name="Malloc2", num_blocks=2048, block_size=4096)
    call("dst_create_export", name="third", bdev_name="Malloc2", require_digest=True, require_cipher=True)
    key = os.urandom(32)
    file = KeyFile(lab.folder, "key", key).path
    call("dst_export_add_host", export="third", host="gamma", access="rw", psk_file=file)
    call("dst_export_add_host", export="second", host="alpha", access="ro", addresses=["127.0.0.0/8", "::1/128"])
    call("dst_export_add_host", export="second", host="beta", access="rw")
    config = save(target, lab.folder / "saved.json")
    listeners, exports = call("dst_get_listeners"), call("dst_get_exports")
    warnings = [export.pop("uuid_warning") for export in exports]
    assert all("another UUID" in warning for warning in warnings), warnings
    assert target.text().count("another UUID") == len(exports)
    assert file in json.dumps(config) and key.hex()[:8] not in json.dumps([config, exports])
    assert target.stop() == 0

    target = lab.target(config=lab.folder / "saved.json")
    assert target.rpc.call("dst_get_listeners") == listeners
    # The saved configuration has the UUIDs.
    again = target.rpc.call("dst_get_exports")
    assert [export.pop("uuid_warning") for export in again] == [None] * len(exports)
    assert again == exports
    assert saved(target) == config


@pytest.mark.needs_dst
def test_an_export_is_created_with_its_hosts(lab: Lab) -> None:
    """SPDK takes milliseconds for each call, so an export and its hosts are one call, as far as
    SPDK takes that."""
    target = lab.target()
    call = target.rpc.call
    hosts = [{"host": f"host{number}", "access": "ro", "addresses": ["192.0.2.1/32"]} for number in range(5)]
    with pytest.raises(RpcError, match="hosts: entry 6: access: "):
        call("dst_create_export", name="export0", bdev_name="Null0", hosts=[*hosts, {"host": "x", "access": "x"}])
    with pytest.raises(RpcError, match="hosts: export `export0` already has an entry for host `host0`"):
        call("dst_create_export", name="export0", bdev_name="Null0", hosts=[*hosts, hosts[0]])
    with pytest.raises(RpcError, match="hosts: .* needs a key"):
        call("dst_create_export", name="export0", bdev_name="Null0", hosts=hosts, require_cipher=True)
    assert call("dst_get_exports") == []
    many = 100
    for number in range(many):
        call("dst_create_export", name=f"export{number}", bdev_name=f"Null{number}", hosts=hosts)
    # The last one has more hosts than fit into a call.
    for number in range(5, 200):
        call("dst_export_add_host", export="export99", host=f"host{number}", access="rw")
    exports = call("dst_get_exports")
    config = save(target, lab.folder / "saved.json")
    methods = [entry["method"] for subsystem in config["subsystems"] for entry in subsystem["config"] or []]
    assert methods.count("dst_create_export") == many
    assert 0 < methods.count("dst_export_add_host") < 195
    assert target.stop() == 0

    target = lab.target(config=lab.folder / "saved.json")
    assert target.rpc.call("dst_get_exports") == exports
    assert saved(target) == config


@pytest.mark.needs_dst
def test_keys_and_ciphers_of_clients_come_back(lab: Lab) -> None:
    client = lab.client()
    file = KeyFile(lab.folder, "key").path
    for name, more in (("default0", {}), ("chosen0", {"cipher": "chacha20-poly1305"})):
        params = lab.transport.attach_call(name, Remote("127.0.0.1", free_port(), "nobody"))[1]
        client.rpc.call("bdev_dst_create", **params, **more, psk_file=file, wait=False)
    config = save(client, lab.folder / "saved.json")
    assert client.stop() == 0

    client = lab.client(config=lab.folder / "saved.json")
    shown = {info["name"]: (info["psk_file"], info["cipher"]) for info in client.rpc.call("bdev_dst_get_info")}
    assert shown == {"default0": (file, "aes-256-gcm"), "chosen0": (file, "chacha20-poly1305")}
    assert saved(client) == config


@pytest.mark.needs_dst
def test_client_before_target(lab: Lab) -> None:
    mib, port = 64, free_port()
    remote = Remote("127.0.0.1", port, "late")
    method, params = lab.transport.attach_call("remote0", remote)
    params |= {"wait": False, "reconnect_delay_ms": 100}
    config = {"subsystems": [{"subsystem": "bdev", "config": [{"method": method, "params": params}]}]}
    perf = lab.bdevperf_unattached(Job(), mib * 2048, config=config)
    info = perf.rpc.call("bdev_dst_get_info", name="remote0")[0]
    assert info["state"] != "connected"
    assert perf.bdev("remote0") is None

    target = lab.target()
    target.rpc.call("bdev_malloc_create", name="Malloc0", num_blocks=mib * 2048, block_size=512)
    target.rpc.call("dst_create_listener", traddr=remote.address, trsvcid=str(port))
    # The export is missing for a moment; the client must not treat the refusal as final.
    target.rpc.call("dst_create_export", name="late", bdev_name="Malloc0")
    target.rpc.call("dst_export_add_host", export="late", host="*", access="rw")
    wait_until(lambda: perf.bdev("remote0"), "the bdev to appear")
    assert_clean(perf.run())


@pytest.mark.needs_dst
def test_attach_gives_up(lab: Lab) -> None:
    """With `wait` and no target, the call fails in time and leaves nothing behind."""
    client = lab.client()
    method, params = lab.transport.attach_call("remote0", Remote("127.0.0.1", free_port(), "nobody"))
    with pytest.raises(RpcError):
        client.rpc.call(method, **params, attach_timeout_ms=500)
    assert client.rpc.call("bdev_dst_get_info") == []
    assert client.bdev("remote0") is None
