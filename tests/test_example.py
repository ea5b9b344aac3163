"""examples/stamp, an example application: built outside the checkout as its Makefile says, and
run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.commands import run
from harness.environment import ROOT, environment
from harness.lab import Lab
from harness.spdk import CLIENT_CORES

pytestmark = pytest.mark.needs_dst

FOLDER = ROOT / "examples" / "stamp"


def tree() -> Path:
    return Path(environment().variables["SPDK_DIR"])


def built(folder: Path, *variables: str) -> Path:
    """Builds the application from a copy of the example with `variables` for make."""
    copy = folder / "stamp"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("stamp"))
    # This may run inside `make test`, whose settings must not reach the example.
    clean = ["env", "-u", "SPDK_DIR", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "-u", "MFLAGS"]
    library = environment().variables["DST_BUILD"] + "/lib/libspdk_dst.a"
    output = run([*clean, "make", "-C", copy, f"DST_LIB={library}", *variables], timeout=120)
    assert "warning" not in output, output
    return copy / "stamp"


def use(lab: Lab, application: Path) -> None:
    """The application writes the first block of a remote bdev, which comes from its JSON
    configuration."""
    env = environment()
    if env.variables.get("DST_NO_HUGE") == "1":
        pytest.skip(f"there are no hugepages, and an application of SPDK {env.variables['SPDK_VERSION']} needs them")
    target, remote = lab.malloc_target(16)
    method, params = lab.transport.attach_call("remote0", remote)
    config = {"subsystems": [{"subsystem": "bdev", "config": [{"method": method, "params": params}]}]}
    file = lab.folder / "stamp.json"
    file.write_text(json.dumps(config))
    command: list[str | os.PathLike[str]] = [application, "--json", file, "-b", "remote0", "-m", CLIENT_CORES]
    output = run([*command, "-r", lab.folder / "stamp.sock", *env.spdk_args], timeout=60)
    assert "remote0: block 0, 512 bytes, written and read back" in output, output
    assert target.io_count("Malloc0") >= 2


def test_with_a_tree(lab: Lab) -> None:
    use(lab, built(lab.folder, f"SPDK_DIR={tree()}"))


def test_with_shared_libraries(lab: Lab) -> None:
    if not any((tree() / "build" / "lib").glob("libspdk_event.so*")):
        pytest.skip(f"SPDK in {tree()} was not configured --with-shared")
    application = built(lab.folder, f"SPDK_DIR={tree()}", "LINK=shared")
    linked = subprocess.run(["ldd", application], capture_output=True, text=True, check=True).stdout
    assert "libspdk_bdev.so" in linked
    use(lab, application)


def test_with_pkg_config_alone(lab: Lab) -> None:
    """Only pkg-config's path gives the location of SPDK, as for an installed SPDK."""
    folders = [tree() / "build" / "lib" / "pkgconfig", tree() / "dpdk" / "build" / "lib" / "pkgconfig"]
    if not folders[0].exists():
        pytest.skip(f"SPDK {environment().variables['SPDK_VERSION']} has no pkg-config files")
    path = ":".join(str(folder) for folder in folders)
    use(lab, built(lab.folder, f"PKG_CONFIG_PATH={path}"))


def test_without_spdk(tmp_path: Path) -> None:
    """Without SPDK, make says what to set."""
    copy = tmp_path / "stamp"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("stamp"))
    variables = {"PATH": os.environ["PATH"], "PKG_CONFIG_LIBDIR": str(tmp_path)}
    ran = subprocess.run(["make", "-C", copy], env=variables, capture_output=True, text=True, timeout=30)
    assert ran.returncode != 0 and "set SPDK_DIR to a built SPDK tree" in ran.stderr
