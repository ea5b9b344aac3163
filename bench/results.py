"""Where the smaller benchmarks leave what they found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def save(folder: Path, name: str, whole: dict[str, Any], lines: list[str]) -> None:
    """Writes `whole` to NAME.json and the lines to NAME.txt, and prints the lines."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(whole, indent=2) + "\n")
    text = "\n".join(lines) + "\n"
    (folder / f"{name}.txt").write_text(text)
    print(text + f"{name}.json and {name}.txt are in {os.path.relpath(folder)}")
