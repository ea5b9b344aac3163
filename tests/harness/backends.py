"""Exports whose backends are slow or hang, and the counters of backends and sessions."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

from harness.spdk import Application
from harness.transport import Remote
from harness.waiting import wait_until


@contextmanager
def slow_export(application: Application, remote: Remote, seconds: float) -> Iterator[Remote]:
    """Creates export `slow` of bdev `Slow0`, of 1 MiB, which takes this long for each I/O."""
    call = application.rpc.call
    microseconds = int(seconds * 1e6)
    call("bdev_malloc_create", name="Malloc1", num_blocks=2048, block_size=512)
    call(
        "bdev_delay_create",
        base_bdev_name="Malloc1",
        name="Slow0",
        **{f"{kind}_{which}_latency": microseconds for kind in ("avg", "p99") for which in ("read", "write")},
    )
    call("dst_create_export", name="slow", bdev_name="Slow0")
    call("dst_export_add_host", export="slow", host="*", access="rw")
    yield Remote(remote.address, remote.port, "slow")
    if any(export["name"] == "slow" for export in call("dst_get_exports")):
        call("dst_delete_export", name="slow")
    call("bdev_delay_delete", name="Slow0")
    call("bdev_malloc_delete", name="Malloc1")


@contextmanager
def hanging_export(application: Application, remote: Remote, base: str = "Malloc2") -> Iterator[Remote]:
    """Creates export `hanging` of a bdev whose writes end only with a reset."""
    call = application.rpc.call
    if base == "Malloc2":
        call("bdev_malloc_create", name=base, num_blocks=2048, block_size=512)
    call("bdev_error_create", base_name=base)
    call("dst_create_export", name="hanging", bdev_name=f"EE_{base}")
    call("dst_export_add_host", export="hanging", host="*", access="rw")
    yield Remote(remote.address, remote.port, "hanging")
    wait_until(lambda: "hanging" not in {export["name"] for export in call("dst_get_exports")}, "the deletion")
    call("bdev_error_delete", name=f"EE_{base}")
    if base == "Malloc2":
        call("bdev_malloc_delete", name=base)


def writes_at(application: Application, bdev: str) -> int:
    """Returns the number of writes that the bdev has completed."""
    # SPDK adds the counts of closed channels first, and then those of open ones, so a channel that is
    # closed in between is left out.
    return max(application.iostat(bdev)["num_write_ops"] for _ in range(2))


def session_of(application: Application, host: str) -> dict[str, Any] | None:
    """Returns the session of this host as the target shows it."""
    sessions = application.rpc.call("dst_get_sessions")
    return next((session for session in sessions if session["host"] == host), None)


def await_requests(application: Application, host: str, counter: str, count: int) -> None:
    """Waits until the target has handed this many requests of this host to the backend."""

    def begun() -> bool:
        session = session_of(application, host)
        return session is not None and session["counters"][counter] >= count

    wait_until(begun, f"{count} {counter} of {host} in the backend")
