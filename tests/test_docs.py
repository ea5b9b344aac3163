"""The documents: links lead somewhere, pictures are as drawn and true, and the site builds."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

from harness.commands import run

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def script(path: str) -> ModuleType:
    """Returns a script of the repository as a module."""
    name = "script_" + Path(path).stem
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look for their module there.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


links = script("check/links.py")
pictures = script("docs/pictures/draw.py")


# --- check/links.py, which `make check` runs over the documents


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("[a](docs/page.md#two-words)", None),
        ("[a](docs/page.md#two-words-1 'title')", None),
        ("[a](docs/page.md#code---option-and-link)", None),
        ("[a](#here) and [a](docs) and [a](docs/picture.svg)", None),
        ("[a](https://nowhere.invalid/) and `[a](b)` and\n```\n[a](b)\n```\n", None),
        ("````\n```\nnot the end: [a](b)\n````\n", None),
        ("[a](docs/other.md)", "no such file"),
        ("[a\nb](docs/other.md)", "no such file"),
        ("[name]: docs/other.md", "no such file"),
        ("![a](docs/other.svg)", "no such file"),
        ("[a](docs/page.md#three-words)", "no heading"),
        ("[a](docs/page.md#not-a-heading)", "no heading"),
        ("[a](docs/page.md#two-words-2)", "no heading"),
        ("[a](#nowhere)", "no heading"),
        ("```\n[a](b)\n```\n[a](docs/other.md)", "README.md:5: docs/other.md: no such file"),
        ("[a](docs/picture.svg#part)", "only Markdown files have anchors"),
        ("[a](../outside.md)", "no such file"),
        ("[a](/docs/page.md)", "not a relative link"),
        ("[a]()", "not a relative link"),
        ("[a](build/page.md)", "no such file"),
    ],
)
def test_links(tmp_path: Path, text: str, wrong: str | None) -> None:
    for folder in ("docs", "build"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "page.md").write_text(
            "# Two words\n## Two words\n### `code`, --option and [link](page.md)\n```\n# Not a heading\n```\n"
            "[up](../README.md#here)\n"
        )
    (tmp_path / "docs" / "picture.svg").write_text("<svg/>")
    (tmp_path / "README.md").write_text(f"# Here\n{text}\n")
    (tmp_path.parent / "outside.md").write_text("")
    found = links.broken(tmp_path)
    if wrong is None:
        assert found == []
    else:
        assert len(found) == 1 and wrong in found[0], found


# --- docs/pictures


def test_pictures_are_as_drawn() -> None:
    """Each committed picture is what its source gives; `docs/pictures/draw.py` draws all anew."""
    sources = pictures.sources()
    assert len(sources) >= 4
    for path in sources:
        assert path.with_suffix(".svg").read_text() == pictures.draw(path.read_text(), path.name), path.name


def test_pictures_are_shown() -> None:
    """Each picture has a source and a place in a document, and what a document shows is there."""
    shown = {
        (document.parent / link).resolve()
        for document in DOCUMENTS
        for _, link in links.links(document.read_text())
        if link.endswith(".svg")
    }
    assert shown == {path.with_suffix(".svg") for path in pictures.sources()}
    assert shown == set((ROOT / "docs" / "pictures").glob("*.svg"))


@pytest.mark.parametrize(
    "source, error",
    [
        ("", "bad.txt:1: the first line has to be"),
        ("circle: a\nabout: b", "bad.txt:1: the first line has to be"),
        ("layers: a", "bad.txt:1: `about: …` is missing"),
        ("layers: a\nabout: b", "bad.txt:1: there is nothing to draw"),
        ("layers: a\nabout: b\nbox x plain 0 1 12: x\narrow x y", "bad.txt:4: 'x' or 'y' is not"),
        ("layers: a\nabout: b\nbox x plain 0 1 6: x\nbox y plain 1 7 12: y\narrow x y", "bad.txt:5: no straight"),
        ("layers: a\nabout: b\nbox x plain 0 1 13: x", "bad.txt:3: '13' is not from 1 to 12"),
        ("layers: a\nabout: b\nbox x plain 0 1 1: longer than a box of one column", "bad.txt:3: 'longer than"),
        ("layers: a\nabout: b\nbox x plain 0 1 12: x\nnote x plain: c", "bad.txt:4: 'note x plain' is none of"),
        ("sequence: a\nabout: b\nlane x red 100 50: x", "bad.txt:3: 'red' is not a colour"),
        ("sequence: a\nabout: b\n# c\nlane x plain 100: x", "bad.txt:4: a lane is"),
        ("sequence: a\nabout: b\nlane x plain 90 90: x\nx -> y: c", "bad.txt:4: no lane is named 'y'"),
        ("sequence: a\nabout: b\nlane x plain 90 90: x\nnote x plain 190: c", "bad.txt:4: the note is outside"),
        ("sequence: a\nabout: b\nlane x plain 90 90: x\nhello", "bad.txt:4: 'hello' is none of"),
    ],
)
def test_sources_that_cannot_be_drawn(source: str, error: str) -> None:
    with pytest.raises(pictures.BadSource, match=re.escape(error)):
        pictures.draw(source, "bad.txt")


def dependencies(folder: str) -> set[str]:
    """Returns the folders of the crates that a crate depends on, and `spdk/` if it uses that."""
    manifest = tomllib.loads((ROOT / folder / "Cargo.toml").read_text())
    paths = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["dependencies"]
    found = set()
    for name, how in manifest.get("dependencies", {}).items():
        local = isinstance(how, dict) and how.get("path")
        path = (ROOT / folder / local).resolve() if local else None
        if path is None and isinstance(how, dict) and how.get("workspace"):
            known = paths[name]
            path = (ROOT / known["path"]).resolve() if isinstance(known, dict) and "path" in known else None
        if path is not None:
            relative = str(path.relative_to(ROOT))
            found.add("spdk/" if relative.startswith("spdk/") else relative)
    return found


def test_the_picture_of_the_layers_is_true() -> None:
    """What an arrow says, a Cargo.toml says, too, and no layer depends on one above it."""
    source = (ROOT / "docs" / "pictures" / "layers.txt").read_text()
    boxes = {
        name: (int(row.split("-")[0]), folder)
        for name, row, folder in re.findall(r"^box (\w+) \w+ (\S+) \d+ \d+: (\S+)", source, re.MULTILINE)
    }
    arrows = re.findall(r"^arrow (\w+) (\w+)$", source, re.MULTILINE)
    assert len(boxes) == 11 and len(arrows) == 15
    for a, b in arrows:
        if a != "inside":
            assert boxes[b][1] in dependencies(boxes[a][1]), f"{a} does not depend on {b}"
    rows = {folder: row for row, folder in boxes.values()}
    for row, folder in boxes.values():
        if folder == "spdk/":
            continue
        uses = dependencies(folder)
        # The frames: rows 0 to 2 are on SPDK's threads, the others are without SPDK.
        assert ("spdk/" in uses) == (row <= 2), folder
        above = [used for used in uses - {"spdk/"} if rows.get(used, row) < row]
        assert above == [], f"{folder} depends on what is above it: {above}"


def test_pictures_name_functions_that_exist() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
    names = {
        name
        for path in pictures.sources()
        for name in re.findall(r"\b([A-Z]\w+)::(\w+)", path.read_text())
    }
    assert ("Queue", "end") in names
    for owner, function in sorted(names):
        assert re.search(rf"\bimpl(?:<[^>]*>)? {owner}\b", code), f"no type {owner}"
        assert re.search(rf"\bfn {function}\b", code), f"no function {owner}::{function}"


# --- the site


class Page(HTMLParser):
    """The anchors of an HTML page, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.refers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.refers.append(value)


