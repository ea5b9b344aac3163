"""Figures of runs, ratios of runs that were neighbours in time, and how both are shown."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Iterable

from cases import Case
from measure import Figures

LIMIT = "limit"

# A run in which others had a larger part of a core's time than this is disturbed.
DISTURBED = 0.05


@dataclass(frozen=True)
class Run:
    case: Case
    peer: str
    rival: str
    round: int
    figures: Figures
    disturbed: float = 0.0
    """Part of the time in which other processes had the cores of one of the two sides."""


@dataclass(frozen=True)
class Ratio:
    """Of IOPS, a value a round."""

    values: list[float]
    quiet: bool
    """Whether these are rounds that other processes left alone; else there was none."""

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        doubt = "" if self.quiet else ", all of them disturbed"
        spread = f"{min(self.values):.2f} to {max(self.values):.2f}"
        return f"{self.median:.2f} ({spread}; rounds: {len(self.values)}{doubt})"


def ratio(runs: Iterable[Run], peer: str, other: str) -> Ratio:
    """Of the rounds in which both ran, left alone by other processes if there is any such round."""
    by_round: dict[int, dict[str, Run]] = {}
    for run in runs:
        by_round.setdefault(run.round, {})[run.peer] = run
    pairs = [(both[peer], both[other]) for both in by_round.values() if peer in both and other in both]
    quiet = [pair for pair in pairs if all(run.disturbed <= DISTURBED for run in pair)]
    return Ratio([ours.figures.iops / theirs.figures.iops for ours, theirs in quiet or pairs], bool(quiet))


def best_variant(runs: Iterable[Run], rival: str) -> str:
    """The rival's variant that DST looks worst beside, of those that ran in most rounds."""
    runs = list(runs)
    rounds = Counter(run.peer for run in runs if run.rival == rival)
    most = [peer for peer, count in rounds.items() if count == max(rounds.values())]
    return min(most, key=lambda peer: ratio(runs, "dst", peer).median)


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
            entry[f"dst/{rival}"] = {"median": found.median, "variant": peer} | asdict(found)
            self._lines.append(f"{case.name:<22} {f'dst/{peer}':<24} {found}")
        self._ratios.append(entry)
        return line

    def compare(self, case: Case, runs: list[Run], pairs: list[tuple[str, str]]) -> str:
        """The line of ratios between two of our own variants, or between one of them and somebody else's; empty if
        none of them ran."""
        ran = {run.peer for run in runs}
        line = ""
        for ours, theirs in pairs:
            if {ours, theirs} <= ran:
                found = ratio(runs, ours, theirs)
                line += f" {ours}/{theirs} {found.median:.2f}"
                self._ratios[-1][f"{ours}/{theirs}"] = {"median": found.median} | asdict(found)
                self._lines.append(f"{case.name:<22} {f'{ours}/{theirs}':<24} {found}")
        return f"ratio {case.name}{line}" if line else ""

    def disturbed(self) -> float:
        """Of the run that was disturbed most."""
        return max(run.disturbed for run in self._runs)

    def table(self) -> str:
        """Medians of each peer's runs, then the ratios with their spread."""
        heading = f"{'case':<22} {'peer':<15} {'runs':>4} {'IOPS':>10} {'MiB/s':>8}"
        heading += "".join(f"{name:>10}" for name in ("mean µs", "p50 µs", "p99 µs", "p99.9 µs"))
        heading += f"{'disturbed':>11}"
        lines = [heading]
        for case, peer in dict.fromkeys((run.case, run.peer) for run in self._runs):
            mine = [run for run in self._runs if run.case == case and run.peer == peer]
            found = [run.figures for run in mine]
            iops = median(f.iops for f in found)
            line = f"{case.name:<22} {peer:<15} {len(found):>4} {iops:>10,.0f} {iops * case.size / 2**20:>8,.0f}"
            for name in ("mean_us", "p50_us", "p99_us", "p999_us"):
                value = median(getattr(f, name) for f in found)
                line += f"{value:>10,.1f}" if value else f"{'':>10}"
            lines.append(f"{line}{max(run.disturbed for run in mine):>11.0%}")
        lines += ["", "Ratios of IOPS in the same round: median (least to most); of a rival's variants the best one"]
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
