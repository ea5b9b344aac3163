"""SPDK's RPC for moving threads: the target's threads and the app thread stay on their cores."""

from __future__ import annotations

import pytest

from harness.environment import environment
from harness.lab import Lab
from harness.protocol import Session
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

BOTH = "0x3"


@pytest.fixture(autouse=True)
def has_bound_threads() -> None:
    version = environment().spdk_version
    if version < (23, 5):
        pytest.skip("SPDK %02d.%02d can't keep a thread on its core" % version)


def test_threads_that_are_moved(lab: Lab) -> None:
    target, remote = lab.malloc_target(16, cores=BOTH)
    call = target.rpc.call
    session = Session(remote, "me")
    queue = session.join(1)

    def places() -> dict[str, tuple[int, int]]:
        """Returns the id and the core of each of DST's threads and of SPDK's app thread."""
        reactors = call("framework_get_reactors")["reactors"]
        found = {t["name"]: (t["id"], r["lcore"]) for r in reactors for t in r["lw_threads"]}
        return {name: found[name] for name in ("app_thread", "dst_target_0", "dst_target_1")}

    before = places()
    assert [core for _, core in before.values()] == [0, 0, 1]
    for ident, core in before.values():
        call("thread_set_cpumask", id=ident, cpumask=hex(1 << (1 - core)))
    # A thread that may move would do so within one round of messages through all threads.
    wait_until(lambda: len(call("thread_get_stats")["threads"]) >= 3, "the threads to answer")
    assert places() == before
    assert [export["name"] for export in call("dst_get_exports")] == [remote.export]
    session.control.keep_alive()
    queue.keep_alive()
    for number in (2, 3):
        session.join(number).close()
    assert target.stop() == 0
