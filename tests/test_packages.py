"""The Debian package: its contents, its units, and its services in a Debian system."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Iterator

import pytest

from harness.commands import run
from harness.debian import UNITS, Package, Service, System
from harness.environment import ROOT, environment
from harness.lab import Lab
from harness.process import Process
from harness.requirements import require_tool
from harness.waiting import wait_until

# Making the Debian system takes a minute, once for each cache.
pytestmark = [pytest.mark.needs_dst, pytest.mark.watchdog(600)]

CONFFILES = {f"/etc/dst/{role}.json" for role in ("target", "client")} | {
    f"/etc/default/dst-{unit}" for unit in ("target", "client", "hugepages")
}


@pytest.fixture(scope="module")
def package(module_lab: Lab) -> Package:
    return Package.build(module_lab.folder / "package")


@pytest.fixture(scope="module")
def tree(module_lab: Lab, package: Package) -> Path:
    """The package's files in a folder."""
    folder = module_lab.folder / "tree"
    package.extract(folder)
    return folder


@pytest.fixture
def system(lab: Lab, package: Package) -> System:
    return System(lab.folder / "root", package)


def test_the_version_is_in_one_place(package: Package) -> None:
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert package.field("Version") == version
    assert run([environment().binary("dstctl"), "--version"]).split() == ["dstctl", version]
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_contents(package: Package, tree: Path) -> None:
    modes = package.modes()
    programs = {"/usr/bin/dstctl", "/usr/bin/dst-rpc", "/usr/libexec/dst/hugepages", "/usr/share/dst/rpc/rpc.py"}
    programs |= {f"/usr/libexec/dst/{name}" for name in ("spdk_tgt", "bdevperf", "bdevio")}
    assert {path for path in programs if modes.get(path) != "-rwxr-xr-x"} == set()
    shown = run([tree / "usr/bin/dstctl", "help"])
    commands = re.findall(r"^  (\w+) ", shown.split("Commands:")[1].split("Options:")[0], re.MULTILINE)
    pages = {f"/usr/share/man/man1/dstctl-{name}.1.gz" for name in commands if name != "help"}
    assert len(pages) > 10 and pages <= modes.keys()
    others = {
        "/usr/bin/dst-keygen",
        "/usr/share/dst/rpc/dst_rpc.py",
        "/usr/share/bash-completion/completions/dstctl",
        "/usr/share/zsh/vendor-completions/_dstctl",
        "/usr/share/fish/vendor_completions.d/dstctl.fish",
        "/usr/share/doc/dst/licenses.gz",
    }
    assert others <= modes.keys()
    assert package.conffiles() == CONFFILES
    for name in ("target", "client"):
        assert "subsystems" in json.loads((tree / f"etc/dst/{name}.json").read_text())
    units = "".join(path.read_text() for unit in UNITS for path in tree.rglob(unit))
    for path in set(re.findall(r"file:(/usr/share/doc/\S+)", units)):
        # debhelper compresses long documents.
        assert path in modes or f"{path}.gz" in modes, f"a unit names {path}, which is not there"


def test_lintian(package: Package) -> None:
    require_tool("lintian")
    run(["lintian", "--fail-on", "error,warning", package.path], timeout=120)


def test_units(lab: Lab, tree: Path) -> None:
    require_tool("systemd-analyze")
    root = lab.folder / "root"
    shutil.copytree(tree, root, symlinks=True)
    # What the units refer to is this machine's.
    for path in Path("/lib/systemd/system").iterdir():
        copy = root / "lib/systemd/system" / path.name
        if path.is_file() and not copy.exists():
            shutil.copy(path, copy)
    checked = run(["systemd-analyze", "verify", "--man=no", f"--root={root}", *UNITS], timeout=60)
    assert [line for line in checked.splitlines() if any(unit in line for unit in UNITS)] == []
    target, client = (Service(tree, name) for name in ("dst-target", "dst-client"))
    for option in ("-i", "-r", "--json", "-m"):
        commands = [service.command("ExecStart") for service in (target, client)]
        of_both = {command[command.index(option) + 1] for command in commands}
        assert len(of_both) == 2, f"both services have {option} {of_both}"


