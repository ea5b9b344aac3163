"""Takeovers of one export, one after the other: each client takes it over from the one before, which is
killed, stopped and continued, cut off, or left alone, while both run verified I/O. Nothing that one of
them had acknowledged is lost, and nothing old comes back. The tests print the times of the takeover, of
the first I/O, and of the same I/O once more, which is what the backend takes for it."""

from __future__ import annotations

import shutil
import signal
import time
from typing import Any, NamedTuple

import pytest

from harness.checker import Checker, start_checker
from harness.commands import run
from harness.cycles import cycles, seeded_random
from harness.filesystem import checksums, mount, source_tree
from harness.kernel_disk import KernelDisk, require_kernel_disk
from harness.lab import Lab
from harness.proxy import Proxy
from harness.requirements import require_filesystem, require_tool
from harness.rpc import RpcError
from harness.service import Backend, Service, durable_backend, memory_backend
from harness.spdk import Application
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

FATES = ("killed", "stopped", "cut off", "alive")


def owned_service(lab: Lab, mib: int = 64) -> Service:
    """A target whose export keeps who owns it, and which any host may take over."""
    entry = {"host": "*", "access": "rw", "takeover": True}
    service = Service(lab, durable_backend(lab, mib), entry, state_file=str(lab.folder / "state"))
    service.application.rpc.call("dst_export_release", export="volume")
    return service


def ownership(target: Application) -> dict[str, Any]:
    return target.rpc.call("dst_get_exports", name="volume")[0]["ownership"]


def info(client: Application) -> dict[str, Any]:
    return client.rpc.call("bdev_dst_get_info", name="remote0")[0]


class Times(NamedTuple):
    """The times of a takeover, ms."""

    attach: float
    first_flush: float
    next_flush: float


def report(fate: str, times: list[Times]) -> None:
    print(f"takeover from an owner that is {fate}: {len(times)} times")
    for name, column in zip(Times._fields, zip(*times)):
        ordered = sorted(column)
        print(f"  {name}: median {ordered[len(ordered) // 2]:.1f} ms, most {ordered[-1]:.1f} ms")


class Owner:
    """A client under verified load. Its connections go through a proxy of its own."""

    def __init__(self, lab: Lab, service: Service, number: int, before: Owner | None) -> None:
        self.name = f"owner{number}"
        self._proxy = Proxy(service.remote)
        lab.on_end(self._proxy.end)
        journal = None
        if before is not None:
            # What the one before had acknowledged, and what may or may not have been executed.
            journal = lab.folder / f"journal-{self.name}"
            shutil.copyfile(before.checker.journal, journal)
        self.checker: Checker = start_checker(lab, self.name, journal=journal)

    def take_over(self, service: Service) -> Times:
        began = time.monotonic()
        service.attach(
            self.checker, host=self.name, exclusive=True, takeover=True, remote=self._proxy.remote
        )
        ends = [time.monotonic()]
        for _ in range(2):
            assert self.checker.flush()
            ends.append(time.monotonic())
        return Times(*((end - start) * 1000 for start, end in zip([began, *ends], ends)))

    def suffer(self, fate: str) -> None:
        if fate == "killed":
            self.checker.kill()
        elif fate == "stopped":
            self.checker.signal(signal.SIGSTOP)
        elif fate == "cut off":
            self._proxy.hold()
            self._proxy.hold_new("client", "target")
            wait_until(lambda: self._proxy.waiting("client") > 0, "requests to be on their way")

    def come_back(self, fate: str, successor: Owner) -> None:
        """Ends what it suffers. Its I/O fails, for the reason that its successor owns the export."""
        if fate == "killed":
            return
        if fate == "stopped":
            self.checker.signal(signal.SIGCONT)
        elif fate == "cut off":
            self._proxy.hold_new()
            self._proxy.release()
        wait_until(lambda: info(self.checker)["state"] == "failed", "the former owner to hear of it")
        assert f'host "{successor.name}" owns the export since' in info(self.checker)["last_error"]
        wait_until(lambda: self.checker.findings().all_failed > 0, "its I/O to fail")
        self.checker.findings().assert_no_bad_block()
        self.checker.kill()


