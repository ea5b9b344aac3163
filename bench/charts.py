"""Draws charts of results.json: the ratios of each case, and each peer's IOPS and latencies."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median
from typing import Any, Callable

from cases import parse
from svg import COLOURS, Page

WIDTH = 900
LABELS = 290
"""The width of the left margin for names, in pixels."""
RIGHT = WIDTH - 120
"""The position at which the longest bar ends."""

# The peers in ratios.svg, in the order of the colours.
AGAINST = ["nvmf", "limit", "iscsi", "nbd"]


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Writes the charts and returns their files."""
    machine = described(results["machine"])
    # A median over both modes of the machine would describe neither.
    modes = [run["mode"] for run in results["runs"] if run["mode"] != "mixed"]
    mode = max(modes, key=modes.count, default="")
    runs = [run for run in results["runs"] if run["mode"] == mode]
    charts = {
        "ratios.svg": ratios(results["ratios"], machine),
        "iops.svg": bars(runs, f"{machine}; cores {mode}. Each case has its own scale."),
        "latency.svg": latencies(runs, f"{machine}; cores {mode}."),
    }
    files = []
    for name, source in charts.items():
        if source:
            (folder / name).write_text(source)
            files.append(folder / name)
    return files


def described(machine: dict[str, Any]) -> str:
    virtual = ", virtual" if machine["virtual"] else ""
    return f"{machine['cpu']} ({machine['cpus']} CPUs{virtual}), Linux {machine['kernel']}, SPDK {machine['spdk']}"


def _page(title: str, subtitle: str) -> Page:
    page = Page(WIDTH)
    page.text(20, 30, title, size=18, bold=True)
    page.text(20, 50, subtitle, size=11)
    return page


def ratios(entries: list[dict[str, Any]], machine: str) -> str | None:
    """Draws a row for each case and a dot for each peer, with a line from the minimum to the
    maximum. Logarithmic."""
    iops = [e for e in entries if e["of"] == "IOPS" and e["mode"] == "all"]
    shown = [e for e in iops if e["ours"] == "dst" and e["theirs"] in AGAINST]
    if not shown:
        return None
    colours = {name: COLOURS[AGAINST.index(name)] for name in AGAINST if any(e["theirs"] == name for e in shown)}
    low = min(0.5, *(e["least"] for e in shown))
    high = max(2.0, *(e["most"] for e in shown))

    def across(value: float) -> float:
        return LABELS + (RIGHT - LABELS) * math.log(value / low) / math.log(high / low)

    page = _page("DST's I/O a second, as a multiple of its peers'", machine)
    top = page.legend(20, 76, {f"DST / {name}": colour for name, colour in colours.items()}) + 14
    cases = list(dict.fromkeys(e["case"] for e in shown))
    y = top + 6
    for case in cases:
        page.line(20, y - 2, RIGHT, y - 2, "#eeeeee")
        page.text(20, y + 14, case)
        for entry in (e for e in shown if e["case"] == case):
            colour = colours[entry["theirs"]]
            page.line(across(entry["least"]), y + 9, across(entry["most"]), y + 9, colour, 2)
            page.dot(across(entry["median"]), y + 9, colour)
            page.text(RIGHT + 8, y + 13, f"{entry['median']:.2f} {entry['theirs']}", size=11)
            y += 17
        y += 8
    _ticks(page, [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20], (low, high), across, top, y)
    return page.source()


def bars(runs: list[dict[str, Any]], subtitle: str) -> str | None:
    """Draws a group for each case and a bar for each peer: medians, with a line from the minimum to
    the maximum. Each group has its own scale."""
    if not runs:
        return None
    families = list(dict.fromkeys(run["family"] for run in runs))
    colours = {family: COLOURS[number % len(COLOURS)] for number, family in enumerate(families)}
    page = _page("I/O a second: medians, least and most", subtitle)
    y = page.legend(20, 76, colours) + 8
    for case in dict.fromkeys(run["case"] for run in runs):
        page.text(20, y + 12, case, bold=True)
        y += 20
        here = [run for run in runs if run["case"] == case]
        most = max(run["figures"]["iops"] for run in here)
        for peer in dict.fromkeys(run["peer"] for run in here):
            found = [run["figures"]["iops"] for run in here if run["peer"] == peer]
            family = next(run["family"] for run in here if run["peer"] == peer)
            page.text(LABELS - 100, y + 11, peer, size=11, anchor="end")
            left, scale = LABELS - 92, (RIGHT - LABELS + 92) / most
            page.box(left, y + 1, median(found) * scale, 12, colours[family])
            page.line(left + min(found) * scale, y + 7, left + max(found) * scale, y + 7, "#333333")
            page.text(left + max(found) * scale + 6, y + 11, f"{median(found):,.0f}", size=11)
            y += 16
        y += 8
    return page.source()


