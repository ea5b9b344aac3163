"""The site that `make docs` builds, with Sphinx, as DPDK's and the kernel's are.

The pages are README.md, CHANGELOG.md and docs/*.md, which are written for a reader of the repository.
Links between them lead from page to page, and links to other files to copies of these.
"""

from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent.parent
# The pages of each part of the menu. A page that is missing here is an error: Sphinx warns of it, and
# `make docs` makes errors of warnings.
MENU = {
    "Using DST": ["failures", "standby", "mirror", "security", "limits"],
    "Running it": ["packages", "releases", "../CHANGELOG", "monitoring", "performance"],
    "How it is built": ["architecture", "protocol", "spdk-versions", "dpdk", "tcp"],
}

project = "DST"
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "docs/*.md"]
# Without this, Sphinx would look through all of these folders for pages.
exclude_patterns = [f"{path.name}/**" for path in ROOT.iterdir() if path.is_dir() and path.name != "docs"]
# Headings of all levels have anchors, which are named as on GitHub.
myst_heading_anchors = 6
highlight_language = "none"
# `--` and quotes stay as they are written.
smartquotes = False

html_theme = "furo"
html_title = "DST"
html_extra_path = ["index.html"]
html_copy_source = False
html_use_index = False
html_show_copyright = False


def add_menu(_app: Sphinx, page: str, source: list[str]) -> None:
    """Adds the menu to the first page, where a reader of the repository would see its source."""
    if page != root_doc:
        return
    for part, pages in MENU.items():
        names = "\n".join(f"docs/{name}".replace("docs/../", "") for name in pages)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {part}\n\n{names}\n```\n"


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_menu)
    # The examples in protocol.md.
    app.add_lexer("hex", TextLexer)
