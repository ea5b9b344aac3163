"""DST's tracepoints in SPDK's trace, and the script that puts two traces together."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.checker import start_checker
from harness.environment import ROOT, environment
from harness.lab import Lab
from harness.rpc import RpcError
from harness.service import Service, attach_to, durable_backend
from harness.spdk import Application

SCRIPT = ROOT / "contrib" / "trace" / "dst-timeline"


def load_script() -> ModuleType:
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("dst_timeline", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("dst_timeline", loader))  # type: ignore[arg-type]
    sys.modules["dst_timeline"] = module
    loader.exec_module(module)
    return module


timeline = load_script()


def spdk_trace() -> Path:
    return Path(environment().variables["SPDK_DIR"]) / "build" / "bin" / "spdk_trace"


def save_trace(application: Application, folder: Path, name: str) -> Path:
    """Writes an application's trace to a file that the script reads."""
    (memory,) = Path("/dev/shm").glob(f"*_trace.pid{application.pid}")
    saved = folder / f"{name}.trace"
    if environment().spdk_version < (21, 1):
        saved.write_bytes(memory.read_bytes())
    else:
        saved.write_bytes(subprocess.run([spdk_trace(), "-j", "-f", memory], check=True, capture_output=True).stdout)
    return saved


def trace(application: Application) -> None:
    application.rpc.call("trace_enable_tpoint_group", name="dst")


def whole(life: Any) -> bool:
    return all(life.at(point) is not None for point in timeline.TEXT if point != timeline.RESEND)


def points(life: Any) -> list[str]:
    return [record.point for record in life.records]


# A trace has 135 MB, of which each of six copies is read.
@pytest.mark.watchdog(300)
@pytest.mark.needs_dst
def test_a_transaction_is_followed_through_both_sides_and_over_a_restart(lab: Lab) -> None:
    service = Service(lab, durable_backend(lab))
    checker = start_checker(lab)
    attach_to(checker, service.remote)
    # The trace has room for the last 32,768 records of a core: 4 s of this.
    checker.rpc.call("bdev_set_qos_limit", name="remote0", rw_ios_per_sec=2000)
    checker.begin_and_flow(flushes=1)
    assert timeline.read(save_trace(checker, lab.folder, "off")) == [], "it is recorded what nobody asked for"
    with pytest.raises(RpcError):
        checker.rpc.call("trace_enable_tpoint_group", name="dstx")
    for application in (checker, service.application):
        trace(application)
    checker.wait_flow(500)
    client, target = (save_trace(app, lab.folder, name) for app, name in ((checker, "c1"), (service.application, "t1")))
    records = timeline.read(client) + timeline.read(target)
    lives = timeline.lives(sorted(records, key=lambda record: record.time_s)).values()
    complete = [life for life in lives if whole(life)]
    assert len(complete) > 100, f"{len(complete)} transactions of {len(lives)} were followed through both sides"
    order = [leg[0] for leg in timeline.LEGS] + [timeline.DONE]
    for life in complete:
        assert points(life) == order, points(life)
        submitted, received = (life.records[order.index(point)] for point in (timeline.SUBMIT, timeline.RECEIVE))
        assert (submitted.size, submitted.argument) == (received.size, received.argument), "it is another request"
    assert {life.records[0].argument >> 56 for life in complete} >= {1, 2}, "reads and writes"
    # The target is restarted: what was outstanding is sent again in another session.
    service.restart()
    trace(service.application)
    checker.wait_flow(100)
    client, target = (save_trace(app, lab.folder, name) for app, name in ((checker, "c2"), (service.application, "t2")))
    records = sorted(timeline.read(client) + timeline.read(target), key=lambda record: record.time_s)
    again = [life for life in timeline.lives(records).values() if timeline.RESEND in points(life)]
    assert again, "nothing was outstanding when the target was killed"
    for life in again:
        of_client = [point for point in points(life) if point.startswith("DST_CLIENT")]
        begun = [timeline.SUBMIT] if timeline.SUBMIT in of_client else []
        first = [timeline.SEND] if of_client.count(timeline.SEND) == 2 else []
        assert of_client == [*begun, *first, timeline.RESEND, timeline.SEND, timeline.DONE], of_client
        (resent,) = [record for record in life.records if record.point == timeline.RESEND]
        assert resent.argument != resent.transaction, "the session is another one"
    assert any(points(life)[:2] == [timeline.SUBMIT, timeline.SEND] for life in again)
    shown = subprocess.run([SCRIPT, client, target], capture_output=True, text=True, check=True).stdout
    assert "to be sent again: was " in shown and "submitted to the backend: " in shown and "answer sent → completed" in shown
    summary = subprocess.run([SCRIPT, "--summary", client, target], capture_output=True, text=True, check=True).stdout
    assert shown.endswith(summary) and f", {len(again)} sent again" in summary
    if spdk_trace().exists() and environment().spdk_version < (21, 1):
        text = subprocess.run([spdk_trace(), "-f", client], capture_output=True, text=True, check=True).stdout
        assert "DST_CLIENT_SUBMIT" in text and "DST_CLIENT_DONE" in text
    checker.rpc.call("trace_disable_tpoint_group", name="dst")
    checker.end().assert_clean()


