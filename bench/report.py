"""The report of the runs: lines of ratios, a table, and everything as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from cases import Case
from charts import draw
from peers.registry import BASE, COMPARED
from runs import FAR, MIXED, NEAR, Ratio, Run, best_variant, ratio

VALUES = {
    "IOPS": lambda figures: figures.iops,
    "mean": lambda figures: figures.mean_us,
    "p99": lambda figures: figures.p99_us,
}


def modes_of(runs: list[Run]) -> list[str]:
    return [mode for mode in (NEAR, FAR) if any(run.mode == mode for run in runs)]


class Report:
    def __init__(self, machine: dict[str, Any]) -> None:
        self._machine = machine
        self.runs: list[Run] = []
        self.ratios: list[dict[str, Any]] = []

    def add(self, case: Case, runs: list[Run]) -> list[str]:
        """Adds all runs of a case. Returns the lines that summarise them."""
        self.runs += runs
        lines = self._lines(case, runs, "ratio")
        if len(modes_of(runs)) > 1:
            for mode in modes_of(runs):
                lines += self._lines(case, [run for run in runs if run.mode == mode], f"ratio-{mode}", mode)
        return lines

    def _lines(self, case: Case, runs: list[Run], title: str, mode: str = "all") -> list[str]:
        """Returns the lines. The first compares IOPS with the other peers, the next ones latency,
        and DST with digests and ciphers."""
        theirs, safety = "", ""
        latencies = []
        for ours, family in COMPARED:
            peer = best_variant(runs, ours, family)
            if peer is None:
                continue
            found = {name: ratio(runs, ours, peer, value) for name, value in VALUES.items()}
            rates = found["IOPS"]
            assert rates is not None
            shown = f" {ours}/{family} {rates.median:.2f}"
            if ours == BASE:
                theirs += shown
            else:
                safety += shown
            if case.depth == 1 and found["mean"]:
                line = f"latency{title[5:]} {case.name} {ours}/{family} mean {found['mean'].median:.2f}"
                latencies.append(line + (f" p99 {found['p99'].median:.2f}" if found["p99"] else ""))
            self.ratios += [self._entry(case, ours, family, peer, mode, name, r) for name, r in found.items() if r]
        return [f"{title} {case.name}{shown}" for shown in (theirs, safety) if shown] + latencies

    def _entry(
        self, case: Case, ours: str, family: str, peer: str, mode: str, value: str, found: Ratio
    ) -> dict[str, Any]:
        return {
            "case": case.name,
            "ours": ours,
            "theirs": family,
            "variant": peer,
            "mode": mode,
            "of": value,
            "median": found.median,
            "least": min(found.values),
            "most": max(found.values),
            "quiet": found.quiet,
            "values": found.values,
        }

    def disturbed(self) -> float:
        """Returns the disturbance of the most disturbed run."""
        return max((run.disturbed for run in self.runs), default=0.0)

    def modes(self) -> str:
        """Returns a line for the description of the machine."""
        said = []
        for mode in (NEAR, FAR, MIXED):
            trips = [ns for run in self.runs if run.mode == mode for ns in (run.before_ns, run.after_ns)]
            if trips:
                said.append(f"{mode} in {len(trips) // 2} runs ({min(trips):.0f} to {max(trips):.0f} ns)")
        return "a cache line between the cores and back: " + (", ".join(said) or "not measured")

    def table(self) -> str:
        """Returns the medians of each peer's runs in each mode, then the ratios with their
        spread."""
        heading = f"{'case':<28} {'peer':<18} {'mode':<5} {'runs':>4} {'IOPS':>10} {'MiB/s':>8}"
        heading += "".join(f"{name:>10}" for name in ("mean µs", "p50 µs", "p99 µs", "p99.9 µs"))
        heading += f"{'disturbed':>11}"
        lines = [heading]
        for case, peer, mode in dict.fromkeys((run.case, run.peer, run.mode) for run in self.runs):
            if mode != MIXED:
                lines.append(self._row([r for r in self.runs if (r.case, r.peer, r.mode) == (case, peer, mode)]))
        lines += ["", "Ratios of neighbours in the same mode: median (minimum to maximum); of variants the best one"]
        for entry in self.ratios:
            found = Ratio(entry["values"], entry["quiet"])
            who = f"{entry['ours']}/{entry['variant']}"
            mode = "" if entry["mode"] == "all" else entry["mode"]
            lines.append(f"{entry['case']:<28} {who:<32} {entry['of']:<5} {mode:<5} {found}")
        return "\n".join(lines) + "\n"

    def _row(self, runs: list[Run]) -> str:
        case, found = runs[0].case, [run.figures for run in runs]
        iops = median(f.iops for f in found)
        line = f"{case.name:<28} {runs[0].peer:<18} {runs[0].mode:<5} {len(found):>4} {iops:>10,.0f}"
        line += f" {iops * case.size / 2**20:>8,.0f}"
        for name in ("mean_us", "p50_us", "p99_us", "p999_us"):
            value = median(getattr(f, name) for f in found)
            line += f"{value:>10,.1f}" if value else f"{'':>10}"
        line += f"{max(run.disturbed for run in runs):>11.0%}"
        cycles = median(f.client_cycles for f in found), median(f.target_cycles for f in found)
        return line + (f"  cycles an I/O: client {cycles[0]:,.0f}, target {cycles[1]:,.0f}" if all(cycles) else "")

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        machine = self._machine | {"cores": self.modes()}
        runs = [asdict(run) | {"case": run.case.name, "mode": run.mode} for run in self.runs]
        whole = {"machine": machine, "ratios": self.ratios, "runs": runs}
        (folder / "results.json").write_text(json.dumps(whole, indent=2) + "\n")
        described = "\n".join(f"{key}: {value}" for key, value in machine.items())
        draw(whole, folder)
        (folder / "results.txt").write_text(f"{described}\n\n{self.table()}")
