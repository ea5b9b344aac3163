"""Figures of runs, ratios of runs that were neighbours in time, and how both are shown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Iterable

from cases import Case
from measure import Figures

LIMIT = "limit"


@dataclass(frozen=True)
class Run:
    case: Case
    peer: str
    rival: str
    round: int
    figures: Figures


@dataclass(frozen=True)
class Ratio:
    """Of IOPS, a value a round."""

    values: list[float]

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({min(self.values):.2f} to {max(self.values):.2f})"


def best_variant(runs: Iterable[Run], rival: str) -> str:
    """The rival's variant with the highest median of IOPS."""
    by_peer: dict[str, list[float]] = {}
    for run in runs:
        if run.rival == rival:
            by_peer.setdefault(run.peer, []).append(run.figures.iops)
    return max(by_peer, key=lambda peer: median(by_peer[peer]))


def ratio(runs: list[Run], peer: str, other: str) -> Ratio:
    def of(name: str) -> dict[int, float]:
        return {run.round: run.figures.iops for run in runs if run.peer == name}

    ours, theirs = of(peer), of(other)
    return Ratio([ours[n] / theirs[n] for n in sorted(ours.keys() & theirs.keys())])


class Report:
    def __init__(self, machine: dict[str, Any], quick: bool) -> None:
        self._machine = machine
        self._quick = quick
        self._runs: list[Run] = []
        self._ratios: list[dict[str, Any]] = []
        self._lines: list[str] = []

    def add(self, case: Case, runs: list[Run], rivals: list[str]) -> str:
        """Takes all runs of a case. Gives the line that says how it went."""
        self._runs += runs
        line = f"ratio {case.name}"
        entry: dict[str, Any] = {"case": case.name}
        for rival in rivals:
            peer = best_variant(runs, rival)
            found = ratio(runs, "dst", peer)
            line += f" dst/{rival} {found.median:.2f}"
            entry[f"dst/{rival}"] = {"median": found.median, "values": found.values, "variant": peer}
            self._lines.append(f"{case.name:<22} dst/{peer:<14} {found}")
        self._ratios.append(entry)
        return line

    def table(self) -> str:
        """Medians of each peer's runs, then the ratios with their spread."""
        heading = f"{'case':<22} {'peer':<14} {'runs':>4} {'IOPS':>10} {'MiB/s':>8}"
        heading += "".join(f"{name:>10}" for name in ("mean µs", "p50 µs", "p99 µs", "p99.9 µs"))
        lines = [heading]
        for case, peer in dict.fromkeys((run.case, run.peer) for run in self._runs):
            found = [run.figures for run in self._runs if run.case == case and run.peer == peer]
            iops = median(f.iops for f in found)
            line = f"{case.name:<22} {peer:<14} {len(found):>4} {iops:>10,.0f} {iops * case.size / 2**20:>8,.0f}"
            for name in ("mean_us", "p50_us", "p99_us", "p999_us"):
                value = median(getattr(f, name) for f in found)
                line += f"{value:>10,.1f}" if value else f"{'':>10}"
            lines.append(line.rstrip())
        lines += ["", "Ratios of IOPS: median (least to most) of the rounds; of a rival's variants, the best one"]
        return "\n".join(lines + self._lines) + "\n"

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        whole = {
            "machine": self._machine,
            "quick": self._quick,
            "ratios": self._ratios,
            "runs": [asdict(run) for run in self._runs],
        }
        (folder / "results.json").write_text(json.dumps(whole, indent=2) + "\n")
        machine = "\n".join(f"{key}: {value}" for key, value in self._machine.items())
        (folder / "results.txt").write_text(f"{machine}\n\n{self.table()}")