def entry(point: int, tsc: int, value: int, argument: int = 0) -> dict[str, Any]:
    return {"lcore": 0, "tpoint": point, "tsc": tsc, "object": {"value": value}, "args": [argument]}


def as_json(rate: int, entries: list[dict[str, Any]]) -> str:
    names = enumerate(timeline.TEXT, 1)
    return json.dumps({"tsc_rate": rate, "tpoints": [{"id": i, "name": name} for i, name in names], "entries": entries})


def test_two_machines_have_two_clocks(tmp_path: Path) -> None:
    """One whole transaction; the target's clock is 100 s ahead and of another rate."""
    numbers = {name: number for number, name in enumerate(timeline.TEXT, 1)}
    at_client = [(timeline.SUBMIT, 1000), (timeline.SEND, 2000), (timeline.DONE, 9000)]
    at_target = [(timeline.RECEIVE, 4000), (timeline.BACKEND, 5000), (timeline.BACKEND_DONE, 6000), (timeline.ANSWER, 7000)]
    client, target = tmp_path / "client", tmp_path / "target"
    client.write_text(as_json(10**6, [entry(numbers[name], us, 5) for name, us in at_client]))
    target.write_text(as_json(10**7, [entry(numbers[name], 10**9 + 10 * us, 5) for name, us in at_target]))
    added, error_s = timeline.offset_s(timeline.read(client), timeline.read(target))
    assert added == pytest.approx(-100.0, abs=1e-9) and error_s == pytest.approx(0.002)
    shown = subprocess.run([SCRIPT, client, target], capture_output=True, text=True, check=True).stdout.splitlines()
    assert shown[0] == "The target's clock was moved by -100000000.0 µs, give or take 2000.0."
    events = [line.split("  ")[-1] for line in shown[2:9]]
    assert [event.split(":")[0] for event in events] == [timeline.TEXT[leg[0]] for leg in timeline.LEGS] + ["completed"]
    assert "1 transactions, 1 of them from submission to completion, 0 sent again" in shown


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "it is too short"),
        ("\0" * 50000, "its layout is not that of SPDK 20.07"),
        ("{}", "it is not what `spdk_trace -j` prints"),
        ('{"tsc_rate": 0, "tpoints": [{"id": 1, "name": "DST_CLIENT_SUBMIT"}], "entries": [{"tpoint": 1}]}', "not what"),
        (json.dumps({"tsc_rate": 1, "tpoints": [], "entries": []}), "no transaction is in both traces"),
    ],
    ids=["empty", "zeros", "other-json", "no-objects", "no-entries"],
)
def test_what_is_no_trace_is_said(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    done = subprocess.run([SCRIPT, path, path], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and why in done.stderr and "Traceback" not in done.stderr, done