def latencies(runs: list[dict[str, Any]], subtitle: str) -> str | None:
    """Draws p50, p99 and p99.9 of each peer at depth 1, logarithmic."""
    names = {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9"}
    colours = dict(zip(names, COLOURS))
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for run in runs:
        if parse(run["case"]).depth == 1 and run["figures"]["p50_us"]:
            found.setdefault((run["case"], run["peer"]), []).append(run["figures"])
    if not found:
        return None
    medians = {key: {name: median(f[name] for f in figures) for name in names} for key, figures in found.items()}
    values = [value for row in medians.values() for value in row.values()]
    low, high = min(values) * 0.9, max(values) * 1.1

    def across(value: float) -> float:
        return LABELS + (RIGHT - LABELS) * math.log(value / low) / math.log(high / low)

    page = _page("Latency of one I/O at a time, in µs: medians of the runs", subtitle)
    top = page.legend(20, 76, {names[name]: colour for name, colour in colours.items()}) + 10
    y, before = top, ""
    for (case, peer), row in medians.items():
        if case != before:
            y += 8 if before else 0
            page.text(20, y + 14, case, bold=True)
            before = case
        page.text(LABELS - 10, y + 14, peer, size=11, anchor="end")
        page.line(across(row["p50_us"]), y + 10, across(row["p999_us"]), y + 10)
        for name, value in row.items():
            page.dot(across(value), y + 10, colours[name])
        page.text(RIGHT + 8, y + 14, " / ".join(f"{value:.0f}" for value in row.values()), size=11)
        y += 18
    _ticks(page, [5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000], (low, high), across, top, y)
    return page.source()


def _ticks(
    page: Page,
    ticks: list[float],
    ends: tuple[float, float],
    across: Callable[[float], float],
    top: float,
    bottom: float,
) -> None:
    """Draws the grid lines between the ends. The line at 1 is dark."""
    for tick in ticks:
        if ends[0] <= tick <= ends[1]:
            page.line(across(tick), top, across(tick), bottom, "#444444" if tick == 1 else "#dddddd")
            page.text(across(tick), bottom + 14, f"{tick:g}", size=11, anchor="middle")


def scale_chart(rows: list[dict[str, Any]], machine: str) -> str:
    """Draws total IOPS over the number of connections, both logarithmic, with a line for each load
    and peer."""
    modes = [row["mode"] for row in rows]
    mode = max(modes, key=modes.count, default="")
    series: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row["mode"] == mode and row["exports"] == 1:
            series.setdefault(f"{row['peer']}, {row['load']}", []).append((row["connections"], row["iops"]))
    page = _page("I/O a second in all, by the number of connections to one target", f"{machine}; cores {mode}.")
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(series)}
    top = page.legend(20, 76, colours) + 16
    left, bottom = 90.0, top + 320
    values = [iops for points in series.values() for _, iops in points] or [1.0]
    high, low = max(values) * 1.3, min(values) / 1.3
    most = max((count for points in series.values() for count, _ in points), default=1)

    def across(count: float) -> float:
        return left + (RIGHT - left) * math.log(count) / math.log(max(most, 2))

    def up(iops: float) -> float:
        return bottom - (bottom - top) * math.log(iops / low) / math.log(high / low)

    for tick in (10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000):
        if low <= tick <= high:
            page.line(left, up(tick), RIGHT, up(tick), "#dddddd")
            page.text(left - 8, up(tick) + 4, f"{tick:,}", size=11, anchor="end")
    for count in sorted({count for points in series.values() for count, _ in points}):
        page.line(across(count), top, across(count), bottom, "#dddddd")
        page.text(across(count), bottom + 16, f"{count:,}", size=11, anchor="middle")
    for name, points in series.items():
        places = [(across(count), up(iops)) for count, iops in sorted(points)]
        page.path(places, colours[name])
        for place in places:
            page.dot(*place, colours[name])
    page.text((left + RIGHT) / 2, bottom + 34, "connections", anchor="middle")
    idle = {row["connections"]: row["memory_kib"] + row["hugepages_kib"] for row in rows if row["peer"] == "dst"}
    shown = ", ".join(f"{kib:.0f} KiB with {count:,}" for count, kib in sorted(idle.items()))
    page.text(20, bottom + 60, f"Memory of the target a client (two connections) while all are idle: {shown}", size=11)
    return page.source()
