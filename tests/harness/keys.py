"""Key files."""

from __future__ import annotations

import os
from pathlib import Path


def key_file(path: Path, *keys: bytes) -> str:
    """Writes a file with these keys, or with a new one; gives its name."""
    lines = ["DST-PSK-1", *(key.hex() for key in keys or (os.urandom(32),))]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return str(path)
