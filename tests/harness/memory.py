"""The memory of a process, as a core file would show it."""

from __future__ import annotations

from typing import Iterator

from harness.process import Process

_CHUNK = 2**20
_NOTHING = bytes(_CHUNK)


def mappings(process: Process) -> Iterator[tuple[int, int, str]]:
    """Returns begin, end and name of each mapping, including DPDK's hugepages and SPDK's trace
    buffer."""
    with open(f"/proc/{process.pid}/maps") as maps:
        for line in maps:
            place, rights, _, _, _, *name = line.split(maxsplit=5)
            path = name[0].strip() if name else "anonymous"
            if "r" in rights:
                begin, end = (int(part, 16) for part in place.split("-"))
                yield begin, end, path


def find(process: Process, wanted: dict[str, bytes]) -> dict[str, str]:
    """Returns, for each name whose bytes are in the process's memory, where they are."""
    found: dict[str, str] = {}
    longest = max(map(len, wanted.values()))
    with open(f"/proc/{process.pid}/mem", "rb", buffering=0) as memory:
        for begin, end, name in mappings(process):
            for at in range(begin, end, _CHUNK):
                try:
                    memory.seek(max(begin, at - longest))
                    # Each chunk includes the end of the previous one, to find bytes that span both.
                    data = memory.read(min(at + _CHUNK, end) - memory.tell())
                except (OSError, OverflowError):
                    # The mapping is the kernel's, or has no memory.
                    continue
                if data.endswith(_NOTHING) or _NOTHING.startswith(data):
                    continue
                # Only the first place is reported.
                found = {what: f"{name}, near {at:#x}" for what, value in wanted.items() if value in data} | found
    return found
