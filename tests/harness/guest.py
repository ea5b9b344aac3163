"""A small virtual machine with Debian's kernel and an initramfs of busybox and a script."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.commands import run
from harness.environment import ROOT, environment
from harness.requirements import require_tool

_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /bin /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in {modules}; do insmod "/modules/$module" || echo "insmod $module failed"; done
{script}
poweroff -f
"""


@dataclass(frozen=True)
class GuestKernel:
    image: Path
    modules: Path


def require_kernel() -> GuestKernel:
    """Debian's cloud kernel, from the cache or the machine's package archive."""
    script = ROOT / "spdk" / "provision" / "vm-kernel.sh"
    shown = subprocess.run(
        [script], capture_output=True, text=True, check=False, timeout=120, env=dict(environment().variables)
    )
    if shown.returncode != 0:
        pytest.skip(f"no kernel for a virtual machine: {shown.stderr.strip().splitlines()[-1:]}")
    image, modules = (Path(line) for line in shown.stdout.split("\n")[:2])
    return GuestKernel(image, modules)


def modules_in_order(kernel: GuestKernel, wanted: list[str]) -> list[Path]:
    """Returns the files of the modules and of their dependencies, in the order in which to load
    them."""
    depends: dict[str, list[str]] = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        file, _, needs = line.partition(":")
        depends[file] = needs.split()
    files: list[str] = []
    for name in wanted:
        file = next((file for file in depends if Path(file).name.split(".")[0] == name), None)
        if file is None:
            continue  # built into this kernel
        # modules.dep lists direct dependencies first.
        files += [needed for needed in [*reversed(depends[file]), file] if needed not in files]
    return [kernel.modules / file for file in files]


def build_initramfs(folder: Path, kernel: GuestKernel, script: str) -> Path:
    """busybox's shell runs `script` with virtio block devices present. The guest powers off
    afterwards."""
    root = folder / "initramfs"
    (root / "bin").mkdir(parents=True)
    (root / "modules").mkdir()
    shutil.copy(require_tool("busybox"), root / "bin" / "busybox")
    names: list[str] = []
    for file in modules_in_order(kernel, ["virtio_pci", "virtio_blk"]):
        shutil.copy(file, root / "modules")
        names.append(file.name)
    # busybox can neither create nor check ext4, so the real tools are included in /tools, with
    # their libraries.
    for tool in ("mke2fs", "e2fsck"):
        _copy_with_libraries(Path(require_tool(tool)), root)
    init = root / "init"
    init.write_text(_INIT.format(modules=" ".join(names), script=script))
    init.chmod(0o755)
    members = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    archive = subprocess.run(
        [require_tool("cpio"), "--quiet", "-o", "-H", "newc"],
        cwd=root,
        input=members.encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    image = folder / "initramfs.gz"
    image.write_bytes(gzip.compress(archive, 1))
    return image


def _copy_with_libraries(program: Path, root: Path) -> None:
    (root / "tools").mkdir(exist_ok=True)
    shutil.copy(program, root / "tools" / program.name)
    for word in run(["ldd", program]).split():
        if word.startswith("/"):
            to = root / word.lstrip("/")
            to.parent.mkdir(parents=True, exist_ok=True)
            if not to.exists():
                shutil.copy(os.path.realpath(word), to)
