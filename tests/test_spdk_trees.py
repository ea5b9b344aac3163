"""`make` refuses an SPDK with which DST cannot be linked, and says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.environment import ROOT, environment

# The files that ./configure and make create, in a version with bdevperf among the examples.
BUILT = (
    "build/lib/libspdk_bdev.a",
    "build/lib/libspdk_event.a",
    "build/lib/libspdk_env_dpdk.a",
    "build/bin/spdk_tgt",
    "app/spdk_tgt/spdk_tgt.o",
    "test/bdev/bdevio/bdevio.o",
    "examples/bdev/bdevperf/bdevperf.o",
)
CONFIGURED = {"TESTS": "y", "EXAMPLES": "y", "APPS": "y"}


class Tree:
    """A folder with everything that the check looks for in an SPDK tree, and nothing else."""

    def __init__(self, folder: Path, version: tuple[int, int] = (25, 5)) -> None:
        self.folder = folder
        self.write("include/spdk/bdev.h")
        major, minor = version
        self.write(
            "include/spdk/version.h",
            f"#define SPDK_VERSION_MAJOR\t{major}\n#define SPDK_VERSION_MINOR\t{minor:02d}\n",
        )
        self.configure()
        for name in BUILT:
            self.write(name)

    def write(self, name: str, text: str = "") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def configure(self, **options: str) -> None:
        lines = (f"CONFIG_{name}?={value}\n" for name, value in (CONFIGURED | options).items())
        self.write("mk/config.mk", "".join(lines))

    def remove(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink()


def variables(tree: Path) -> dict[str, str]:
    # This may run inside `make test`.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return inherited | {"SPDK_DIR": str(tree), "DST_CACHE": environment().variables["DST_CACHE"]}


def refused(tree: Path) -> str:
    """Returns what is printed when the tree is refused."""
    ran = subprocess.run(
        [ROOT / "spdk" / "provision" / "locate.sh"], env=variables(tree), capture_output=True, text=True, timeout=30
    )
    assert ran.returncode == 1 and ran.stdout == "", ran
    assert f"dst: error: SPDK_DIR={tree} cannot be used" in ran.stderr
    assert str(tree) in ran.stderr.splitlines()[0]
    return ran.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_whole_trees_are_taken(tmp_path: Path) -> None:
    for name, version in (("oldest", (20, 7)), ("later", (22, 1)), ("next", (27, 1))):
        folder = tmp_path / name
        folder.mkdir()
        Tree(folder, version)
        ran = subprocess.run(
            [ROOT / "spdk" / "provision" / "locate.sh"], env=variables(folder), capture_output=True, text=True, timeout=30
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{folder}\n", "")


def test_make_refuses(tree: Tree) -> None:
    """make refuses what the script refuses."""
    tree.remove("test/bdev/bdevio/bdevio.o")
    before = (ROOT / "build" / "env.sh").read_text()
    ran = subprocess.run(
        ["make", "-C", ROOT], env=variables(tree.folder), capture_output=True, text=True, timeout=60
    )
    assert ran.returncode != 0
    assert "test/bdev/bdevio/bdevio.o" in ran.stderr and "in it, run 'make'" in ran.stderr
    assert (ROOT / "build" / "env.sh").read_text() == before, "the earlier build is not touched"


def test_no_tree(tmp_path: Path) -> None:
    text = refused(tmp_path)
    assert "is not the top folder of an SPDK source tree" in text and "'configure'" in text


@pytest.mark.parametrize("version", [(20, 4), (19, 10), (9, 12)])
def test_too_old(tmp_path: Path, version: tuple[int, int]) -> None:
    Tree(tmp_path, version)
    text = refused(tmp_path)
    assert "is SPDK %02d.%02d, which is too old" % version in text and "needs SPDK 20.07 or newer" in text


def test_never_configured(tree: Tree) -> None:
    tree.remove("mk/config.mk")
    assert "./configure --disable-unit-tests && make" in refused(tree.folder)


def test_never_made(tree: Tree) -> None:
    """In newer versions, make also writes version.h."""
    tree.remove("include/spdk/version.h", *BUILT)
    text = refused(tree.folder)
    assert "is not built" in text and "./configure --disable-unit-tests && make" in text


@pytest.mark.parametrize("name", BUILT)
def test_half_built(tree: Tree, name: str) -> None:
    tree.remove(name)
    text = refused(tree.folder)
    assert f"dst:     {name}\n" in text and "in it, run 'make', to its end" in text
    assert "configure" not in text, "the configuration is not the problem"


def test_tests_disabled(tree: Tree) -> None:
    tree.configure(TESTS="n")
    tree.remove("test/bdev/bdevio/bdevio.o")
    text = refused(tree.folder)
    assert "configured --disable-tests, and bdevio is among them" in text


def test_examples_disabled(tree: Tree) -> None:
    tree.configure(EXAMPLES="n")
    tree.remove("examples/bdev/bdevperf/bdevperf.o")
    assert "configured --disable-examples, and bdevperf is among them" in refused(tree.folder)


def test_bdevperf_among_the_tests(tree: Tree) -> None:
    """The layout of 20.07."""
    tree.configure(TESTS="n", EXAMPLES="n")
    tree.remove("test/bdev/bdevio/bdevio.o", "examples/bdev/bdevperf/bdevperf.o")
    (tree.folder / "examples/bdev/bdevperf").rmdir()
    text = refused(tree.folder)
    assert "test/bdev/bdevperf/bdevperf.o" in text and "bdevperf is among them" in text
    assert "--disable-examples" not in text


def test_apps_disabled(tree: Tree) -> None:
    tree.configure(APPS="n")
    tree.remove("build/bin/spdk_tgt", "app/spdk_tgt/spdk_tgt.o")
    assert "configured --disable-apps" in refused(tree.folder)


def test_another_environment(tree: Tree) -> None:
    tree.configure(ENV="/elsewhere/env_own")
    tree.remove("build/lib/libspdk_env_dpdk.a")
    assert "--with-env=/elsewhere/env_own" in refused(tree.folder)


class Provision:
    """The scripts, without SPDK_DIR. In place of downloading and building Debian's SPDK, one prints
    that it would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "provision"
        shutil.copytree(ROOT / "spdk" / "provision", self.folder)
        (self.folder / "build-spdk.sh").write_text("#!/bin/bash\necho of-debian\n")

    def locate(self, pkg_config: Path) -> tuple[str, str]:
        """Returns the tree and the messages, if pkg-config searches this folder."""
        environ = variables(self.folder) | {"PKG_CONFIG_PATH": str(pkg_config), "PKG_CONFIG_LIBDIR": ""}
        del environ["SPDK_DIR"]
        ran = subprocess.run(
            [self.folder / "locate.sh"], env=environ, capture_output=True, text=True, check=True, timeout=30
        )
        return ran.stdout.strip(), ran.stderr


