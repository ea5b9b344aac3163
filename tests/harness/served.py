"""Fixtures: a target that the tests of a file share. A file may have a `target` of its own; `served` takes that one."""

from __future__ import annotations

from typing import Iterator

import pytest

from harness.lab import Lab
from harness.spdk import Application
from harness.transport import Remote

# Of the volume: so small that it costs nothing, and larger than several of the largest requests.
MIB = 16
BLOCK = 512

Served = tuple[Application, Remote]


@pytest.fixture(scope="module")
def target(needs_dst: None, module_lab: Lab) -> Served:
    return module_lab.malloc_target(MIB, BLOCK)


@pytest.fixture
def served(target: Served) -> Iterator[Served]:
    """The same for one test, which the target survives."""
    yield target
    target[0].assert_running()
