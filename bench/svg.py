"""A minimal SVG writer: text, lines, boxes, and pages."""

from __future__ import annotations

from html import escape

FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"

# Colours that are distinguishable with any colour vision, in this order (Okabe and Ito's palette).
COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#b8a800"]


class Page:
    """Coordinates are in pixels from the top left."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._height = 0.0
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, size: int = 12, anchor: str = "start", bold: bool = False) -> None:
        """`y` is the baseline; `anchor` is start, middle or end."""
        weight = " font-weight='bold'" if bold else ""
        place = f"x='{x:.1f}' y='{y:.1f}'"
        self._add(y + size / 2, f"<text {place} font-size='{size}' text-anchor='{anchor}'{weight}>", text)

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = "#bbbbbb", width: float = 1) -> None:
        place = f"x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'"
        self._add(max(y1, y2), f"<line {place} stroke='{colour}' stroke-width='{width}'/>")

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        place = f"x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height:.1f}'"
        self._add(y + height, f"<rect {place} fill='{colour}'/>")

    def dot(self, x: float, y: float, colour: str, radius: float = 4) -> None:
        self._add(y + radius, f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius}' fill='{colour}'/>")

    def path(self, points: list[tuple[float, float]], colour: str) -> None:
        shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add(0, f"<polyline points='{shown}' fill='none' stroke='{colour}' stroke-width='2'/>")

    def legend(self, x: float, y: float, names: dict[str, str]) -> float:
        """Draws names with their colours, in as many lines as needed. Returns the y below them."""
        left = x
        for name, colour in names.items():
            wide = 24 + 7.5 * len(name)
            if left + wide > self._width - 10:
                left, y = x, y + 18
            self.box(left, y - 10, 12, 12, colour)
            self.text(left + 17, y, name)
            left += wide + 8
        return y + 18

    def source(self) -> str:
        height = self._height + 14
        box = f"width='{self._width}' height='{height:.0f}' viewBox='0 0 {self._width} {height:.0f}'"
        head = f"<svg xmlns='http://www.w3.org/2000/svg' {box} {FONT}>"
        return "\n".join([head, "<rect width='100%' height='100%' fill='white'/>", *self._parts, "</svg>"]) + "\n"

    def _add(self, bottom: float, tag: str, text: str | None = None) -> None:
        self._height = max(self._height, bottom)
        self._parts.append(tag if text is None else f"{tag}{escape(text)}</text>")
