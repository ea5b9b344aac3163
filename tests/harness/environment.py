"""The settings of this run of the tests: binaries, SPDK's version and arguments, the transport.

Most come from build/env.sh, which the build writes. Variables that the caller sets override them:

DST_TEST_BIN        folder of spdk_tgt, bdevperf and bdevio, in place of build/bin
DST_TEST_TRANSPORT  dst, or nvmf: SPDK's own NVMe/TCP as a stand-in, which tests the tests
"""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Environment:
    bin: Path
    transport: str
    spdk_args: list[str]
    variables: dict[str, str]

    def binary(self, name: str) -> Path:
        path = self.bin / name
        assert path.exists(), f"{path} is not there: build it with `make`, or set DST_TEST_BIN"
        return path

    @property
    def spdk_version(self) -> tuple[int, int]:
        major, minor = self.variables.get("SPDK_VERSION", "20.07").split(".")[:2]
        return int(major), int(minor)


@lru_cache(maxsize=None)
def environment() -> Environment:
    variables = _build_variables() | dict(os.environ)
    return Environment(
        bin=Path(variables.get("DST_TEST_BIN", ROOT / "build" / "bin")).absolute(),
        transport=variables.get("DST_TEST_TRANSPORT", "dst"),
        spdk_args=shlex.split(variables.get("DST_SPDK_ARGS", "-s 512")),
        variables=variables,
    )


def _build_variables() -> dict[str, str]:
    script = ROOT / "build" / "env.sh"
    if not script.exists():
        return {}
    shown = subprocess.run(
        ["bash", "-c", '. "$1" && env -0', "bash", str(script)], check=True, capture_output=True, text=True
    ).stdout
    return dict(line.split("=", 1) for line in shown.split("\0") if line)
