"""Stale writes: nothing sent before a connection was given up may be executed after later requests.

Writes are held on their way: in the proxy, in the target's sockets, and in a backend that executes
them late and out of order. The client reconnects on another path and overwrites the same blocks.
Then the old writes are released.
"""

from __future__ import annotations

import signal
import time

import pytest

from harness.checker import Checker, start_checker
from harness.cycles import by_hand, cycles, seeded_random
from harness.environment import environment
from harness.keys import service_with
from harness.lab import Lab
from harness.proxy import Proxy
from harness.service import attach_to, late_backend
from harness.stream import CLIENT, SIDES, TARGET
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

KEEP_ALIVE_MS = 500
# So few blocks that each is overwritten many times a second, and such a delay in the backend that
# several later writes may overtake an earlier one.
BLOCKS = 64
WRITE_MS = 150
LOAD = {"depth": 24, "io_blocks": 2, "reads": 25}

WITH_AND_WITHOUT = pytest.mark.parametrize("cipher", [None, *by_hand("aes-256-gcm")], ids=lambda cipher: cipher or "plain")


class Setup:
    """A target with a late backend, a proxy, and a checker."""

    def __init__(self, lab: Lab, cipher: str | None = None, **options: object) -> None:
        options = {"keep_alive_timeout_ms": KEEP_ALIVE_MS, "reconnect_delay_ms": 50} | options
        self.service = service_with(lab, late_backend(WRITE_MS), cipher)
        self.proxy = Proxy(self.service.remote, secured=cipher is not None)
        lab.on_end(self.proxy.end)
        self.checker: Checker = start_checker(lab, blocks=BLOCKS)
        self.service.attach(self.checker, remote=self.proxy.remote, **options)

    def hold_backend(self, hold: bool) -> None:
        self.service.application.rpc.call("check_late_hold", hold=hold)

    def has_writes_in_the_backend(self) -> bool:
        return self.checker.rpc.call("bdev_dst_get_info", name="remote0")[0]["outstanding"] > 0

    def connections(self) -> int:
        """Returns the number of the client's admitted connections."""
        return self.checker.rpc.call("bdev_dst_get_info", name="remote0")[0]["connections"]

    def stop_target_with_writes_in_its_sockets(self) -> None:
        """The writes have arrived in the target's sockets, but the target has not read them when it
        is stopped."""
        links = self.proxy.whole_links()
        self.proxy.hold(CLIENT, links=links)
        # Earlier writes are executed and answered, and all new writes are held.
        self.settle()
        self.service.application.signal(signal.SIGSTOP)
        held = self.proxy.waiting(CLIENT)
        assert held > 0
        self.proxy.release(links)
        wait_until(lambda: self.proxy.waiting(CLIENT) <= held // 2, "the writes to arrive in the sockets")

    def flow(self) -> None:
        """Waits until every block has been overwritten, most of them more than once."""
        self.checker.wait_flow(4 * BLOCKS)

    def assert_nothing_stale(self) -> None:
        self.checker.end().assert_clean()
        self.settle()
        self.checker.verify().assert_clean()

    def settle(self) -> None:
        """Waits until everything in the backend has been executed."""
        time.sleep(1.5 * WRITE_MS / 1000)


@pytest.mark.watchdog(60)
@WITH_AND_WITHOUT
def test_old_connection_is_cut_with_writes_in_the_backend(lab: Lab, cipher: str | None) -> None:
    setup = Setup(lab, cipher)
    setup.checker.begin_and_flow(**LOAD)
    for _ in range(cycles(8)):
        setup.proxy.cut()
        setup.flow()
        setup.checker.findings().assert_clean()
    setup.assert_nothing_stale()


@pytest.mark.watchdog(60)
@WITH_AND_WITHOUT
def test_old_connection_is_black_holed(lab: Lab, cipher: str | None) -> None:
    """The held bytes are released at some moment before, while or after the client reconnects."""
    random = seeded_random()
    setup = Setup(lab, cipher)
    setup.checker.begin_and_flow(**LOAD)
    for _ in range(cycles(5)):
        old, before = setup.proxy.whole_links(), setup.proxy.accepted
        # Holds only the client's bytes, so that the old connection looks alive to the client for as
        # long as possible; or both directions.
        setup.proxy.hold(*random.choice([SIDES, (CLIENT,)]), links=old)
        if random.random() < 0.3:
            wait_until(lambda: setup.proxy.accepted > before, "the client to come back")
            setup.flow()
        else:
            # Possibly before either end has noticed.
            time.sleep(random.uniform(0.5, 1.5) * KEEP_ALIVE_MS / 1000)
        setup.proxy.release(old)
        setup.flow()
        setup.checker.findings().assert_clean()
    setup.assert_nothing_stale()


@pytest.mark.watchdog(60)
def test_new_connection_waits_for_the_backend(lab: Lab) -> None:
    """While writes of the old connection are in the backend, nothing of the new one is executed."""
    setup = Setup(lab)
    for _ in range(cycles(3)):
        setup.checker.begin_and_flow(**LOAD)
        setup.hold_backend(True)
        wait_until(setup.has_writes_in_the_backend, "writes to be held")
        accepted = setup.proxy.accepted
        setup.proxy.cut()
        wait_until(lambda: setup.proxy.accepted >= accepted + 2, "the client to knock")
        # This is much longer than a target that does not wait would take to admit it.
        time.sleep(0.7)
        assert setup.connections() == 1, "admitted while the old connection's writes were in the backend"
        setup.hold_backend(False)
        setup.flow()
        setup.assert_nothing_stale()


@pytest.mark.watchdog(60)
@WITH_AND_WITHOUT
def test_target_is_stopped_past_the_lease(lab: Lab, cipher: str | None) -> None:
    """Requests on the old connections wait in the stopped target's sockets, and their leases have
    ended when it continues."""
    setup = Setup(lab, cipher)
    setup.checker.begin_and_flow(**LOAD)
    for number in range(cycles(5)):
        old, before = setup.proxy.whole_links(), setup.proxy.accepted
        setup.stop_target_with_writes_in_its_sockets()
        try:
            # The proxy keeps the target from learning that the client has left.
            setup.proxy.hold(TARGET, links=old)
            wait_until(lambda: setup.proxy.accepted >= before + 2, "the client to try another connection")
            time.sleep(2 * KEEP_ALIVE_MS / 1000)
        finally:
            setup.service.application.signal(signal.SIGCONT)
        setup.flow()
        setup.proxy.release(old)
        setup.checker.findings().assert_clean()
    setup.assert_nothing_stale()


@pytest.mark.watchdog(90)
@pytest.mark.parametrize("where", ["network", "stopped-target"])
@pytest.mark.parametrize(
    "timeout_ms, keep_alive_ms", [(1500, KEEP_ALIVE_MS), (1000, 5000)], ids=["after-the-lease", "within-the-lease"]
)
def test_write_that_failed_stays_away(lab: Lab, where: str, timeout_ms: int, keep_alive_ms: int) -> None:
    """I/O fails at its deadline; the same blocks are written on another path; then the failed
    writes arrive.

    A deadline that passes before the lease ends has to wait for the lease, since the target might
    still execute the request.
    """
    setup = Setup(lab, transaction_timeout_ms=timeout_ms, keep_alive_timeout_ms=keep_alive_ms)
    proxy, checker = setup.proxy, setup.checker
    for number in range(cycles(2 if keep_alive_ms < timeout_ms else 1)):
        other, bdev = checker, f"other{number}"
        if environment().spdk_version >= (22, 5):
            # These versions do not allow two bdevs with one UUID, so another process continues with
            # the same journal.
            other, bdev = start_checker(lab, bdev, journal=checker.journal, blocks=BLOCKS), "remote0"
        checker.begin_and_flow(**LOAD)
        if where == "network":
            old = proxy.whole_links()
            proxy.refuse()
            proxy.hold(CLIENT, links=old)
        else:
            # Another session, which exists before the target continues.
            attach_to(other, setup.service.remote, bdev, keep_alive_timeout_ms=KEEP_ALIVE_MS, host="other")
            setup.stop_target_with_writes_in_its_sockets()
        wait_until(lambda: checker.findings().failed["write"] > 0, "writes to fail")
        found = checker.end()
        found.assert_no_bad_block()
        assert found.failed_fastest_ms >= timeout_ms - 10, "an I/O failed before its deadline"
        if where == "network":
            attach_to(other, setup.service.remote, bdev, host="other")
            other.begin_and_flow(bdev, **LOAD)
            other.wait_flow(BLOCKS)
            proxy.release(old)
        else:
            other.begin(bdev, **LOAD)
            setup.service.application.signal(signal.SIGCONT)
        other.wait_flow(4 * BLOCKS)
        other.end().assert_clean()
        setup.settle()
        other.verify(bdev).assert_clean()
        other.rpc.call("bdev_dst_delete", name=bdev)
        if other is not checker:
            assert other.stop() == 0
        proxy.accept()
        wait_until(lambda: checker.verify().all_failed == 0, "the first way to work again")
