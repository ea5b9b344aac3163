"""A bdev whose threads are spread over the addresses of its target."""

from __future__ import annotations

from typing import Any

import pytest

from harness.checker import Checker, start_checker
from harness.lab import Lab
from harness.places import SmallOnly
from harness.proxy import Proxy
from harness.service import Service, attach_to, durable_backend
from harness.transport import Remote
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

KEEP_ALIVE_MS = 1000

# Two threads have a channel each, of which the second prefers the second address.
REACTORS = 2

FIRST, SECOND, BEHIND = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def info(checker: Checker) -> dict[str, Any]:
    (found,) = checker.rpc.call("bdev_dst_get_info", name="remote0")
    return found


def paths(checker: Checker) -> dict[str, dict[str, Any]]:
    """Returns what is known of each address."""
    return {path["address"]: path for path in info(checker)["paths"]}


def connections(checker: Checker) -> list[int]:
    return [path["connections"] for path in paths(checker).values()]


def serve_twice(lab: Lab, options: dict[str, Any] | None = None) -> tuple[Service, tuple[str, int]]:
    """Returns a target that listens at the first address and at another one, and where to forward
    from to the latter."""
    service = Service(lab, durable_backend(lab), options=options)
    service.application.rpc.call("dst_create_listener", traddr=BEHIND, trsvcid=str(service.remote.port))
    return service, (SECOND, service.remote.port)


def test_threads_use_both_addresses_and_do_without_one(lab: Lab) -> None:
    """One path falls silent, I/O goes on over the other one, and comes back."""
    service, at = serve_twice(lab)
    proxy = Proxy(Remote(BEHIND, service.remote.port, "volume"), at=at)
    lab.on_end(proxy.end)
    checker = start_checker(lab, reactors=REACTORS)
    attach_to(
        checker,
        service.remote,
        traddr=[FIRST, SECOND],
        path_policy="spread",
        keep_alive_timeout_ms=KEEP_ALIVE_MS,
        reconnect_delay_ms=50,
    )
    assert info(checker)["path_policy"] == "spread"
    checker.begin(zeroes=5, compares=5, flushes=1)
    # The control connection and a channel, and the other channel.
    wait_until(lambda: connections(checker) == [2, 1], "both addresses to be used")
    assert [path["state"] for path in paths(checker).values()] == ["up", "up"]
    checker.wait_flow()
    before = proxy.forwarded(proxy.whole_links()[-1], "target")
    assert before > 0

    proxy.hold_new("client", "target")
    proxy.hold()
    wait_until(lambda: connections(checker) == [3, 0], "all to use the first address", 30)
    checker.wait_flow()
    second = paths(checker)[SECOND]
    assert second["connections_lost"] >= 1 and second["last_error"], second
    assert paths(checker)[FIRST]["state"] == "up"

    proxy.hold_new()
    proxy.cut()
    wait_until(lambda: connections(checker) == [2, 1], "both addresses to be used again", 90)
    checker.wait_flow()
    wait_until(lambda: paths(checker)[SECOND]["last_error"] is None, "the path to be well")
    checker.end().assert_clean()
    checker.verify().assert_clean()
    saved = [entry["params"] for entry in checker.rpc.call("framework_get_config", name="bdev")
             if entry["method"] == "bdev_dst_create"]
    assert saved[0]["path_policy"] == "spread"


def test_another_instance_at_one_of_the_addresses_is_not_used(lab: Lab) -> None:
    """It is another target, with an export of the same name: whose session is not there."""
    service = Service(lab, durable_backend(lab))
    other = lab.target()
    call = other.rpc.call
    call("bdev_malloc_create", name="Malloc0", num_blocks=64 << 8, block_size=4096)
    call("dst_create_export", name="volume", bdev_name="Malloc0")
    call("dst_export_add_host", export="volume", host="*", access="rw")
    call("dst_create_listener", traddr=SECOND, trsvcid=str(service.remote.port))
    checker = start_checker(lab, reactors=REACTORS)
    attach_to(checker, service.remote, traddr=[FIRST, SECOND], path_policy="spread", reconnect_delay_ms=50)
    checker.begin(zeroes=5)
    wait_until(lambda: paths(checker)[SECOND]["state"] == "other_instance", "the other target to be asked", 30)
    wait_until(lambda: connections(checker) == [3, 0], "all to use the first address", 30)
    checker.wait_flow()
    checker.end().assert_clean()
    found = info(checker)
    # The channel that asked the other target has left the first one for that.
    assert found["state"] == "connected" and found["paths"][0]["connections_lost"] == 0, found
    assert call("dst_get_sessions") == []
    checker.verify().assert_clean()


def test_a_path_that_loses_large_packets_is_told_from_one_that_does_not(lab: Lab) -> None:
    service, at = serve_twice(lab)
    path = SmallOnly(BEHIND, service.remote.port, at)
    lab.on_end(path.end)
    checker = start_checker(lab, reactors=REACTORS)
    attach_to(
        checker,
        service.remote,
        traddr=[FIRST, SECOND],
        path_policy="spread",
        keep_alive_timeout_ms=400,
        reconnect_delay_ms=20,
    )
    checker.begin(depth=4)
    wait_until(lambda: paths(checker)[SECOND]["state"] == "suspect", "the path to be suspected", 90)
    first, second = paths(checker).values()
    assert "MTU" in second["last_error"] and f"small frames to {SECOND}" in second["last_error"]
    assert first["state"] == "up" and first["last_error"] is None
    wait_until(lambda: connections(checker) == [3, 0], "all to use the first address", 30)
    checker.wait_flow()
    checker.end().assert_clean()
