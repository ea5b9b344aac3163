"""The examples of docs/protocol.md."""

from __future__ import annotations

import re

from harness.environment import ROOT


def example(name: str) -> bytes:
    """Returns the bytes of the example `name`."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    block = re.search(rf"```hex {name}\n(.*?)```", text, re.DOTALL)
    assert block, f"docs/protocol.md has no example {name}"
    return bytes.fromhex(" ".join(line.split(";")[0] for line in block.group(1).splitlines()))