@pytest.mark.parametrize("size", ["", "0", "-1", "2G", "08"])
def test_a_size_of_hugepages_that_is_none(tree: Path, size: str) -> None:
    command = [tree / "usr/libexec/dst/hugepages"]
    refused = subprocess.run(
        command, env=os.environ | {"DST_HUGEPAGES_MIB": size}, capture_output=True, text=True, timeout=10, check=False
    )
    assert refused.returncode == 1 and f"DST_HUGEPAGES_MIB is '{size}'" in refused.stderr, refused


def start(lab: Lab, system: System, role: str) -> Process:
    """Starts a service as its unit says and waits until it is ready, as its unit does."""
    service = Service(system.root, f"dst-{role}")
    started = system.start(service, role, lab.folder / f"{role}.log")
    lab.adopt(started)
    socket = system.path(f"/run/dst/{role}.sock")

    def serves() -> bool:
        # The process is where the command is run only once it is the application.
        started.assert_running()
        return "spdk_tgt" in Path(f"/proc/{started.pid}/cmdline").read_text().split("\0")[0] and socket.exists()

    wait_until(serves, f"{role} to have a socket", 60)
    system.beside(started, service.command("ExecStartPost", MAINPID=str(started.pid)))
    return started


@pytest.fixture
def installed(system: System, package: Package) -> Iterator[System]:
    system.install(package)
    yield system


def test_the_default_configurations_start(lab: Lab, installed: System) -> None:
    target = start(lab, installed, "target")
    shown = installed.beside(target, ["dstctl", "-s", "/run/dst/target.sock", "status"])
    assert "127.0.0.1  4460  listening" in shown and "nothing is exported" in shown
    listeners = json.loads(installed.beside(target, ["dst-rpc", "-s", "/run/dst/target.sock", "dst_get_listeners"]))
    assert [listener["traddr"] for listener in listeners] == ["127.0.0.1"]
    assert Path(f"/proc/{target.pid}").stat().st_uid == installed.user("dst")[0] != 0
    assert target.stop(30) == 0

    client = start(lab, installed, "client")
    shown = installed.beside(client, ["dstctl", "-s", "/run/dst/client.sock", "status"])
    assert "nothing is exported or attached" in shown
    # The unit waits as long as an orderly stop takes, by docs/failures.md, with these options.
    options = json.loads(installed.beside(client, ["dst-rpc", "-s", "/run/dst/client.sock", "bdev_dst_get_options"]))
    longest_ms = options["transaction_timeout_ms"] + 3.15 * options["keep_alive_timeout_ms"]
    assert int(Service(installed.root, "dst-client").settings["TimeoutStopSec"]) * 1000 > longest_ms
    assert client.stop(30) == 0


def test_a_volume_survives_a_restart_and_an_upgrade(lab: Lab, installed: System, package: Package) -> None:
    config = installed.path("/etc/dst/target.json")
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o750
    target = start(lab, installed, "target")
    export = ["export", "vol0", "--file", "/var/lib/dst/vol0.img", "--size", "64M", "--allow", "client1=rw"]
    call = ["dstctl", "-s", "/run/dst/target.sock"]
    assert "vol0 is exported" in installed.beside(target, [*call, *export, "--save", "/etc/dst/target.json"])
    volume = installed.path("/var/lib/dst/vol0.img")
    assert volume.stat().st_uid == installed.user("dst")[0], "root's file is not the application's"
    assert target.stop(30) == 0
    saved = config.read_text()
    assert "vol0" in saved

    later = package.with_version(package.field("Version") + "+later", lab.folder)
    installed.install(later)
    assert installed.dpkg("-s", "dst").count("+later") == 1
    assert config.read_text() == saved
    target = start(lab, installed, "target")
    shown = installed.beside(target, [*call, "--json", "status"])
    assert json.loads(shown)["health"] == "ok", shown
    assert target.stop(30) == 0

    installed.dpkg("-r", "dst")
    assert not installed.path("/usr/bin/dstctl").exists() and config.read_text() == saved
    key = config.parent / "client1.psk"
    key.write_text("a key")
    installed.dpkg("-P", "dst")
    assert {path for path in CONFFILES if os.path.lexists(installed.path(path))} == set()
    # Data is nobody's to remove.
    assert key.exists() and volume.exists()


def test_a_purge_leaves_nothing(installed: System) -> None:
    installed.dpkg("-P", "dst")
    # Besides the user, by Debian's custom.
    assert [path for path in installed.root.rglob("*dst*")] == []
