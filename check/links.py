#!/usr/bin/env python3
"""Fails when a link or picture in a Markdown file of the repository leads nowhere.

usage: check/links.py [FOLDER]

Checked are links to files and folders, which have to be in the repository and not only on this
machine, and to headings (`#anchor`), whose anchors are made as GitHub makes them. Addresses of the
Web are not looked up: they do not break by what is committed here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent

FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1[`~]* *$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
# Of `[text](link)`, `![text](link "title")`, and of a definition, `[name]: link`.
LINK = re.compile(r"\]\(\s*<?([^()\s<>]*(?:\([^()\s]*\)[^()\s]*)*)>?[^()]*\)")
DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?\s*$", re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.*?)(?: +#+)? *$", re.MULTILINE)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def blank(found: re.Match[str]) -> str:
    """Returns as many lines as were found, so that the numbers of later lines stay."""
    return "\n" * found.group(0).count("\n")


def anchors(text: str) -> set[str]:
    """Returns the anchors of a file's headings."""
    have: set[str] = set()
    counts: dict[str, int] = {}
    for heading in HEADING.findall(FENCE.sub(blank, text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        count = counts.get(slug, 0)
        counts[slug] = count + 1
        have.add(f"{slug}-{count}" if count else slug)
    return have


def links(text: str) -> list[tuple[int, str]]:
    """Returns the links of a text, each with the number of its line."""
    text = CODE.sub(blank, FENCE.sub(blank, text))
    found = [*LINK.finditer(text), *DEFINITION.finditer(text)]
    return sorted((text.count("\n", 0, m.start(1)) + 1, m.group(1)) for m in found)


def committed(root: Path) -> set[str]:
    """Returns the files of a repository, and those that git does not ignore and would add."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0:
        return {name for name in listed.stdout.split("\0") if name and (root / name).exists()}
    # An unpacked archive has no ignored files but those that were built.
    built = {"build", "target", "__pycache__"}
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {str(path) for path in paths if not built & set(path.parts)}


def resolve(file: str, link: str) -> str | None:
    """Returns the path in the repository that a link in a file names, or None if it leads out."""
    parts: list[str] = []
    for part in [*PurePosixPath(file).parent.parts, *PurePosixPath(link).parts]:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def broken(root: Path) -> list[str]:
    """Returns a line for each link that leads nowhere."""
    files = committed(root)
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    texts = {name: (root / name).read_text() for name in sorted(files) if name.endswith(".md")}
    known = {name: anchors(text) for name, text in texts.items()}
    wrong = []
    for name, text in texts.items():
        for line, link in links(text):
            if ADDRESS.match(link):
                continue
            path, _, anchor = link.partition("#")
            to = resolve(name, path) if path else name
            at = f"{name}:{line}: {link}:"
            if not link or link.startswith("/"):
                wrong.append(f"{at} is not a relative link")
            elif to is None or to not in files and to not in folders and to:
                wrong.append(f"{at} no such file in the repository")
            elif anchor and to not in known:
                wrong.append(f"{at} only Markdown files have anchors")
            elif anchor and anchor not in known[to]:
                wrong.append(f"{at} {to} has no heading with this anchor")
    return wrong


def main() -> int:
    wrong = broken(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