@pytest.mark.watchdog(180)
def test_the_site(tmp_path: Path) -> None:
    """`make docs`: all pages are there, with a search, and everything that they refer to is there."""
    python = "/usr/bin/python3"
    missing = shutil.which(python) is None
    for module in ("sphinx", "myst_parser", "furo"):
        missing = missing or importlib.util.find_spec(module) is None
    if missing:
        pytest.skip("Sphinx, its reader of Markdown or its theme is not installed; `make docs` installs them")
    site = tmp_path / "site"
    command = [python, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-c", ROOT / "docs" / "site"]
    printed = run([*command, "-d", tmp_path / "cache", ROOT, site], timeout=150)
    assert printed == ""

    pages = {path.relative_to(site): Page(path.read_text()) for path in site.rglob("*.html")}
    for document in [*DOCUMENTS, ROOT / "CHANGELOG.md"]:
        assert document.relative_to(ROOT).with_suffix(".html") in pages
    checked = 0
    for name, page in pages.items():
        for link in page.refers:
            if re.match(r"[a-z]+:", link):
                # The page works without the Web: only a reader follows such a link.
                continue
            path, _, anchor = link.partition("#")
            path = unquote(path.partition("?")[0])
            to = (site / name).parent.joinpath(path).resolve() if path else site / name
            assert to.is_file(), f"{name}: {link}"
            known = pages.get(to.relative_to(site))
            assert known is None or anchor in ("", *known.anchors), f"{name}: {link}"
            checked += 1
    assert checked > 500
    index = (site / "searchindex.js").read_text()
    for document in DOCUMENTS:
        assert f'"{document.relative_to(ROOT).with_suffix("")}"' in index
    # Terms are reduced to their stems.
    assert "takeov" in index and "fenc" in index
    assert "README.html" in (site / "index.html").read_text()
