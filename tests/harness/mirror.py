"""Mirrors, their members, and what is shown of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.lab import Lab
from harness.spdk import Application
from harness.waiting import wait_until

BLOCK = 4096
MIRROR = "Mirror0"
MEMBERS = ("Member0", "Member1")


def member_file(lab: Lab, name: str, mib: int = 64) -> Path:
    """Returns the file of a member, which is made if it is not there."""
    path = lab.folder / f"{name}.img"
    if not path.exists():
        with open(path, "wb") as file:
            file.truncate(mib * 2**20)
    return path


def create_aio(application: Application, lab: Lab, name: str) -> None:
    application.rpc.call("bdev_aio_create", name=name, filename=str(member_file(lab, name)), block_size=BLOCK)


def create_malloc(application: Application, name: str, mib: int = 64, block_size: int = BLOCK) -> None:
    application.rpc.call(
        "bdev_malloc_create", name=name, num_blocks=mib * 2**20 // block_size, block_size=block_size
    )


def mirror_of(lab: Lab, application: Application, **params: Any) -> None:
    """Creates a mirror of two files."""
    for name in MEMBERS:
        create_aio(application, lab, name)
    application.rpc.call("bdev_dst_mirror_create", name=MIRROR, members=list(MEMBERS), equal=True, **params)


def shown(application: Application, name: str = MIRROR) -> dict[str, Any]:
    """Returns what the mirror shows of itself."""
    (info,) = application.rpc.call("bdev_dst_mirror_get_info", name=name)
    return info


def member(application: Application, name: str) -> dict[str, Any]:
    """Returns what the mirror shows of a member."""
    return next(found for found in shown(application)["members"] if found["name"] == name)


def wait_state(application: Application, name: str, state: str, timeout: float = 30.0) -> dict[str, Any]:
    """Waits until a member is in this state, and returns what is shown of it."""
    wait_until(lambda: member(application, name)["state"] == state, f"{name} to be {state}", timeout)
    return member(application, name)


def wait_online(application: Application, timeout: float = 30.0) -> None:
    wait_until(lambda: shown(application)["state"] == "online", "all members to be in sync", timeout)
