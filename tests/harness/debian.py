"""DST's Debian package, and a Debian system in a folder to install it in."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Sequence

import pytest

from harness.commands import run
from harness.environment import ROOT, environment
from harness.process import Process
from harness.requirements import require_root, require_tool

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

UNITS = ("dst-target.service", "dst-client.service", "dst-hugepages.service")


class Package:
    """A file of dpkg's format."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def build(cls, folder: Path) -> Package:
        """Builds DST's package as `make deb` does, without the debugging symbols."""
        require_tool("dh")
        variables = environment().variables | {"DEB_BUILD_OPTIONS": "noautodbgsym"}
        command = [ROOT / "packaging" / "build-deb.sh", folder]
        built = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
        assert built.returncode == 0, built.stderr
        (path,) = built.stdout.split()
        return cls(Path(path))

    def field(self, name: str) -> str:
        return run(["dpkg-deb", "-f", self.path, name]).strip()

    def conffiles(self) -> set[str]:
        return set(run(["dpkg-deb", "-I", self.path, "conffiles"]).split())

    def modes(self) -> dict[str, str]:
        """Returns the mode of each file and link that is installed, as `ls -l` writes it."""
        lines = [line.split(maxsplit=5) for line in run(["dpkg-deb", "-c", self.path]).splitlines()]
        found = {words[5].split(" -> ")[0].removeprefix("."): words[0] for words in lines}
        return {path: mode for path, mode in found.items() if not path.endswith("/")}

    def extract(self, folder: Path) -> None:
        run(["dpkg-deb", "-x", self.path, folder])

    def with_version(self, version: str, folder: Path) -> Package:
        """Returns a package with the same content and another version."""
        run(["dpkg-deb", "-R", self.path, folder / "changed"])
        control = folder / "changed" / "DEBIAN" / "control"
        control.write_text(re.sub("^Version: .*$", f"Version: {version}", control.read_text(), flags=re.MULTILINE))
        path = folder / f"dst_{version}.deb"
        # Without compression, which takes most of the time.
        run(["dpkg-deb", "-Znone", "--root-owner-group", "-b", folder / "changed", path], timeout=60)
        return Package(path)


def _settings(text: str) -> list[tuple[str, str]]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith(("#", ";")))
    return [(key.strip(), value.strip()) for key, value in pairs]


class Service:
    """A service's unit with its drop-in, as far as these tests need it."""

    def __init__(self, root: Path, name: str) -> None:
        folders = [root / folder for folder in ("lib/systemd/system", "usr/lib/systemd/system")]
        texts = [path.read_text() for folder in folders for path in folder.glob(f"{name}.service")]
        texts += [path.read_text() for folder in folders for path in folder.glob(f"{name}.service.d/*.conf")]
        self._root = root
        self.settings = dict(_settings("\n".join(texts)))

    @cached_property
    def variables(self) -> dict[str, str]:
        """The environment, as systemd makes it from both settings."""
        text = (self._root / self.settings["EnvironmentFile"].removeprefix("/")).read_text()
        found = dict(_settings(self.settings["Environment"])) | dict(_settings(text))
        return {key: " ".join(shlex.split(value)) for key, value in found.items()}

    def command(self, setting: str, **more: str) -> list[str]:
        """Returns a command with its variables expanded: `${X}` within a word, `$X` to any number of
        words."""
        variables = self.variables | more
        words: list[str] = []
        for word in self.settings[setting].split():
            if re.fullmatch(r"\$\w+", word):
                words += variables[word[1:]].split()
            else:
                words.append(re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], word))
        return words


