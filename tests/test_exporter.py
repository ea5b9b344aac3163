"""dstctl exporter: Debian's prometheus scrapes it; the dashboard's queries and the alerts work."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from harness.environment import ROOT, environment
from harness.fake_application import FakeApplication
from harness.lab import Lab
from harness.mirror import BLOCK, MIRROR, create_aio, member_file, mirror_of, shown, wait_online
from harness.ports import free_port
from harness.prometheus import Prometheus, Samples, promtool, samples
from harness.waiting import wait_until

RULES = ROOT / "contrib" / "prometheus" / "dst.rules.yml"
DASHBOARD = ROOT / "contrib" / "grafana" / "dst.json"


class Exporter:
    def __init__(self, lab: Lab, *sockets: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        named = [word for path in sockets for word in ("-s", path)]
        command = [environment().binary("dstctl"), *named, "exporter", "--listen", self.address]
        self.process = lab.process("exporter", command)
        self.process.wait_for_text("metrics are at http://")

    def text(self) -> str:
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=20) as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            return str(answer.read().decode())

    def samples(self) -> Samples:
        return samples(self.text())

    def value(self, name: str, **labels: str) -> float | None:
        """Returns the sample with these labels among its labels; `None` if there is none."""
        found = [value for (n, l), value in self.samples().items() if n == name and labels.items() <= set(l)]
        assert len(found) <= 1, f"{name} {labels} is ambiguous"
        return found[0] if found else None


@pytest.mark.needs_dst
def test_promtool_finds_nothing_wrong_and_restarts_are_told(lab: Lab) -> None:
    path = lab.folder / "fake.sock"
    application = FakeApplication(path)
    exporter = Exporter(lab, path)
    text = exporter.text()
    assert "dst_bdev_latency_seconds_bucket{" in text
    assert promtool("check", "metrics", stdin=text).strip() == ""
    application.close()
    path.unlink()
    assert exporter.value("dst_up") == 0 and exporter.value("dst_bdev_connections") is None
    application = FakeApplication(path)
    assert exporter.value("dst_up") == 1 and exporter.value("dst_bdev_connections") == 2
    assert exporter.value("dst_restarts_total") == 1 and exporter.value("dst_scrape_failures_total") == 2
    application.close()


def test_alerts_are_right_and_their_tests_pass() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("test", "rules", RULES.with_name("dst.rules.test.yml"))


def queries() -> dict[str, str]:
    """Returns the dashboard's queries, by panel, with Grafana's variables replaced as Grafana does."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = {}
    for panel in panels:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "4s").replace("$__range", "1m")
            for variable in ("instance", "bdev", "export"):
                expression = expression.replace(f"${variable}", ".*")
            assert "$" not in expression, f"{panel['title']} has a variable that this test does not know"
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


@pytest.mark.needs_dst
def test_prometheus_scrapes_and_answers_the_dashboard(lab: Lab) -> None:
    application = FakeApplication(lab.folder / "fake.sock")
    exporter = Exporter(lab, lab.folder / "fake.sock")
    prometheus = Prometheus(lab, exporter.address, RULES)
    for panel, expression in queries().items():
        wait_until(lambda: prometheus.query(expression), f"series for {panel}: {expression}", timeout=30)

    def iops() -> float:
        found = prometheus.query("sum(rate(dst_bdev_latency_seconds_count[4s]))")
        return float(found[0]["value"][1]) if found else 0.0

    # 1000 a second, give or take what a loaded machine and a window of four scrapes make of it.
    wait_until(lambda: 500 < iops() < 2000, "the rate of I/O")
    # Every metric that the exporter shows is stored, and every metric that an alert names is shown.
    names = set(prometheus.api("label/__name__/values"))
    shown = {name for name, _ in exporter.samples()}
    assert shown <= names, shown - names
    (group,) = prometheus.api("rules")["groups"]
    assert all(rule["health"] in ("ok", "unknown") for rule in group["rules"]), group
    application.close()
    wait_until(
        lambda: any(alert["labels"]["alertname"] == "DstDown" for alert in prometheus.api("alerts")["alerts"]),
        "an alert that the target is down",
    )


@pytest.mark.needs_dst
def test_a_mirror_that_loses_a_member_is_scraped(lab: Lab) -> None:
    application = lab.target()
    exporter = Exporter(lab, application.socket_path)
    assert not any(name.startswith("dst_mirror") for name, _ in exporter.samples())
    mirror_of(lab, application, verify_rate_mib=0)

    def of_mirror(name: str, **labels: str) -> float | None:
        return exporter.value(f"dst_mirror_{name}", mirror=MIRROR, **labels)

    assert of_mirror("state", state="online") == 1 and of_mirror("state", state="degraded") == 0
    assert (of_mirror("members"), of_mirror("members_in_sync"), of_mirror("departures_total")) == (2, 2, 0)
    assert (of_mirror("witnesses"), of_mirror("witnesses_current")) == (0, 0)
    application.rpc.call("bdev_aio_delete", name="Member1")
    assert of_mirror("state", state="online") == 0 and of_mirror("state", state="degraded") == 1
    assert (of_mirror("members"), of_mirror("members_in_sync"), of_mirror("departures_total")) == (2, 1, 1)
    assert of_mirror("member_state", member="Member1", place="1", state="missing") == 1
    assert of_mirror("member_state", member="Member0", place="0", state="in_sync") == 1
    promtool("check", "metrics", stdin=exporter.text())
    create_aio(application, lab, "Member1")
    wait_online(application)
    assert of_mirror("member_state", member="Member1", state="in_sync") == 1
    assert of_mirror("member_behind_bytes", member="Member1") == 0
    assert of_mirror("unrepaired_bytes") == 0
    with open(member_file(lab, "Member1"), "r+b") as file:
        file.seek(1000 * BLOCK)
        file.write(b"\xa5" * BLOCK)
    application.rpc.call("bdev_dst_mirror_verify", name=MIRROR)
    wait_until(lambda: shown(application)["verification"]["state"] == "done", "the members to be compared")
    assert of_mirror("unrepaired_bytes") == BLOCK
    application.rpc.call("bdev_dst_mirror_delete", name=MIRROR)
    assert not any(name.startswith("dst_mirror") for name, _ in exporter.samples())


@pytest.mark.needs_dst
def test_whoever_scrapes_gets_an_answer_or_an_error(lab: Lab) -> None:
    exporter = Exporter(lab, lab.folder / "nobody.sock", lab.folder / "nobody2.sock")
    found = exporter.samples()
    assert sum(name == "dst_up" and value == 0 for (name, _), value in found.items()) == 2
    for path, method, code in (("/x", "GET", 404), ("/metrics", "POST", 405)):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(urllib.request.Request(f"http://{exporter.address}{path}", method=method), timeout=20)
        assert error.value.code == code
    host, port = exporter.address.split(":")
    for garbage in (b"\x00\xff" * 20000, b"GET " + b"/" * 100_000, b""):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            try:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
            except OSError:
                pass  # It was cut off, which is an answer.
    assert exporter.samples().keys() == found.keys()
    exporter.process.assert_running()
    dstctl = environment().binary("dstctl")
    taken = subprocess.run([dstctl, "exporter", "--listen", exporter.address], capture_output=True, timeout=20)
    assert taken.returncode == 1 and b"can't listen on" in taken.stderr, taken
    several = subprocess.run([dstctl, "-s", "a", "-s", "b", "status"], capture_output=True, timeout=20)
    assert several.returncode == 2 and b"takes several sockets" in several.stderr, several
