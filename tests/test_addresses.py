"""A target with several addresses, and targets that come back with another device."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from harness.checker import start_checker
from harness.lab import Lab
from harness.places import BlackHole, Silent
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.service import Service, attach_to, durable_backend
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

KEEP_ALIVE_MS = 1000


def test_the_next_address_is_tried(lab: Lab) -> None:
    """The client tries the addresses at the first attach, and when the target comes back at another
    one."""
    service = Service(lab, durable_backend(lab))
    checker = start_checker(lab)
    addresses = ["127.0.0.9", "127.0.0.1", "127.0.0.8"]
    attach_to(checker, service.remote, traddr=addresses, keep_alive_timeout_ms=KEEP_ALIVE_MS)

    def info() -> dict:
        return checker.rpc.call("bdev_dst_get_info", name="remote0")[0]

    assert (info()["address"], info()["traddr"]) == ("127.0.0.1", addresses)
    checker.begin_and_flow(zeroes=5, flushes=1)
    service.restart_with('"127.0.0.1"', '"127.0.0.8"')
    checker.wait_flow()
    assert info()["address"] == "127.0.0.8"
    checker.end().assert_clean()
    checker.verify().assert_clean()


def test_dead_addresses_do_not_delay_an_attach(lab: Lab) -> None:
    """Addresses at which nobody answers, not even to say no, are tried side by side with the others."""
    service = Service(lab, durable_backend(lab))
    dead = [f"127.0.0.{last}" for last in range(11, 17)]
    for address in dead:
        lab.on_end(BlackHole(address, service.remote.port).end)
    checker = start_checker(lab)
    # One after the other they would take 2 s each.
    attach_to(checker, service.remote, traddr=[*dead, "127.0.0.1"], attach_timeout_ms=10_000)
    (info,) = checker.rpc.call("bdev_dst_get_info")
    assert info["address"] == "127.0.0.1"
    # All of this was one attempt.
    assert "not reached" not in checker.text()
    checker.begin_and_flow()
    checker.end().assert_clean()


def test_a_dead_address_does_not_hide_a_refusal(lab: Lab) -> None:
    """What one address refuses for good is said when the others were tried, long before the attach
    has used up its time."""
    service = Service(lab, durable_backend(lab))
    lab.on_end(BlackHole("127.0.0.11", service.remote.port).end)
    checker = start_checker(lab)
    place = {"traddr": ["127.0.0.1", "127.0.0.11"], "trsvcid": str(service.remote.port), "host": "test-client"}
    # The harness waits for an answer for less than that.
    with pytest.raises(RpcError, match="the target refused: not allowed"):
        checker.rpc.call("bdev_dst_create", name="remote0", export="there-is-none", attach_timeout_ms=3_600_000, **place)


def test_an_address_that_is_silent_is_tried_last_next_time(lab: Lab) -> None:
    service = Service(lab, durable_backend(lab))
    proxy = Proxy(service.remote)
    lab.on_end(proxy.end)
    silent = Silent("127.0.0.9", proxy.remote.port)
    lab.on_end(silent.end)
    checker = start_checker(lab)
    attach_to(checker, proxy.remote, traddr=["127.0.0.9", "127.0.0.1"])
    assert silent.asked() == 1
    # Each reconnect goes to the one that worked, and the silent one is not asked. Where connecting takes
    # 100 ms, as on a busy machine, it is tried beside the other one and may win: such a cut shows nothing.
    shown = 0
    while shown < 3:
        before = silent.asked()
        checker.begin_and_flow()
        proxy.cut()
        checker.wait_flow()
        checker.end().assert_clean()
        (info,) = checker.rpc.call("bdev_dst_get_info")
        assert info["address"] == "127.0.0.1"
        shown += silent.asked() == before


def test_many_dead_targets_are_waited_for_together(lab: Lab) -> None:
    """A start with a saved configuration whose targets are down takes as long as with one of them."""
    service = Service(lab, durable_backend(lab))
    dead = BlackHole("127.0.0.11", service.remote.port)
    lab.on_end(dead.end)
    place = {"trsvcid": str(service.remote.port), "export": "volume", "host": "test-client"}
    client = start_checker(lab)
    count = 60
    for number in range(count):
        address = "127.0.0.1" if number == count - 1 else "127.0.0.11"
        given = {"name": f"remote{number}", "traddr": address, "wait": False, "first_attempt": False}
        assert client.rpc.call("bdev_dst_create", **given, **place) == f"remote{number}"
    began = time.monotonic()
    assert client.rpc.call("bdev_dst_wait_first_attempts") is True
    took = time.monotonic() - began
    print(f"waited {took:.1f} s for the first attempts of {count} bdevs")
    # Half a second each, one after the other, would be 30 s.
    assert took < 15
    states = [info["state"] for info in client.rpc.call("bdev_dst_get_info")]
    assert states == ["attaching"] * (count - 1) + ["connected"]


def test_a_live_bdev_is_repointed(lab: Lab) -> None:
    """The same target at another address and port, while I/O runs: nothing but latency."""
    service = Service(lab, durable_backend(lab))
    proxies = [Proxy(service.remote) for _ in range(2)]
    for proxy in proxies:
        lab.on_end(proxy.end)
    checker = start_checker(lab)
    attach_to(checker, proxies[0].remote)
    checker.begin_and_flow(zeroes=5, flushes=1)
    for proxy in (proxies[1], proxies[0]):
        place = {"traddr": [proxy.remote.address], "trsvcid": str(proxy.remote.port)}
        assert checker.rpc.call("bdev_dst_set_addresses", name="remote0", **place) is True
        (info,) = checker.rpc.call("bdev_dst_get_info")
        assert info["trsvcid"] == str(proxy.remote.port)

        def is_connected() -> bool:
            (info,) = checker.rpc.call("bdev_dst_get_info")
            return info["state"] == "connected"

        wait_until(is_connected, "the client to connect there")
        checker.wait_flow()
    # Nothing of the bdev goes through the other proxy any more.
    (info,) = checker.rpc.call("bdev_dst_get_info")
    lost = info["counters"]["connections_lost"]
    proxies[1].cut()
    checker.wait_flow()
    (info,) = checker.rpc.call("bdev_dst_get_info")
    assert info["counters"]["connections_lost"] == lost
    checker.end().assert_clean()
    checker.verify().assert_clean()
    saved = [entry["params"] for entry in checker.rpc.call("framework_get_config", name="bdev")
             if entry["method"] == "bdev_dst_create"]
    assert saved[0]["trsvcid"] == str(proxies[0].remote.port)


def test_names_of_hosts_are_resolved(lab: Lab) -> None:
    service = Service(lab, durable_backend(lab))
    checker = start_checker(lab)
    # The second one does not exist (RFC 6761), which does not matter.
    names = ["localhost", "there-is-none.invalid"]
    attach_to(checker, service.remote, traddr=names, adrfam="ipv4", keep_alive_timeout_ms=KEEP_ALIVE_MS)
    (info,) = checker.rpc.call("bdev_dst_get_info")
    assert (info["address"], info["traddr"], info["adrfam"]) == ("127.0.0.1", names, "ipv4")
    checker.begin_and_flow()
    service.restart()
    checker.wait_flow()
    checker.end().assert_clean()


def test_a_name_that_does_not_exist_is_said(lab: Lab) -> None:
    checker = start_checker(lab)
    place = {"traddr": "there-is-none.invalid", "trsvcid": "4420", "export": "volume", "host": "test-client"}
    with pytest.raises(RpcError, match="there-is-none.invalid: "):
        checker.rpc.call("bdev_dst_create", name="remote0", attach_timeout_ms=1000, **place)
    # The reactor goes on meanwhile, and so do RPCs.
    assert checker.rpc.call("bdev_dst_get_info") == []


def test_an_address_with_a_scope(lab: Lab) -> None:
    """::1 is no link-local address, but the number of an interface may be given with it all the same; 1
    is that of lo."""
    service = Service(lab, durable_backend(lab))
    try:
        service.application.rpc.call("dst_create_listener", traddr="::1", trsvcid=str(service.remote.port))
    except RpcError:
        pytest.skip("this machine has no IPv6")
    checker = start_checker(lab)
    attach_to(checker, service.remote, traddr="::1%1")
    (info,) = checker.rpc.call("bdev_dst_get_info")
    assert (info["address"], info["traddr"]) == ("::1%1", "::1%1")
    checker.begin_and_flow()
    checker.end().assert_clean()


def test_an_io_is_sent_again_so_often_and_not_more(lab: Lab) -> None:
    service = Service(lab, durable_backend(lab))
    proxy = Proxy(service.remote)
    lab.on_end(proxy.end)
    checker = start_checker(lab)
    attach_to(checker, proxy.remote, keep_alive_timeout_ms=KEEP_ALIVE_MS, max_retries=1, reconnect_delay_ms=20)
    checker.begin_and_flow(depth=32)

    def cut_and_look() -> bool:
        proxy.cut()
        return checker.findings().all_failed > 0

    wait_until(cut_and_look, "an I/O that was cut twice", 30)
    checker.wait_flow()
    checker.end().assert_no_bad_block()
    counters = checker.rpc.call("bdev_dst_get_info", name="remote0")[0]["counters"]
    # The checker does not count its own reads after failures.
    assert counters["expired"] >= checker.findings().all_failed > 0
    checker.verify().assert_clean()


def test_another_device_is_accepted_on_demand(lab: Lab) -> None:
    service = Service(lab, durable_backend(lab))
    checker = start_checker(lab)
    attach_to(checker, service.remote, keep_alive_timeout_ms=KEEP_ALIVE_MS, reconnect_delay_ms=50)
    with pytest.raises(RpcError, match="is not `failed`"):
        checker.rpc.call("bdev_dst_accept_device", name="remote0")
    (info,) = checker.rpc.call("bdev_dst_get_info")
    before = info["negotiated"]["export_uuid"]
    now = "00010203-0405-0607-0809-0a0b0c0d0e0f"
    service.restart_with(before, now)

    def has_failed() -> str | None:
        (info,) = checker.rpc.call("bdev_dst_get_info")
        return info["last_error"] if info["state"] == "failed" else None

    error = wait_until(has_failed, "the client to see another device", 30)
    assert before in error and now in error
    assert checker.rpc.call("bdev_dst_accept_device", name="remote0") == "remote0"
    wait_until(lambda: checker.rpc.call("bdev_dst_get_info")[0]["state"] == "connected", "the new device")
    (info,) = checker.rpc.call("bdev_dst_get_info")
    assert info["negotiated"]["export_uuid"] == now
    checker.begin_and_flow()
    checker.end().assert_clean()


def test_a_client_short_of_files_answers_rpcs(lab: Lab) -> None:
    service = Service(lab, durable_backend(lab))
    checker = start_checker(lab)

    def limit(more: int) -> None:
        files = len(list(Path(f"/proc/{checker.pid}/fd").iterdir()))
        resource.prlimit(checker.pid, resource.RLIMIT_NOFILE, (files + more, files + more))

    limit(32)
    with pytest.raises(RpcError, match="raise the limit of open files"):
        attach_to(checker, service.remote, attach_timeout_ms=500)
    assert checker.rpc.call("bdev_dst_get_info") == []
    try:
        limit(1000)
    except PermissionError:
        # A hard limit is raised by root alone.
        return
    attach_to(checker, service.remote)
    checker.begin_and_flow()
    checker.end().assert_clean()


def test_a_target_that_takes_less_than_before(lab: Lab) -> None:
    """I/O that the target would not accept is not sent: it waits for a target that does, and the
    reason is shown."""
    service = Service(lab, durable_backend(lab))
    checker = start_checker(lab)
    attach_to(checker, service.remote, keep_alive_timeout_ms=KEEP_ALIVE_MS, reconnect_delay_ms=50)
    checker.begin_and_flow()
    service.restart_with('"max_transfer": 1048576', '"max_transfer": 65536')

    def is_told() -> bool:
        (info,) = checker.rpc.call("bdev_dst_get_info", name="remote0")
        return info["state"] == "reconnecting" and "65536" in (info["last_error"] or "")

    wait_until(is_told, "the client to show what is wrong", 20)
    # The client tries repeatedly, and leaves no session behind.
    wait_until(lambda: service.application.text().count("ends: its client said goodbye") >= 5, "attempts to end", 20)
    assert len(service.application.rpc.call("dst_get_sessions")) <= 1
    service.restart_with('"max_transfer": 65536', '"max_transfer": 1048576')
    checker.wait_flow()
    checker.end().assert_clean()
    checker.verify().assert_clean()
