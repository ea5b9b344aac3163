"""dstctl exporter: each metric has the right value after a known load, and over the end and the restart
of what is watched."""

from __future__ import annotations

import pytest

from harness.lab import Lab
from harness.prometheus import promtool, samples
from harness.spdk import TARGET_CORES, Application, Job, assert_clean
from harness.waiting import wait_until
from test_exporter import Exporter

pytestmark = pytest.mark.needs_dst

MIB = 64


def test_each_metric_has_the_right_value(lab: Lab) -> None:
    target, remote = lab.malloc_target(MIB)
    perf = lab.bdevperf(remote, Job("randrw", depth=4, seconds=2), MIB * 2**20 // 512)
    exporter = Exporter(lab, target.socket_path, perf.socket_path)
    assert_clean(perf.run())
    # The load is over, and so is the connection that carried it. Nothing changes any more.
    wait_until(lambda: target.rpc.call("dst_get_stats")["connections"] == 1, "the connection of the load to end")
    bdev, totals = perf.iostat("remote0"), target.rpc.call("dst_get_stats")
    text = exporter.text()
    assert promtool("check", "metrics", stdin=text).strip() == ""
    found = samples(text)

    def value(metric: str, **labels: str) -> float:
        matching = [v for (name, of), v in found.items() if name == metric and labels.items() <= set(of)]
        assert len(matching) == 1, f"{metric} {labels}: {matching}"
        return matching[0]

    client = {"socket": str(perf.socket_path), "bdev": "remote0"}
    export = {"socket": str(target.socket_path), "export": remote.export}
    of_target = {"socket": str(target.socket_path)}
    done = 0.0
    for operation, count in (("read", bdev["num_read_ops"]), ("write", bdev["num_write_ops"])):
        assert count > 100
        done += count
        assert value("dst_bdev_latency_seconds_count", operation=operation, **client) == count
        assert value("dst_bdev_latency_seconds_bucket", operation=operation, le="+Inf", **client) == count
        # SPDK counts the time in ticks. Both begin and end at nearly the same moments.
        spdk_s = bdev[f"{operation}_latency_ticks"] / perf.rpc.call("bdev_get_iostat")["tick_rate"]
        sum_s = value("dst_bdev_latency_seconds_sum", operation=operation, **client)
        assert 0.3 * spdk_s < sum_s < 1.1 * spdk_s, f"{operation}: {sum_s} s, SPDK: {spdk_s} s"
        assert value("dst_export_operations_total", operation=operation, **export) == count
        assert value("dst_export_backend_latency_seconds_count", operation=operation, **export) == count
        backend_s = value("dst_export_backend_latency_seconds_sum", operation=operation, **export)
        assert backend_s < sum_s, "the backend took longer than the whole"
    done += value("dst_bdev_latency_seconds_count", operation="other", **client)
    of_bdev = {
        "read_bytes_total": bdev["bytes_read"],
        "written_bytes_total": bdev["bytes_written"],
        "transactions_total": done,
        "size_bytes": MIB * 2**20,
        "connections": 1,
        "channels": 0,
        **dict.fromkeys(("errors_total", "expired_total", "transactions_outstanding", "ios_waiting"), 0),
        **dict.fromkeys(("connections_lost_total", "reconnects_total", "resent_total", "corrupt_total"), 0),
        "lost_caches_total": 0,
    }
    of_export = {
        "read_bytes_total": bdev["bytes_read"],
        "written_bytes_total": bdev["bytes_written"],
        "size_bytes": MIB * 2**20,
        "sessions": 1,
        "connections": 1,
        **dict.fromkeys(("requests_in_flight", "errors_total", "answered_from_record_total", "dropped_total"), 0),
        **dict.fromkeys(("lease_expiries_total", "reconnects_total", "corrupt_total", "violations_total"), 0),
    }
    expected = {f"dst_bdev_{name}": (client, right) for name, right in of_bdev.items()}
    expected |= {f"dst_export_{name}": (export, right) for name, right in of_export.items()}
    expected |= {
        "dst_target_connections": (of_target, 1),
        "dst_target_connections_limit": (of_target, totals["max_connections"]),
        "dst_target_sessions": (of_target, 1),
        "dst_target_requests_in_flight": (of_target, 0),
        "dst_target_violations_total": (of_target, 0),
    }
    wrong = {name: value(name, **labels) for name, (labels, right) in expected.items() if value(name, **labels) != right}
    assert not wrong, f"{wrong}, not {({name: expected[name][1] for name in wrong})}"
    for state in ("attaching", "connected", "reconnecting", "unreachable", "failed"):
        assert value("dst_bdev_state", state=state, **client) == (state == "connected"), state
    assert value("dst_export_state", state="online", **export) == 1
    assert value("dst_bdev_info", **{**client, "export": remote.export}) == 1
    assert value("dst_export_info", **{**export, "bdev": "Malloc0"}) == 1
    assert value("dst_listener_state", address=f"{remote.address}:{remote.port}", state="listening", **of_target) == 1


def test_the_end_and_the_restart_of_a_target_show(lab: Lab) -> None:
    target, remote = lab.malloc_target(MIB)
    client = lab.client()
    method, params = lab.transport.attach_call("remote0", remote)
    client.rpc.call(method, **params)
    exporter = Exporter(lab, target.socket_path, client.socket_path)
    of_target, of_bdev = {"socket": str(target.socket_path)}, {"bdev": "remote0"}
    assert exporter.value("dst_up", **of_target) == 1
    assert exporter.value("dst_restarts_total", **of_target) == 0
    target.kill()
    wait_until(
        lambda: exporter.value("dst_bdev_state", state="reconnecting", **of_bdev) == 1,
        "the exporter to say that the bdev has no connection",
    )
    assert exporter.value("dst_up", **of_target) == 0
    assert exporter.value("dst_export_sessions") is None, "what is gone is still shown"
    assert (exporter.value("dst_bdev_connections_lost_total", **of_bdev) or 0) > 0
    # Another process at the same socket.
    again = Application("spdk_tgt", "target", lab.folder, TARGET_CORES)
    lab.adopt(again)
    again.wait_ready()
    assert exporter.value("dst_up", **of_target) == 1
    assert exporter.value("dst_restarts_total", **of_target) == 1
    assert (exporter.value("dst_scrape_failures_total", **of_target) or 0) > 0
