"""Debian's prometheus and promtool, and the text format of metrics."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from harness.environment import ROOT, environment
from harness.lab import Lab
from harness.ports import free_port
from harness.waiting import wait_until

# (name, its labels) -> value
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@lru_cache(maxsize=None)
def _folder() -> Path | str:
    """Returns the folder of the programs, or why there is none."""
    script = ROOT / "spdk" / "provision" / "prometheus.sh"
    env = dict(environment().variables)
    if "DST_CACHE" not in env:
        return "DST_CACHE is not set: run `make` first"
    shown = subprocess.run([script], capture_output=True, text=True, check=False, timeout=180, env=env)
    if shown.returncode != 0:
        return " ".join(shown.stderr.split())
    return Path(shown.stdout.strip())


def require_prometheus(program: str) -> Path:
    """Returns the path of `prometheus` or `promtool`."""
    folder = _folder()
    if isinstance(folder, str):
        pytest.skip(f"no {program}: {folder}")
    return folder / program


def promtool(*words: str | Path, stdin: str | None = None) -> str:
    """Runs promtool, which must find nothing wrong, and returns its output."""
    command = [require_prometheus("promtool"), *words]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"promtool {words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def samples(text: str) -> Samples:
    """Returns the samples in the text format."""
    found: Samples = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        matched = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        assert matched, f"not a sample: {line}"
        name, labels, value = matched.groups()
        key = name, frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))
        assert key not in found, f"twice: {line}"
        found[key] = float(value)
    return found


class Prometheus:
    """A server that scrapes one address each second."""

    def __init__(self, lab: Lab, scraped: str, rules: Path) -> None:
        program = require_prometheus("prometheus")
        self._port = free_port()
        config = lab.folder / "prometheus.json"
        # JSON is YAML, too.
        job = {"job_name": "dst", "static_configs": [{"targets": [scraped]}]}
        timing = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config.write_text(json.dumps({"global": timing, "rule_files": [str(rules)], "scrape_configs": [job]}))
        command = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={lab.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self.process = lab.process("prometheus", command)
        wait_until(self._is_ready, "prometheus to be ready", timeout=60)

    def _is_ready(self) -> bool:
        self.process.assert_running()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def api(self, path: str, **parameters: str) -> Any:
        """Returns the data of an answer of Prometheus's API."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            shown = json.load(answer)
        assert shown["status"] == "success", shown
        return shown["data"]

    def query(self, expression: str) -> list[Any]:
        """Returns the series that an expression gives now."""
        result = self.api("query", query=expression)["result"]
        assert isinstance(result, list)
        return result
