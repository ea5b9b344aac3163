#!/usr/bin/env python3
"""Draws the pictures of the documents: turns each text file beside this script into an SVG.

usage: docs/pictures/draw.py [NAME...]        without names: all

The first line of a source is its kind, `layers` or `sequence`, and the picture's title. `about`
describes the picture for those who cannot see it. In texts, `|` begins a new line. A `#` begins a
comment line.

layers:
    box ID COLOUR ROW FIRST LAST: name | text    the columns FIRST to LAST, of 12; ROW may be 0-2
    frame ID top|bottom ROW FIRST LAST: text     a dashed line around boxes, and where its text is
    arrow FROM TO                                from an edge of a box or frame straight to the other

sequence, from top to bottom:
    lane ID COLOUR X WIDTH: name | text          a vertical line at X (0 to 800)
    note LANE COLOUR [WIDTH]: text               a box on a lane
    FROM -> TO: text                             an arrow; --> is dashed, -x is cut off on its way
    pause: text                                  a line across

Colours mean the same in all pictures: see COLOURS. The SVG has its own background and colours for
dark surroundings, so it is readable in both. It depends on the source alone, so a test compares
each committed picture with what this script draws.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
WIDTH = 800
EDGE = 16
LINE = 16
TEXT_SIZE = 12
# The reader's font is not known. These are about the widths of DejaVu Sans, the widest of the usual
# sans-serif fonts, in em; bold is wider by an eighth.
NARROW = {**dict.fromkeys("ijl'|", 0.28), **dict.fromkeys(" .,:;I", 0.34), **dict.fromkeys("tfr()-/", 0.41)}
WIDE = {**dict.fromkeys("mMW…", 1.0), "w": 0.82}
BOLD = 1.125

# name: (fill, line) in light and in dark surroundings
COLOURS = {
    "client": (("#ddf0ff", "#0969da"), ("#0e2a47", "#58a6ff")),
    "target": (("#dcf7e3", "#1a7f37"), ("#10301b", "#3fb950")),
    "pure": (("#f1eafd", "#8250df"), ("#2a2042", "#a371f7")),
    "plain": (("#f3f5f7", "#6e7781"), ("#21262d", "#8b949e")),
    "copy": (("#fff3d4", "#9a6700"), ("#3a2a06", "#d29922")),
    "bad": (("#ffe9e7", "#cf222e"), ("#431619", "#f85149")),
}
# background, its edge, text, arrows, lines behind
SURROUNDINGS = (
    ("#ffffff", "#d0d7de", "#1f2328", "#424a53", "#afb8c1"),
    ("#161b22", "#30363d", "#e6edf3", "#b1bac4", "#57606a"),
)


class BadSource(Exception):
    """A picture's source cannot be drawn. The message has the file and line."""


def text_width(text: str, bold: bool) -> float:
    """Returns how wide a text may become, in pixels."""
    em = sum(NARROW.get(c) or WIDE.get(c) or (0.72 if c.isupper() else 0.63) for c in text)
    return em * TEXT_SIZE * (BOLD if bold else 1)


def style() -> str:
    rules = []
    for dark, (back, edge, text, arrow, behind) in enumerate(SURROUNDINGS):
        some = [
            f".back{{fill:{back};stroke:{edge}}}",
            f"text{{fill:{text}}}",
            f".under{{fill:{back}}}",
            f".arrow{{stroke:{arrow};fill:none}}",
            f".head{{fill:{arrow}}}",
            f".behind{{stroke:{behind};fill:none}}",
        ]
        some += [f".{name}{{fill:{c[dark][0]};stroke:{c[dark][1]}}}" for name, c in COLOURS.items()]
        some.append(f".cut{{stroke:{COLOURS['bad'][dark][1]};fill:none}}")
        rules.append("".join(some))
    fixed = (
        f"text{{font-family:sans-serif;font-size:{TEXT_SIZE}px;text-anchor:middle}}"
        ".name{font-weight:bold}.left{text-anchor:start}"
        ".arrow,.cut{stroke-width:1.5px}"
    )
    return f"<style>{fixed}{rules[0]}@media(prefers-color-scheme:dark){{{rules[1]}}}</style>"


