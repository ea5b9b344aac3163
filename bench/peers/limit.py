"""The limit: the same bytes as DST's over plain sockets, by the program in limit/."""

from __future__ import annotations

import json
from contextlib import closing

import machine
from cases import Case
from harness.lab import Lab
from harness.transport import Dst
from harness.waiting import wait_until
from measure import Figures, of_rate
from peers import Peer, Spdk
from stage import Stage, core_masks

# The size of a frame's header: HEADER_LEN in src/wire/header.rs.
HEADER = 48


class LimitPeer(Peer):
    name = family = "limit"

    def suits(self, case: Case) -> bool:
        # It has no mixed workloads, and only one thread.
        return case.workload != "randrw" and case.cores == 1

    def missing(self, spdk: Spdk) -> str | None:
        return None

    def run(self, stage: Stage) -> tuple[Figures, float]:
        # A separate lab, for its own logs.
        with closing(Lab(Dst())) as lab:
            return self._run(stage, lab)

    def _run(self, stage: Stage, lab: Lab) -> tuple[Figures, float]:
        case, program = stage.case, machine.limit_program()
        client_core, target_core = core_masks(1)
        with_data, without = HEADER + case.size, HEADER
        request, reply = (with_data, without) if case.workload == "randwrite" else (without, with_data)
        server = lab.process("limit-serve", ["taskset", target_core, program, "serve"])
        port = wait_until(lambda: _last_line(server.text()), "dst-limit to listen")
        numbers = {"port": port, "request": request, "reply": reply, "depth": case.depth, "ms": stage.limit_ms}
        options = [part for name, value in numbers.items() for part in (f"--{name}", str(value))]
        driver = lab.process("limit-drive", ["taskset", client_core, program, "drive", *options])
        # Only the server is watched, since the driver is gone when it has finished.
        code, disturbed = machine.watch([server.pid], lambda: driver.wait(stage.limit_ms / 1e3 + 10.0))
        assert code == 0, driver.tail()
        return of_rate(float(json.loads(_last_line(driver.text()))["iops"]), case.depth), disturbed


def _last_line(log: str) -> str:
    """Returns the last line that was printed, or nothing if it is incomplete. The first line of a
    log is the command."""
    lines = log.splitlines()[1:]
    return lines[-1] if lines and log.endswith("\n") else ""
