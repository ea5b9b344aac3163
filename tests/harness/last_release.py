"""The applications of the last release (packaging/last-release), built from the repository's history."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

from harness.environment import ROOT, environment

# The exit status of the script if the clone lacks the release's commit.
_NO_COMMIT = 3

# How long the build may take, s: it takes a minute and a half on a quiet machine.
_LIMIT_S = 1200


@dataclass(frozen=True)
class _Missing:
    """Why there are no such applications, and whether that is a failure."""

    why: str
    is_failure: bool


@lru_cache(maxsize=None)
def _folder() -> Path | _Missing:
    """Returns the folder of the applications. A build that has failed is not repeated."""
    env = dict(environment().variables)
    for needed in ("SPDK_DIR", "DST_CACHE"):
        if needed not in env:
            return _Missing(f"{needed} is not set: run `make` first", is_failure=False)
    script = ROOT / "packaging" / "last-release.sh"
    process = subprocess.Popen([script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        out, err = process.communicate(timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        return _Missing(f"{script} has not ended in {_LIMIT_S} s", is_failure=True)
    finally:
        if process.poll() is None:
            # The script then ends what it has started.
            process.terminate()
            process.communicate()
    if process.returncode != 0:
        return _Missing(" ".join(err.split()), is_failure=process.returncode != _NO_COMMIT)
    return Path(out.strip())


def has_last_release() -> bool:
    """Returns true if this is a clone that has the commit of the last release."""
    git = shutil.which("git")
    if git is None:
        return False
    lines = (ROOT / "packaging" / "last-release").read_text().splitlines()
    ((_, commit),) = [line.split() for line in lines if not line.startswith("#")]
    command = [git, "-C", ROOT, "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def last_release(binary: str) -> str:
    """Returns the path of an application of the last release. Skips the test if the clone does not
    have its commit."""
    folder = _folder()
    if isinstance(folder, _Missing):
        assert not folder.is_failure, folder.why
        pytest.skip(f"no last release: {folder.why}")
    return str(folder / binary)
