"""dstctl against running applications: one command on each side, status, watch, a saved
configuration."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness.environment import environment
from harness.lab import Lab
from harness.mirror import create_aio, mirror_of, wait_online
from harness.ports import free_port
from harness.requirements import require_tool
from harness.spdk import Application, Job
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

OK, WARNING, CRITICAL, UNKNOWN = range(4)


def dstctl(application: Application, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [environment().binary("dstctl"), "-s", application.socket_path, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def done(application: Application, *words: str | Path) -> str:
    result = dstctl(application, *words)
    assert result.returncode == 0, f"dstctl {words}: {result}"
    return result.stdout


def health(application: Application) -> tuple[int, str]:
    result = dstctl(application, "status")
    return result.returncode, result.stdout


def test_one_command_on_each_side_and_a_restart(lab: Lab) -> None:
    target, client = lab.target(), lab.client()
    address, volume, saved = f"127.0.0.1:{free_port()}", lab.folder / "volume.img", lab.folder / "saved.json"
    key = lab.folder / "key"
    done(target, "keygen", key)
    export = ["export", "vol0", "--file", volume, "--size", "64M", "--listen", address, "--allow", "me=rw", "--key", key]
    assert "vol0 is exported" in done(target, *export, "--save", saved)
    assert volume.stat().st_size == 64 << 20
    assert "vol0 is attached (64.0 MiB)" in done(client, "attach", f"{address}/vol0", "--host", "me", "--key", key)
    (info,) = client.rpc.call("bdev_dst_get_info", name="vol0")
    assert info["negotiated"]["cipher"] == "aes-256-gcm"
    for application in (target, client):
        code, text = health(application)
        assert code == OK and text.startswith("OK\n"), text
    assert json.loads(done(target, "--json", "status"))["sessions"] == 1

    done(target, "bundle", lab.folder / "bundle.json", "--log", lab.folder / "target.log")
    bundle = (lab.folder / "bundle.json").read_text()
    assert json.loads(bundle)["calls"]["dst_get_exports"][0]["name"] == "vol0"
    assert str(key) in bundle and key.read_text().split()[1] not in bundle, "the key is in the bundle"

    watch = lab.process("watch", [environment().binary("dstctl"), "-s", client.socket_path, "watch", "--interval", "100"])
    watch.wait_for_text("bdev vol0: connected")
    target.kill()
    watch.wait_for_text("bdev vol0: connected -> reconnecting")
    code, text = health(client)
    assert code == CRITICAL and text.startswith("CRITICAL: bdev vol0 has lacked a connection for"), text
    assert dstctl(target, "status").returncode == UNKNOWN

    target = lab.target(config=saved)
    wait_until(lambda: health(client)[0] == OK, "the client to be connected again")
    watch.wait_for_text("-> connected")
    assert "is detached" in done(client, "detach", "vol0")
    watch.wait_for_text("bdev vol0: gone")
    # Its sessions would live through a change of what it may do.
    assert "(ro)" in done(target, "allow", "vol0", "me", "--key", key)
    assert "no longer" in done(target, "deny", "vol0", "me")
    code, text = health(target)
    assert code == WARNING and "export vol0 can't be attached by anybody" in text
    done(target, "unexport", "vol0")
    assert target.rpc.call("dst_get_exports") == []


def test_nothing_is_half_done(lab: Lab) -> None:
    target = lab.target()
    volume = lab.folder / "volume.img"
    failed = dstctl(target, "export", "vol0", "--file", volume, "--size", "1M", "--listen", "nonsense:1")
    assert failed.returncode == 1 and "dst_create_listener" in failed.stderr, failed
    assert target.rpc.call("dst_get_exports") == [] and target.bdev("vol0") is None and not volume.exists()
    refused = dstctl(target, "allow", "vol0", "me")
    assert refused.returncode == 1 and "vol0" in refused.stderr, refused
    nobody = subprocess.run(
        [environment().binary("dstctl"), "-s", lab.folder / "nobody.sock", "status"], capture_output=True, timeout=10
    )
    assert nobody.returncode == UNKNOWN and b"no application answers at" in nobody.stderr


def test_a_mirror_that_lacks_a_member_is_shown(lab: Lab) -> None:
    application = lab.target()
    mirror_of(lab, application)
    code, text = health(application)
    assert code == OK and text.startswith("OK\n") and "2 of 2" in text, text
    watch = lab.process(
        "watch", [environment().binary("dstctl"), "-s", application.socket_path, "watch", "--interval", "100"]
    )
    watch.wait_for_text("mirror Mirror0: online")
    application.rpc.call("bdev_aio_delete", name="Member1")
    watch.wait_for_text("mirror Mirror0: online -> degraded")
    watch.wait_for_text("member Member1 of mirror Mirror0: in_sync -> missing (the bdev was removed)")
    code, text = health(application)
    assert code == WARNING and text.startswith("WARNING: mirror Mirror0 lacks its member Member1,"), text
    assert "bring its bdev back (now: there is no bdev with the name or UUID `Member1`)" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["Mirror0", "55.9", "MiB", "degraded", "1", "of", "2", "-"] in rows, text
    assert any(row[:3] == ["Member1", "Mirror0", "missing"] for row in rows), text
    assert json.loads(dstctl(application, "--json", "status").stdout)["mirrors"] == 1
    done(application, "bundle", lab.folder / "bundle.json")
    calls = json.loads((lab.folder / "bundle.json").read_text())["calls"]
    assert calls["bdev_dst_mirror_get_info"][0]["state"] == "degraded"
    create_aio(application, lab, "Member1")
    wait_online(application)
    assert health(application)[0] == OK


class Terminal:
    """A terminal of 80 columns, without colours, that one program has."""

    def __init__(self, lab: Lab, command: list[str | Path]) -> None:
        self._tmux: list[str | Path] = ["tmux", "-S", lab.folder / "tmux.sock", "-f", "/dev/null"]
        env = os.environ | {"TERM": "vt100", "NO_COLOR": "1"}
        start = [*self._tmux, "new-session", "-d", "-x", "80", "-y", "24", "-s", "t", *map(str, command)]
        subprocess.run(start, env=env, timeout=10, check=True)
        lab.on_end(lambda: subprocess.run([*self._tmux, "kill-server"], capture_output=True, timeout=10))

    def press(self, keys: str) -> None:
        subprocess.run([*self._tmux, "send-keys", "-t", "t", keys], timeout=10, check=True)

    def text(self) -> str:
        shown = subprocess.run([*self._tmux, "capture-pane", "-p", "-t", "t"], capture_output=True, text=True, timeout=10)
        return shown.stdout if shown.returncode == 0 else "(ended)"

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.text(), f"{text!r} on the screen of dstctl top, which is\n{self.text()}")


def test_top_shows_what_happens(lab: Lab) -> None:
    require_tool("tmux")
    target, remote = lab.malloc_target()
    perf = lab.bdevperf(remote, Job("randrw", depth=4, seconds=60), 131072)
    dst = environment().binary("dstctl")
    perf.begin()
    screen = Terminal(lab, [dst, "-s", perf.socket_path, "top", "--interval", "200"])
    screen.wait_for("remote0")

    def iops() -> int:
        rows = [line.split() for line in screen.text().splitlines() if line.startswith("remote0")]
        return int(rows[0][2]) if rows else 0

    wait_until(lambda: iops() > 0, "rates on the screen")
    assert all(len(line) <= 80 for line in screen.text().splitlines())
    screen.press("/")
    screen.press("nothing")
    wait_until(lambda: "remote0" not in screen.text(), "the filter to leave nothing")
    screen.press("Escape")
    screen.wait_for("remote0")
    target.kill()
    screen.wait_for("CRITICAL: bdev remote0 has lacked a connection for")
    screen.wait_for("reconnecting")
    screen.press("q")
    screen.wait_for("(ended)")
    # Its I/O waits for the target.
    perf.kill()


def test_top_shows_a_mirror_that_lacks_a_member(lab: Lab) -> None:
    require_tool("tmux")
    application = lab.target()
    mirror_of(lab, application)
    dst = environment().binary("dstctl")
    screen = Terminal(lab, [dst, "-s", application.socket_path, "top", "--interval", "200"])

    def row() -> list[str]:
        rows = [line.split() for line in screen.text().splitlines() if line.startswith("Mirror0")]
        return rows[0] if rows else []

    wait_until(lambda: row()[1:2] == ["online"] and row()[-1:] == ["2/2"], "the mirror on the screen")
    application.rpc.call("bdev_aio_delete", name="Member1")
    wait_until(lambda: row()[1:2] == ["degraded"] and row()[-1:] == ["1/2"], "the loss on the screen")
    screen.wait_for("WARNING: mirror Mirror0 lacks its member Member1,")
    assert all(len(line) <= 80 for line in screen.text().splitlines())
    screen.press("q")
    screen.wait_for("(ended)")
