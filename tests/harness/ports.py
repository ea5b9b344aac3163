"""Free TCP ports."""

from __future__ import annotations

import random
import socket

_random = random.SystemRandom()


def free_port(address: str = "127.0.0.1") -> int:
    """Returns a port that is free now, below the range from which the kernel takes the ports of
    outgoing connections."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(100):
        port = _random.randrange(12000, 32000)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port on {address}")
