"""Exports with one owner at a time: who has one keeps it until another host takes it over, and nothing
of a former owner comes afterwards."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.checker import Checker, start_checker
from harness.lab import Lab
from harness.protocol import INQUIRY, OWNED, Connection, claim, hello, ownership_of, refusal_of
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.service import Service, durable_backend
from harness.spdk import Application
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst


def owned_service(lab: Lab) -> Service:
    """A target whose export keeps who owns it, and which any host may take over."""
    entry = {"host": "*", "access": "rw", "takeover": True}
    service = Service(lab, durable_backend(lab), entry, state_file=str(lab.folder / "state"))
    service.application.rpc.call("dst_export_release", export="volume")
    return service


def ownership(target: Application) -> dict[str, Any]:
    return target.rpc.call("dst_get_exports", name="volume")[0]["ownership"]


def info(client: Application) -> dict[str, Any]:
    return client.rpc.call("bdev_dst_get_info", name="remote0")[0]


def checker_of(lab: Lab, service: Service, host: str, journal: Path | None = None, **options: Any) -> Checker:
    checker = start_checker(lab, host, journal=journal)
    service.attach(checker, host=host, exclusive=True, **options)
    return checker


@pytest.mark.watchdog(90)
@pytest.mark.parametrize("fate", ["killed", "stopped", "cut off"])
def test_a_takeover_from_an_owner_under_load(lab: Lab, fate: str) -> None:
    service = owned_service(lab)
    proxy = Proxy(service.remote)
    lab.on_end(proxy.end)
    first = checker_of(lab, service, "first", remote=proxy.remote)
    first.begin_and_flow(zeroes=5, flushes=1)
    number = info(first)["ownership"]
    assert number == ownership(service.application)["number"]
    with pytest.raises(RpcError, match='host "first" owns the export since'):
        checker_of(lab, service, "second")
    if fate == "killed":
        first.kill()
    elif fate == "stopped":
        first.signal(signal.SIGSTOP)
    else:
        proxy.hold()
        proxy.hold_new("client", "target")
        wait_until(lambda: proxy.waiting("client") > 0, "requests to be on their way")
    # What it had acknowledged, and what may or may not have been executed.
    journal = lab.folder / "journal-second"
    shutil.copyfile(first.journal, journal)
    second = checker_of(lab, service, "third", journal, takeover=True)
    assert info(second)["ownership"] > number
    second.verify().assert_clean()
    second.begin_and_flow(zeroes=5, flushes=1)
    if fate != "killed":
        first.signal(signal.SIGCONT)
        proxy.hold_new()
        proxy.release()
        wait_until(lambda: info(first)["state"] == "failed", "the former owner to hear of it")
        assert 'host "third" owns the export since' in info(first)["last_error"]
        wait_until(lambda: first.findings().all_failed > 0, "its I/O to fail")
    second.wait_flow(1000)
    second.end().assert_clean()
    second.verify().assert_clean()
    assert ownership(service.application)["owner"] == "third"


@pytest.mark.watchdog(60)
def test_an_owner_survives_a_restart_of_the_target(lab: Lab) -> None:
    service = owned_service(lab)
    owner = checker_of(lab, service, "owner")
    before = ownership(service.application)
    owner.begin_and_flow()
    service.restart()
    owner.wait_flow()
    assert ownership(service.application) == before
    for said in (b"", INQUIRY, claim(before["number"]), claim(before["number"] - 1, takeover=True)):
        with Connection(service.remote) as connection:
            connection.send(hello("volume", "stranger", more=said))
            refusal = connection.receive()
            assert refusal_of(refusal)[0] == OWNED
            assert ownership_of(refusal) == (before["number"], "owner")
    owner.end().assert_clean()


@pytest.mark.watchdog(60)
@pytest.mark.parametrize("damage", ["lost", "torn"])
def test_nobody_is_let_in_while_the_owner_is_not_known(lab: Lab, damage: str) -> None:
    service = owned_service(lab)
    client = lab.client()
    service.attach(client, host="owner", exclusive=True)
    client.kill()
    file = lab.folder / "state"
    text = file.read_text()
    assert "owner owner\n" in text
    service.kill()
    file.unlink()
    if damage == "torn":
        file.write_text(text[:-5])
    service.start()
    call = service.application.rpc.call
    shown = ownership(service.application)
    assert shown["state"] == "unknown" and str(file) in shown["why"], shown
    client = lab.client()
    for options in ({}, {"exclusive": True}, {"exclusive": True, "takeover": True}):
        with pytest.raises(RpcError, match="dst_export_release"):
            service.attach(client, host="owner", **options)
    call("dst_export_release", export="volume")
    assert ownership(service.application)["state"] == "free"
    service.attach(client, host="other", exclusive=True)
    # A release ends the ownership and its sessions, and sharing is possible again. SPDK takes each
    # export once a process from 22.05 on, so another one shares it.
    call("dst_export_release", export="volume")
    wait_until(lambda: info(client)["state"] == "failed", "the former owner to hear of it")
    assert "has ended" in info(client)["last_error"]
    service.attach(lab.client(), "shared0", host="other")


@pytest.mark.watchdog(60)
def test_what_can_not_be_written_changes_nothing(lab: Lab) -> None:
    service = owned_service(lab)
    owner = checker_of(lab, service, "owner")
    owner.begin_and_flow()
    before = ownership(service.application)
    # The new file can't be written, whoever the user is.
    (lab.folder / "state.new").mkdir()
    client = lab.client()
    with pytest.raises(RpcError, match="can't be made durable"):
        service.attach(client, host="taker", exclusive=True, takeover=True, attach_timeout_ms=2000)
    with pytest.raises(RpcError, match="can't be written"):
        service.application.rpc.call("dst_export_release", export="volume")
    assert ownership(service.application) == before
    owner.wait_flow()
    (lab.folder / "state.new").rmdir()
    service.attach(client, host="taker", exclusive=True, takeover=True)
    owner.start_end()
    assert ownership(service.application)["owner"] == "taker"


@pytest.mark.watchdog(60)
def test_a_takeover_is_a_right_and_is_not_saved(lab: Lab) -> None:
    service = owned_service(lab)
    target, client = service.application, lab.client()
    target.rpc.call("dst_export_add_host", export="volume", host="plain", access="rw")
    with pytest.raises(RpcError, match="takeover"):
        target.rpc.call("dst_export_add_host", export="volume", host="reader", access="ro", takeover=True)
    with pytest.raises(RpcError, match="takeover"):
        service.attach(client, host="plain", takeover=True)
    service.attach(lab.client(), "shared0", host="other")
    for options in ({}, {"takeover": True}):
        with pytest.raises(RpcError, match="the export is shared, by 1 sessions"):
            service.attach(client, host="plain", exclusive=True, **options)
    service.attach(client, host="taker", exclusive=True, takeover=True)
    with pytest.raises(RpcError, match="does not allow it to take over"):
        service.attach(client, "remote1", host="plain", exclusive=True, takeover=True)
    saved = client.rpc.call("framework_get_config", name="bdev")
    params = next(call["params"] for call in saved if call["params"].get("name") == "remote0")
    assert params["exclusive"] is True and "takeover" not in params
    saved = target.rpc.call("framework_get_config", name="bdev")
    (created,) = [call["params"] for call in saved if call["method"] == "dst_create_export"]
    assert created["state_file"] == str(lab.folder / "state")
    hosts = created["hosts"]
    assert [(host["host"], host.get("takeover", False)) for host in hosts] == [("*", True), ("plain", False)]