class Canvas:
    """The elements of a picture, in the order in which they are drawn."""

    def __init__(self) -> None:
        self.elements: list[str] = []

    def add(self, element: str) -> None:
        self.elements.append(element)

    def rectangle(self, x: float, y: float, width: float, height: float, kind: str, more: str = "") -> None:
        self.add(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="{kind}"{more}/>'
        )

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        kind = f' class="{kind}"' if kind else ""
        self.add(f'<text x="{x:g}" y="{y:g}"{kind}>{escape(text)}</text>')

    def lines(self, x: float, middle: float, lines: list[str], named: bool = False) -> None:
        """Writes lines, centred around a point. The first one is the name if `named` is true."""
        first = middle - (len(lines) - 1) * LINE / 2 + 4
        for i, line in enumerate(lines):
            self.text(x, first + i * LINE, line, "name" if named and i == 0 else "")

    def lines_over(self, x: float, middle: float, lines: list[str]) -> None:
        """Writes lines in front of other lines of the picture, which end before them."""
        for i, line in enumerate(lines):
            width = text_width(line, False) + 4
            y = middle + (i - (len(lines) - 1) / 2) * LINE
            self.add(f'<rect x="{x - width / 2:g}" y="{y - 7:g}" width="{width:g}" height="14" class="under"/>')
        self.lines(x, middle, lines)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.add(f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" class="{kind}"{dash}/>')

    def arrow(self, x1: float, y1: float, x2: float, y2: float, dashed: bool = False) -> None:
        """Draws a horizontal or vertical arrow."""
        dx = (x2 > x1) - (x2 < x1)
        dy = (y2 > y1) - (y2 < y1)
        self.line(x1, y1, x2 - 6 * dx, y2 - 6 * dy, "arrow", dashed)
        back_x, back_y = x2 - 9 * dx, y2 - 9 * dy
        self.add(
            f'<path d="M{x2:g} {y2:g}L{back_x + 4 * dy:g} {back_y + 4 * dx:g}'
            f'L{back_x - 4 * dy:g} {back_y - 4 * dx:g}Z" class="head"/>'
        )

    def svg(self, title: str, about: str, height: float) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
            f'height="{height:g}" role="img" aria-labelledby="title about">'
        )
        names = f'<title id="title">{escape(title)}</title>\n<desc id="about">{escape(about)}</desc>'
        back = f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8" class="back"/>'
        return "\n".join([head, names, style(), back, *self.elements, "</svg>", ""])


@dataclass
class Statement:
    """A line of a source: the words before the colon, and the lines of the text behind it."""

    at: str
    words: list[str]
    lines: list[str]

    def expect(self, is_so: bool, what: str) -> None:
        if not is_so:
            raise BadSource(f"{self.at}: {what}")

    def number(self, word: str, least: int, most: int) -> int:
        self.expect(word.isdecimal() and least <= int(word) <= most, f"{word!r} is not from {least} to {most}")
        return int(word)

    def colour(self, word: str) -> str:
        self.expect(word in COLOURS, f"{word!r} is not a colour; there are {', '.join(COLOURS)}")
        return word

    def expect_fit(self, width: float, named: bool = False) -> None:
        for i, line in enumerate(self.lines):
            needs = text_width(line, named and i == 0)
            self.expect(needs <= width, f"{line!r} is {needs:.0f} pixels wide; there is room for {width:.0f}")


@dataclass
class Box:
    colour: str
    lines: list[str]
    rows: tuple[int, int]
    left: float
    right: float
    top: float = 0
    bottom: float = 0


def range_of(statement: Statement, word: str) -> tuple[int, int]:
    first, _, last = word.partition("-")
    begin = statement.number(first, 0, 20)
    return begin, statement.number(last or first, begin, 20)


