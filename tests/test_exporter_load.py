"""dstctl exporter: each metric has the right value after a known load, and across restarts."""

from __future__ import annotations

from typing import Any

import pytest

from harness.lab import Lab
from harness.prometheus import promtool, samples
from harness.spdk import Application, Job, assert_clean
from harness.waiting import wait_until
from test_exporter import Exporter

def iostat(application: Application, bdev: str) -> dict[str, Any]:
    (stat,) = application.rpc.call("bdev_get_iostat", name=bdev)["bdevs"]
    return dict(stat)


@pytest.mark.needs_dst
def test_each_metric_has_the_right_value_and_survives_restarts(lab: Lab) -> None:
    target, remote = lab.malloc_target()
    perf = lab.bdevperf(remote, Job("randrw", depth=4, seconds=2), 131072)
    before = iostat(target, "Malloc0")
    exporter = Exporter(lab, target.socket_path, perf.socket_path)
    assert_clean(perf.run())
    # SPDK's own counters are the oracle. The load is over, so nothing changes any more.
    bdev, backend = iostat(perf, "remote0"), iostat(target, "Malloc0")
    text = exporter.text()
    found = samples(text)

    def value(name: str, **labels: str) -> float:
        matching = [v for (n, l), v in found.items() if n == name and labels.items() <= set(l)]
        assert len(matching) == 1, f"{name} {labels}: {matching}"
        return matching[0]

    at_client = {"socket": str(perf.socket_path), "bdev": "remote0"}
    at_target = {"socket": str(target.socket_path), "export": remote.export}
    reads, writes = bdev["num_read_ops"], bdev["num_write_ops"]
    assert reads > 100 and writes > 100
    for operation, count in (("read", reads), ("write", writes)):
        # The client's own examination of the bdev, before iostat counts for its user, may read, too.
        assert value("dst_bdev_latency_seconds_count", operation=operation, **at_client) == count
        assert value("dst_bdev_latency_seconds_bucket", operation=operation, le="+Inf", **at_client) == count
        total_s = value("dst_bdev_latency_seconds_sum", operation=operation, **at_client)
        assert 0 < total_s < 4 * 60, "four I/Os at a time take at most four times the time that passes"
        assert value("dst_export_operations_total", operation=operation, **at_target) == count
        assert value("dst_export_backend_latency_seconds_count", operation=operation, **at_target) == count
    expected: dict[tuple[str, str], float] = {
        ("dst_bdev_read_bytes_total", "bdev"): bdev["bytes_read"],
        ("dst_bdev_written_bytes_total", "bdev"): bdev["bytes_written"],
        ("dst_bdev_transactions_total", "bdev"): sum(
            value("dst_bdev_latency_seconds_count", operation=operation, **at_client)
            for operation in ("read", "write", "other")
        ),
        ("dst_bdev_size_bytes", "bdev"): 64 << 20,
        ("dst_bdev_errors_total", "bdev"): 0,
        ("dst_bdev_transactions_outstanding", "bdev"): 0,
        ("dst_bdev_connections_lost_total", "bdev"): 0,
        ("dst_export_read_bytes_total", "export"): backend["bytes_read"] - before["bytes_read"],
        ("dst_export_written_bytes_total", "export"): backend["bytes_written"] - before["bytes_written"],
        ("dst_export_size_bytes", "export"): 64 << 20,
        ("dst_export_sessions", "export"): 1,
        ("dst_export_requests_in_flight", "export"): 0,
        ("dst_export_violations_total", "export"): 0,
    }
    for (name, kind), right in expected.items():
        assert value(name, **(at_client if kind == "bdev" else at_target)) == right, name
    assert value("dst_bdev_state", state="connected", **at_client) == 1
    assert value("dst_bdev_state", state="reconnecting", **at_client) == 0
    assert value("dst_bdev_info", **at_client, export=remote.export) == 1
    assert value("dst_export_state", state="online", **at_target) == 1
    listener = f"{remote.address}:{remote.port}"
    assert value("dst_listener_state", address=listener, state="listening") == 1
    totals = target.rpc.call("dst_get_stats")
    of_target = {"socket": str(target.socket_path)}
    assert value("dst_target_connections", **of_target) == totals["connections"] > 0
    assert value("dst_target_connections_limit", **of_target) == totals["max_connections"]
    assert value("dst_target_sessions", **of_target) == 1

    # A target that is gone, another one in its place, and a client that is gone.
    target.kill()
    wait_until(lambda: exporter.value("dst_up", **of_target) == 0, "the exporter to say that the target is gone")
    wait_until(
        lambda: exporter.value("dst_bdev_state", state="reconnecting", **at_client) == 1,
        "the exporter to say that the bdev has no connection",
    )
    assert exporter.value("dst_export_sessions") is None, "metrics of what is gone are shown"
    assert (exporter.value("dst_restarts_total", **of_target) or 0) == 0
    again = lab.target()
    assert again.socket_path != target.socket_path or exporter.value("dst_up", **of_target) == 1
    if again.socket_path == target.socket_path:
        assert exporter.value("dst_restarts_total", **of_target) == 1
        assert (exporter.value("dst_scrape_failures_total", **of_target) or 0) > 0


@pytest.mark.needs_dst
def test_promtool_finds_nothing_wrong_with_the_metrics(lab: Lab) -> None:
    target, remote = lab.malloc_target()
    perf = lab.bdevperf(remote, Job(seconds=1), 131072)
    text = Exporter(lab, target.socket_path, perf.socket_path).text()
    assert promtool("check", "metrics", stdin=text).strip() == ""
