"""Fixtures for a target that the tests of a file share. `served` uses the file's own `target`, if
it has one."""

from __future__ import annotations

from typing import Iterator

import pytest

from harness.lab import Lab
from harness.spdk import Application
from harness.transport import Remote

# The size of the volume: small, but larger than several of the largest requests.
MIB = 16
BLOCK = 512

Served = tuple[Application, Remote]


@pytest.fixture(scope="module")
def target(needs_dst: None, module_lab: Lab) -> Served:
    return module_lab.malloc_target(MIB, BLOCK)


@pytest.fixture
def served(target: Served) -> Iterator[Served]:
    """The same for one test, which checks afterwards that the target still runs."""
    yield target
    target[0].assert_running()
