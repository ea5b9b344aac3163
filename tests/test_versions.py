"""Two versions at once: the last release and this tree, each as client and as target, under verified
I/O, over restarts of the target and over a change of its version."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.checker import start_checker
from harness.environment import ROOT, environment
from harness.keys import service_with
from harness.lab import Lab
from harness.last_release import has_last_release, last_release
from harness.process import Process
from harness.service import durable_backend

# The first test builds the last release, which takes minutes on a busy machine.
pytestmark = [pytest.mark.needs_dst, pytest.mark.watchdog(1500)]

THIS, LAST = "this tree", "last release"


def binary(version: str, name: str) -> str:
    return last_release(name) if version == LAST else str(environment().binary(name))


def assert_runs(process: Process, path: str) -> None:
    """Asserts that the process is of the version that the test believes."""
    assert os.readlink(f"/proc/{process.pid}/exe") == os.path.realpath(path)


@pytest.mark.parametrize("cipher", [None, "aes-256-gcm"], ids=lambda cipher: cipher or "plain")
@pytest.mark.parametrize(
    "client, targets",
    [(LAST, (THIS, THIS, LAST, THIS)), (THIS, (LAST, LAST, THIS, LAST))],
    ids=["client-of-last-release", "target-of-last-release"],
)
def test_versions_work_together(lab: Lab, client: str, targets: tuple[str, ...], cipher: str | None) -> None:
    first, *others = targets
    backend = replace(durable_backend(lab), binary=binary(first, "spdk_tgt"))
    service = service_with(lab, backend, cipher)
    assert_runs(service.application, backend.binary)
    checker = start_checker(lab, binary=binary(client, "dst_check"))
    assert_runs(checker, binary(client, "dst_check"))
    service.attach(checker)
    checker.begin_and_flow(zeroes=5, flushes=1)
    for number, version in enumerate(others):
        checker.wait_flow(1000)
        if number % 2 == 0:
            service.kill()
        else:
            # As a service manager stops it, for an upgrade.
            assert service.application.stop() == 0
        service.start(binary=binary(version, "spdk_tgt"))
        assert_runs(service.application, binary(version, "spdk_tgt"))
        checker.wait_flow()
    checker.end().assert_clean()
    checker.verify().assert_clean()


def test_a_checkout_without_the_history_is_told_from_a_failure(tmp_path: Path) -> None:
    bare, stubs = tmp_path / "bare", tmp_path / "stubs"
    for name in ("packaging/last-release", "packaging/last-release.sh", "spdk/provision/say.sh"):
        (bare / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, bare / name)
    stubs.mkdir()
    (stubs / "cargo").write_text("#!/bin/sh\nexit 7\n")
    (stubs / "cargo").chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")} | {
        "DST_CACHE": str(tmp_path / "cache"),
        "SPDK_DIR": "/nowhere",
        "PATH": f"{stubs}:{os.environ['PATH']}",
        # No repository above the folder is looked for.
        "GIT_CEILING_DIRECTORIES": str(tmp_path),
    }

    def run(top: Path) -> subprocess.CompletedProcess[str]:
        script = [top / "packaging" / "last-release.sh"]
        return subprocess.run(script, capture_output=True, text=True, env=env, check=False)

    done = run(bare)
    assert done.returncode == 3 and "git fetch --unshallow" in done.stderr, done
    if has_last_release():
        done = run(ROOT)
        assert done.returncode == 1 and "failed with status 7" in done.stderr, done
