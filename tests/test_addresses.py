"""A target with several addresses, and targets that come back with another device."""

from __future__ import annotations

import pytest

from harness.checker import start_checker
from harness.lab import Lab
from harness.proxy import Proxy
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