class System:
    """A minimal Debian system in a folder, with the dependencies of DST's package."""

    def __init__(self, folder: Path, package: Package) -> None:
        require_root("installing a package")
        for tool in ("mmdebstrap", "unshare", "nsenter", "setpriv", "ip"):
            require_tool(tool)
        possible = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, text=True, check=False)
        if possible.returncode != 0:
            pytest.skip(f"this machine permits no namespaces: {possible.stderr.strip()}")
        self.root = folder
        archive = _system_with(package.field("Depends"))
        folder.mkdir()
        run(["tar", "-xf", archive, "-C", folder, "--exclude=./dev/*"], timeout=60)

    def path(self, path: str) -> Path:
        return self.root / path.removeprefix("/")

    def dpkg(self, *words: str) -> str:
        command = ["chroot", os.fspath(self.root), "env", "-i", f"PATH={_PATH}"]
        return run([*command, "DEBIAN_FRONTEND=noninteractive", "dpkg", *words], timeout=60)

    def install(self, package: Package) -> None:
        copy = self.path("/package.deb")
        copy.write_bytes(package.path.read_bytes())
        self.dpkg("-i", "/package.deb")
        copy.unlink()

    def user(self, name: str) -> tuple[int, int]:
        """Returns the ids of a user and its group."""
        lines = [line.split(":") for line in self.path("/etc/passwd").read_text().splitlines()]
        (found,) = [line for line in lines if line[0] == name]
        return int(found[2]), int(found[3])

    def start(self, service: Service, name: str, log: Path) -> Process:
        """Starts a service's process as its unit says, in its own network and mounts."""
        uid, gid = self.user(service.settings["User"])
        for base, setting in (("/run", "RuntimeDirectory"), ("/var/lib", "StateDirectory")):
            folder = self.path(f"{base}/{service.settings[setting]}")
            folder.mkdir(exist_ok=True)
            os.chown(folder, uid, gid)
            folder.chmod(int(service.settings[f"{setting}Mode"], 8))
        script = f"""set -e
            root={shlex.quote(os.fspath(self.root))}
            ip link set lo up
            mount --rbind /dev "$root/dev"
            mount -t tmpfs tmpfs "$root/dev/shm"
            mount -t proc proc "$root/proc"
            mount -t sysfs -o ro sysfs "$root/sys"
            exec chroot "$root" "$@\""""
        # The capability stands for LimitMEMLOCK, which not every root may raise.
        rights = ["--bounding-set=-all,+ipc_lock", "--inh-caps=-all,+ipc_lock", "--ambient-caps=-all,+ipc_lock"]
        ids = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--pdeathsig=KILL"]
        variables = [f"{key}={value}" for key, value in service.variables.items()]
        command = ["unshare", "--mount", "--net", "sh", "-c", script, "sh", "setpriv", *ids, *rights]
        return Process(name, [*command, "env", "-i", *variables, *service.command("ExecStart")], log)

    @staticmethod
    def beside(process: Process, command: Sequence[str]) -> str:
        """Runs a command as root where a service's process is."""
        enter = ["nsenter", f"--target={process.pid}", "--mount", "--net", "--root"]
        return run([*enter, "env", "-i", "--chdir=/", f"PATH={_PATH}", *command], timeout=60)


def _system_with(depends: str) -> Path:
    """Returns the archive of a system, which is kept in the cache, since making it takes a minute."""
    # systemd itself is large; of it, the package needs the program that creates users.
    names = [entry.split("(")[0].strip() for entry in depends.replace("systemd |", "").split(",")]
    names = [entry.split("|")[0].strip() for entry in names]
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    key = hashlib.sha256(" ".join([release, *names]).encode()).hexdigest()[:12]
    folder = Path(environment().variables["DST_CACHE"]) / "debian"
    archive = folder / f"{release}-{key}.tar"
    if archive.exists():
        return archive
    of_apt = ["apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"]
    sources = sorted(set(run([*of_apt, "Created-By: Packages", "Origin: Debian"]).splitlines()))
    if not sources:
        pytest.skip("none of this machine's apt sources is a Debian archive")
    folder.mkdir(parents=True, exist_ok=True)
    new = archive.with_suffix(f".{os.getpid()}.tar")
    command = ["mmdebstrap", "--variant=essential", f"--include={','.join(names)}", release, os.fspath(new), *sources]
    made = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    if made.returncode != 0:
        new.unlink(missing_ok=True)
        pytest.skip(f"mmdebstrap can't make a system of {' '.join(names)}: {made.stderr[-500:]}")
    new.rename(archive)
    return archive
