"""The key of those who encrypt, in files."""

from __future__ import annotations

import atexit
import os
import tempfile
from functools import cache

KEY = os.urandom(32)


@cache
def key_file(text: str) -> str:
    """The name of a file with this text, which nobody else may read."""
    descriptor, path = tempfile.mkstemp(prefix="dst-bench-key-")
    os.write(descriptor, text.encode())
    os.close(descriptor)
    atexit.register(os.unlink, path)
    return path
