"""Prints the licences of all that the applications and dstctl are linked with: SPDK, DPDK, and the
crates. Uses no network."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Iterator

ROOT = Path(__file__).resolve().parents[1]
# The packages of the workspace that are installed.
PRODUCTS = ("dst", "dstctl")
# Crates name their licence files so.
NAMES = ("LICENSE*", "LICENCE*", "COPYING*", "COPYRIGHT*", "NOTICE*")


def crates() -> list[dict[str, Any]]:
    """Returns cargo's descriptions of all crates that are linked, without those of the workspace."""
    target = f"{platform.machine()}-unknown-linux-gnu"
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--offline", f"--filter-platform={target}"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    own = set(metadata["workspace_members"])
    found: set[str] = set()
    left = [ident for ident in own if packages[ident]["name"] in PRODUCTS]
    while left:
        ident = left.pop()
        if ident in found:
            continue
        found.add(ident)
        for dependency in nodes[ident]["deps"]:
            # A kind of None is a dependency that is linked; others are for building and testing.
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                left.append(dependency["pkg"])
    return sorted((packages[ident] for ident in found - own), key=lambda package: (package["name"], package["version"]))


def texts() -> Iterator[tuple[str, list[Path]]]:
    """Yields each work with its licence files."""
    spdk = Path(os.environ["SPDK_DIR"])
    yield "SPDK: BSD-3-Clause", [spdk / "LICENSE"]
    # A tree that uses DPDK of the system has none of its own.
    dpdk = spdk / "dpdk" / "license"
    yield "DPDK: BSD-3-Clause", sorted(path for path in dpdk.glob("*.txt") if path.stem.startswith("bsd"))
    for crate in crates():
        folder = Path(crate["manifest_path"]).parent
        files = {path for name in NAMES for path in folder.glob(name) if path.is_file()}
        yield f"{crate['name']} {crate['version']}: {crate['license']}", sorted(files)


def main() -> None:
    # Most crates have the same text of the same licence, which is printed once.
    printed: dict[str, str] = {}
    for work, files in texts():
        print(f"==== {work}\n")
        for path in files:
            text = path.read_text(errors="replace").strip()
            if text in printed:
                print(f"{path.name}: the text of {printed[text]} above\n")
            else:
                printed[text] = f"{work.split(':')[0]}'s {path.name}"
                print(f"{path.name}:\n\n{text}\n")


if __name__ == "__main__":
    main()
