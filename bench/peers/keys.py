"""The key files of the peers that encrypt."""

from __future__ import annotations

import atexit
import os
import tempfile
from functools import cache

KEY = os.urandom(32)


@cache
def key_file(text: str) -> str:
    """Writes a private file with this text and returns its name."""
    descriptor, path = tempfile.mkstemp(prefix="dst-bench-key-")
    os.write(descriptor, text.encode())
    os.close(descriptor)
    atexit.register(os.unlink, path)
    return path