@pytest.mark.watchdog(150)
def test_takeovers_under_load(lab: Lab) -> None:
    service, random = owned_service(lab), seeded_random()
    times: dict[str, list[Times]] = {}
    owner = Owner(lab, service, 0, None)
    owner.take_over(service)
    owner.checker.begin_and_flow(zeroes=5, flushes=1)
    number = ownership(service.application)["number"]
    for turn in range(cycles(4)):
        fate = FATES[turn] if turn < len(FATES) else random.choice(FATES)
        # The journal must not change any more once it is copied, unless its owner may still write.
        # A process that is alive goes on, so it ends its I/O in order.
        if fate == "alive":
            owner.checker.end().assert_clean()
        owner.suffer(fate)
        successor = Owner(lab, service, turn + 1, owner)
        times.setdefault(fate, []).append(successor.take_over(service))
        shown = ownership(service.application)
        assert shown["owner"] == successor.name and shown["number"] > number, shown
        number = shown["number"]
        successor.checker.verify().assert_clean()
        successor.checker.begin_and_flow(zeroes=5, flushes=1)
        if fate == "alive":
            owner.checker.begin()
        owner.come_back(fate, successor)
        successor.checker.wait_flow()
        successor.checker.findings().assert_clean()
        owner = successor
    owner.checker.end().assert_clean()
    owner.checker.verify().assert_clean()
    for fate, taken in times.items():
        report(fate, taken)


@pytest.mark.watchdog(60)
def test_a_takeover_that_waits_for_a_backend_has_it_reset(lab: Lab) -> None:
    entry = {"host": "*", "access": "rw", "takeover": True}
    memory = memory_backend()
    # An error bdev's pending writes end only with a reset.
    calls = [*memory.calls, ("bdev_error_create", {"base_name": memory.name})]
    backend = Backend(f"EE_{memory.name}", calls)
    service = Service(lab, backend, entry, state_file=str(lab.folder / "state"))
    call = service.application.rpc.call
    call("dst_export_release", export="volume")
    with pytest.raises(RpcError, match="nobody waits"):
        call("dst_export_reset", export="volume")
    second = lab.client()
    owner = start_checker(lab, "owner")
    service.attach(owner, host="owner", exclusive=True)
    call("bdev_error_inject_error", name=backend.name, io_type="write", error_type="pending", num=4)
    owner.begin(depth=4, reads=0)
    wait_until(lambda: call("dst_get_stats")["in_flight"] == 4, "the writes to hang")
    taker = second.rpc.start(
        "bdev_dst_create",
        name="remote0",
        traddr=service.remote.address,
        trsvcid=str(service.remote.port),
        export="volume",
        host="taker",
        exclusive=True,
        takeover=True,
    )
    # Its ownership is durable, so what it waits for is the backend.
    wait_until(lambda: ownership(service.application).get("owner") == "taker", "the taker to own the export")
    (waiting,) = ownership(service.application)["waiting"]
    assert waiting["host"] == "taker" and waiting["waiting_ms"] >= 0, waiting
    assert call("dst_export_reset", export="volume") is True
    taker.result()
    shown = ownership(service.application)
    assert (shown["owner"], shown["waiting"], shown["resetting"]) == ("taker", [], False)
    assert "has its bdev reset for host" in service.application.text()
    owner.kill()


@pytest.mark.watchdog(120)
def test_xfs_is_mounted_by_each_owner(lab: Lab) -> None:
    """The log is replayed, and all that the former owner had synced is there."""
    require_kernel_disk()
    require_filesystem("xfs")
    mkfs, repair, xfs_io = require_tool("mkfs.xfs"), require_tool("xfs_repair"), require_tool("xfs_io")
    source, point = lab.folder / "source", lab.folder / "mnt"
    source_tree(source)
    expected = checksums(source)
    point.mkdir()
    # mkfs.xfs refuses less than 300 MiB.
    service, random = owned_service(lab, 640), seeded_random()
    for turn in range(cycles(2) + 1):
        client = lab.client(shm_id=random.randrange(1000, 30000))
        service.attach(client, host=f"owner{turn}", exclusive=True, takeover=True)
        disk = KernelDisk(lab, client, "remote0")
        if turn == 0:
            run([mkfs, "-f", "-q", disk.device])
        mount(lab, disk.device, point)
        # The older ones were removed, for want of room.
        for former in range(max(turn - 2, 0), turn):
            assert checksums(point / f"copy{former}") == expected, f"of owner {former}"
            if former < turn - 1:
                run(["rm", "-r", point / f"copy{former}"], timeout=60)
        if turn == cycles(2):
            run(["umount", point], timeout=60)
            run([repair, "-n", disk.device])
            disk.detach()
            return
        run(["cp", "-a", source, point / f"copy{turn}"], timeout=60)
        run(["sync", "-f", point], timeout=60)
        # XFS stops without writing its log, as if its machine died.
        (point / f"unsynced{turn}").write_bytes(bytes(1 << 20))
        run([xfs_io, "-x", "-c", "shutdown", point])
        run(["umount", point], timeout=60)
        disk.detach()
        client.kill()
