"""A target that is stopped in order and started again: nothing completed is lost, and clients know it
from the note that the stop leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.checker import Checker, start_checker
from harness.cycles import cycles
from harness.keys import service_with
from harness.lab import Lab
from harness.protocol import Session, crc32c, previous
from harness.rpc import RpcError
from harness.service import Backend, Service, attach_to, file_backend, memory_backend
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

LOAD = {"depth": 16, "reads": 10, "flushes": 2}

# The attribute "cache kept" of a Welcome.
CACHE_KEPT = 11


def served(lab: Lab, backend: Backend) -> tuple[Service, Checker, Path]:
    note = lab.folder / "stop-note"
    service = Service(lab, backend, stop_note=note)
    checker = start_checker(lab, reactors=2)
    attach_to(checker, service.remote)
    return service, checker, note


def stop(service: Service) -> str:
    """Stops the target in order, and returns what it has logged."""
    assert service.application.stop() == 0
    return service.application.text()


def lost_caches(checker: Checker) -> int:
    return checker.rpc.call("bdev_dst_get_info", name="remote0")[0]["counters"]["lost_caches"]


@pytest.mark.watchdog(120)
def test_a_restart_in_order_is_only_latency(lab: Lab) -> None:
    service, checker, note = served(lab, file_backend(lab))
    checker.begin_and_flow(**LOAD)
    for _ in range(2):
        assert "with 1 exports" in stop(service)
        assert note.read_text().startswith("DST stop note, version 1\n")
        service.start()
        assert not note.exists(), "a note is used once"
        assert "the previous target stopped in order" in service.application.text()
        checker.wait_flow()
        checker.findings().assert_clean()
    found = checker.end()
    found.assert_clean()
    assert checker.flush()
    checker.verify().assert_clean()
    assert lost_caches(checker) == 0


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("cipher", [None, "aes-256-gcm"], ids=["plain", "encrypted"])
def test_no_compare_and_write_fails_when_the_target_stops_in_order(lab: Lab, cipher: str | None) -> None:
    """Most of the load are compare-and-writes, so some are in the backend at each stop, and others on
    their way."""
    service = service_with(lab, file_backend(lab), cipher)
    checker = start_checker(lab, reactors=2)
    service.attach(checker)
    checker.begin_and_flow(depth=32, reads=5, compares=90)
    for _ in range(cycles(5)):
        stop(service)
        service.start()
        checker.wait_flow()
    found = checker.end()
    found.assert_no_bad_block()
    failed = {kind: count for kind, count in found.failed.items() if count and kind != "flush"}
    assert not failed, f"{failed} failed, of {found.done}"
    assert found.done["compare_and_write"] > 1000


@pytest.mark.watchdog(120)
def test_a_crash_leaves_no_note_and_fails_the_flush(lab: Lab) -> None:
    service, checker, note = served(lab, file_backend(lab))
    checker.begin_and_flow(depth=16, reads=10)
    checker.end().assert_clean()
    service.kill()
    assert not note.exists()
    service.start()
    assert not checker.flush(), "the process was killed with unflushed writes, and a flush succeeded"
    assert lost_caches(checker) == 1
    # What was completed since then is flushed at the stop.
    checker.begin_and_flow(depth=16, reads=10)
    checker.end().assert_clean()
    stop(service)
    service.start()
    assert checker.flush()
    assert lost_caches(checker) == 1


def test_a_note_is_not_used_by_a_second_start(lab: Lab) -> None:
    service, checker, note = served(lab, file_backend(lab))
    checker.begin_and_flow(depth=16, reads=10)
    checker.end().assert_clean()
    session = Session(service.remote)
    old = previous(os.urandom(16), session.instance)
    stop(service)
    service.start()
    welcome = Session(service.remote, more=old).welcome
    assert welcome[CACHE_KEPT] == b"\1"
    strange = previous(os.urandom(16), os.urandom(16))
    assert CACHE_KEPT not in Session(service.remote, more=strange).welcome
    # A client that missed a restart in order is told by the next start.
    stop(service)
    service.start()
    assert Session(service.remote, more=old).welcome[CACHE_KEPT] == b"\1"
    service.restart()
    assert not note.exists()
    assert CACHE_KEPT not in Session(service.remote, more=old).welcome, "it was killed since"


def test_memory_is_not_noted(lab: Lab) -> None:
    service, checker, note = served(lab, memory_backend())
    checker.begin_and_flow(depth=16, reads=10)
    checker.end().assert_clean()
    stop(service)
    assert not note.exists()
    service.start()
    assert not checker.flush(), "memory is empty, and a flush succeeded"


@pytest.mark.parametrize("content", [b"", b"torn", b"x" * 3_000_000, None], ids=["empty", "garbage", "huge", "foreign"])
def test_a_note_that_is_not_ours_is_not_used(lab: Lab, content: bytes | None) -> None:
    service, checker, note = served(lab, file_backend(lab))
    old = previous(os.urandom(16), Session(service.remote).instance)
    stop(service)
    if content is None:
        lines = note.read_text().splitlines()[:-1]
        lines[1:3] = ["boot 00000000-0000-0000-0000-000000000000", "machine 00000000000000000000000000000000"]
        text = "\n".join(lines) + "\n"
        content = f"{text}crc32c {crc32c(text.encode()):08x}\n".encode()
    note.write_bytes(content)
    service.start()
    wait_until(lambda: "it is not used" in service.application.text(), "the target to say so")
    assert CACHE_KEPT not in Session(service.remote, more=old).welcome
    # The next stop leaves one all the same.
    stop(service)
    assert note.read_text().startswith("DST stop note, version 1\n")


def test_a_note_that_can_not_be_written_is_no_obstacle(lab: Lab) -> None:
    note = lab.folder / "nowhere" / "stop-note"
    service = Service(lab, file_backend(lab), stop_note=note)
    assert "can't be written" in stop(service)
    service.start()


def test_the_file_is_saved_and_can_not_be_changed_later(lab: Lab) -> None:
    note = lab.folder / "stop-note"
    service = Service(lab, file_backend(lab), stop_note=note)
    call = service.application.rpc.call
    saved = call("framework_get_config", name="bdev")
    methods = [entry["method"] for entry in saved]
    assert methods.index("dst_set_stop_note") < methods.index("dst_create_export")
    assert {"method": "dst_set_stop_note", "params": {"path": str(note)}} in saved
    assert call("dst_set_stop_note", path=str(note)) is True, "the same one again changes nothing"
    with pytest.raises(RpcError, match="before the first listener and export"):
        call("dst_set_stop_note", path=str(lab.folder / "other"))