def draw_layers(canvas: Canvas, statements: list[Statement]) -> float:
    """Draws boxes in rows. Returns the height."""
    gap, padding, label = 46, 9, 24
    column = (WIDTH - 2 * EDGE) / 12
    boxes: dict[str, Box] = {}
    frames: dict[str, tuple[Box, bool]] = {}
    arrows: list[tuple[Box, Box, Statement]] = []

    def columns(s: Statement, first: str, last: str) -> tuple[float, float]:
        begin = s.number(first, 1, 12)
        end = s.number(last, begin, 12)
        return EDGE + (begin - 1) * column, EDGE + end * column

    for s in statements:
        match s.words:
            case ["box", name, colour, row, first, last]:
                left, right = columns(s, first, last)
                boxes[name] = Box(s.colour(colour), s.lines, range_of(s, row), left + 12, right - 12)
                s.expect_fit(right - left - 30, named=True)
            case ["frame", name, "top" | "bottom" as place, row, first, last]:
                left, right = columns(s, first, last)
                frames[name] = (Box("behind", s.lines, range_of(s, row), left, right), place == "top")
                s.expect_fit(right - left - 24)
            case ["arrow", a, b]:
                ends = [frames[name][0] if name in frames else boxes.get(name) for name in (a, b)]
                s.expect(None not in ends, f"{a!r} or {b!r} is not the name of a box or frame")
                arrows.append((*ends, s))
            case _:
                s.expect(False, f"{' '.join(s.words)!r} is none of: box, frame, arrow")

    tops: list[float] = [EDGE + (label if frames else 0)]
    for row in range(1 + max(box.rows[1] for box in boxes.values())):
        in_row = [len(box.lines) for box in boxes.values() if box.rows == (row, row)]
        tops.append(tops[-1] + max(in_row, default=1) * LINE + 2 * padding + gap)
    for box in [*boxes.values(), *(frame for frame, _ in frames.values())]:
        box.top, box.bottom = tops[box.rows[0]], tops[box.rows[1] + 1] - gap
    for frame, is_above in frames.values():
        frame.top -= label if is_above else 10
        frame.bottom += 10 if is_above else label
        height = frame.bottom - frame.top
        canvas.rectangle(frame.left, frame.top, frame.right - frame.left, height, "behind", ' stroke-dasharray="4 4"')
    for a, b, s in arrows:
        left, right = max(a.left, b.left), min(a.right, b.right)
        top, bottom = max(a.top, b.top), min(a.bottom, b.bottom)
        if left < right:
            x = (left + right) / 2
            canvas.arrow(x, a.bottom, x, b.top)
        else:
            s.expect(top < bottom, "no straight arrow leads from the one to the other")
            y = (top + bottom) / 2
            ends = (a.right, b.left) if a.right < b.left else (a.left, b.right)
            canvas.arrow(ends[0], y, ends[1], y)
    for frame, is_above in frames.values():
        y = frame.top + 15 if is_above else frame.bottom - 8
        canvas.text(frame.left + 12, y, " ".join(frame.lines), "left")
    for box in boxes.values():
        canvas.rectangle(box.left, box.top, box.right - box.left, box.bottom - box.top, box.colour)
        canvas.lines((box.left + box.right) / 2, (box.top + box.bottom) / 2, box.lines, named=True)
    return tops[-1] - gap + EDGE + (label if frames else 0)