PACKAGE = "Name: spdk_event\nDescription: a test's\nVersion: 26.05\n"


def test_pkg_config_knows_a_tree(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "spdk")
    tree.write("build/lib/pkgconfig/spdk_event.pc", PACKAGE)
    found, said = Provision(tmp_path).locate(tree.folder / "build" / "lib" / "pkgconfig")
    assert found == str(tree.folder) and "using the SPDK that pkg-config finds" in said


def test_pkg_config_knows_an_installed_one(tmp_path: Path) -> None:
    """An installed SPDK has no objects of applications."""
    installed = tmp_path / "usr" / "lib" / "pkgconfig"
    installed.mkdir(parents=True)
    (installed / "spdk_event.pc").write_text(PACKAGE)
    found, said = Provision(tmp_path).locate(installed)
    assert found == "of-debian"
    assert "does not have the objects of its applications" in said and "Set SPDK_DIR" in said


def test_pkg_config_knows_none(tmp_path: Path) -> None:
    assert Provision(tmp_path).locate(tmp_path) == ("of-debian", "")


def test_place_with_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "my spdk"
    folder.mkdir()
    ran = subprocess.run(
        [ROOT / "spdk" / "provision" / "locate.sh"], env=variables(folder), capture_output=True, text=True, timeout=30
    )
    assert ran.returncode == 1 and "has a space in it" in ran.stderr


def test_long_step_in_a_subshell(tmp_path: Path) -> None:
    """A step in a subshell leaves what the script's own exit removes. Otherwise a download is gone before it is checked."""
    script = """
        . "$1"
        trap 'rm -f download' EXIT
        (long_step downloading log touch download)
        [ -e download ]
    """
    say = ROOT / "spdk/provision/say.sh"
    subprocess.run(["bash", "-euc", script, "bash", str(say)], cwd=tmp_path, env=os.environ | {"DST_CACHE": str(tmp_path)}, check=True)
    assert not (tmp_path / "download").exists(), "the script's trap was lost"
