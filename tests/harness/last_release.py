"""The applications of the last release (packaging/last-release), built from the repository's history."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path

import pytest

from harness.environment import ROOT, environment

# The exit status of the script if the clone lacks the release's commit.
_NO_COMMIT = 3


@lru_cache(maxsize=None)
def _folder() -> Path | str:
    """Returns the folder of the applications, or why there is none."""
    env = dict(environment().variables)
    for needed in ("SPDK_DIR", "DST_CACHE"):
        if needed not in env:
            return f"{needed} is not set: run `make` first"
    script = ROOT / "packaging" / "last-release.sh"
    shown = subprocess.run([script], capture_output=True, text=True, check=False, timeout=1200, env=env)
    if shown.returncode == _NO_COMMIT:
        return " ".join(shown.stderr.split())
    assert shown.returncode == 0, shown.stderr
    return Path(shown.stdout.strip())


def has_last_release() -> bool:
    """Returns true if this is a clone that has the commit of the last release."""
    lines = (ROOT / "packaging" / "last-release").read_text().splitlines()
    (_, commit), = [line.split() for line in lines if not line.startswith("#")]
    command = ["git", "-C", ROOT, "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def last_release(binary: str) -> str:
    """Returns the path of an application of the last release. Skips the test if the clone does not
    have its commit."""
    folder = _folder()
    if isinstance(folder, str):
        pytest.skip(f"no last release: {folder}")
    return str(folder / binary)