def draw_sequence(canvas: Canvas, statements: list[Statement]) -> float:
    """Draws lanes, and what happens on and between them. Returns the height."""
    lanes: dict[str, tuple[float, float]] = {}
    heads: list[tuple[Statement, str]] = []
    head_height = 0.0
    for s in statements:
        if s.words[0] == "lane":
            s.expect(len(s.words) == 5, "a lane is: lane ID COLOUR X WIDTH: name")
            _, name, colour, x, width = s.words
            lanes[name] = (s.number(x, 0, WIDTH), s.number(width, 20, WIDTH))
            heads.append((s, s.colour(colour)))
            s.expect_fit(lanes[name][1] - 10, named=True)
            head_height = max(head_height, len(s.lines) * LINE + 14)
    top = EDGE + head_height
    y = top + 14
    drawn = Canvas()

    for s in statements:
        match s.words:
            case ["lane", *_]:
                continue
            case ["note", lane, colour, *width]:
                s.expect(lane in lanes, f"no lane is named {lane!r}")
                x = lanes[lane][0]
                wide = s.number(width[0], 20, WIDTH) if width else lanes[lane][1]
                height = len(s.lines) * LINE + 10
                s.expect_fit(wide - 10)
                s.expect(x - wide / 2 >= 4 and x + wide / 2 <= WIDTH - 4, "the note is outside of the picture")
                drawn.rectangle(x - wide / 2, y, wide, height, s.colour(colour))
                drawn.lines(x, y + height / 2, s.lines)
                y += height + 12
            case [a, ("->" | "-->" | "-x") as kind, b]:
                for name in (a, b):
                    s.expect(name in lanes, f"no lane is named {name!r}")
                x1, x2 = lanes[a][0], lanes[b][0]
                if kind == "-x":
                    x2 = x1 + (x2 - x1) * 0.7
                s.expect_fit(abs(x2 - x1) - 18)
                y += len(s.lines) * LINE
                middle = y - 6 - (len(s.lines) - 1) * LINE / 2 - 4
                drawn.lines_over((x1 + x2) / 2, middle, s.lines)
                if kind == "-x":
                    drawn.line(x1, y, x2, y, "arrow")
                    drawn.line(x2 - 6, y - 6, x2 + 6, y + 6, "cut")
                    drawn.line(x2 - 6, y + 6, x2 + 6, y - 6, "cut")
                else:
                    drawn.arrow(x1, y, x2, y, dashed=kind == "-->")
                y += 14
            case ["pause"]:
                s.expect_fit(WIDTH - 2 * EDGE)
                y += 6
                drawn.line(EDGE, y, WIDTH - EDGE, y, "behind", dashed=True)
                drawn.lines_over(WIDTH / 2, y, s.lines)
                y += 18
            case _:
                s.expect(False, f"{' '.join(s.words)!r} is none of: lane, note, pause, FROM -> TO")

    for s, colour in heads:
        x, width = lanes[s.words[1]]
        canvas.line(x, top, x, y, "behind")
        canvas.rectangle(x - width / 2, EDGE, width, head_height, colour)
        canvas.lines(x, EDGE + head_height / 2, s.lines, named=True)
    canvas.elements += drawn.elements
    return y + EDGE - 6


KINDS = {"layers": draw_layers, "sequence": draw_sequence}


def draw(source: str, name: str) -> str:
    """Returns the SVG of a picture's source. `name` is for messages."""
    statements = []
    for number, line in enumerate(source.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            words, _, text = line.partition(":")
            lines = [part.strip() for part in text.split("|")]
            statements.append(Statement(f"{name}:{number}", words.split(), lines))
    if not statements or statements[0].words[:1] not in [[kind] for kind in KINDS]:
        raise BadSource(f"{name}:1: the first line has to be `layers: title` or `sequence: title`")
    title, *rest = statements
    about = " ".join(line for s in rest if s.words == ["about"] for line in s.lines)
    title.expect(about != "", "`about: …` is missing, the description for those who cannot see the picture")
    drawn = [s for s in rest if s.words != ["about"]]
    title.expect(any(s.words[0] in ("box", "lane") for s in drawn), "there is nothing to draw")
    canvas = Canvas()
    height = KINDS[title.words[0]](canvas, drawn)
    return canvas.svg(" ".join(title.lines), about, height)


def sources() -> list[Path]:
    """Returns the sources of all pictures."""
    return sorted(HERE.glob("*.txt"))


def main() -> int:
    chosen = [HERE / f"{name}.txt" for name in sys.argv[1:]] or sources()
    try:
        for path in chosen:
            path.with_suffix(".svg").write_text(draw(path.read_text(), path.name))
    except (BadSource, OSError) as error:
        print(f"draw.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
