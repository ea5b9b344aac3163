"""An application that answers dst_get_metrics with counts that the test sets, in place of SPDK."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

LATENCY = {"read_latency": [0], "write_latency": [0], "other_latency": [0]}
TARGET = "refused_hellos refused_busy handshakes_evicted connections_refused sessions_timed_out handshakes waiting closing"
STATS = (
    "reads read_bytes writes written_bytes other_operations errors answered_from_record executed_again dropped"
    " lease_expiries handshake_timeouts handshake_bytes_exceeded violations stalls reconnects fences corrupt"
)
MIRROR = (
    "witnesses witnesses_current unrepaired_bytes outstanding waiting writes flushes records copied_bytes read_errors"
    " repaired_bytes departures lost_caches"
)
BDEV = "lost_caches transactions errors expired connections_lost reconnects resent corrupt outstanding waiting"


def _zeros(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), 0)


class FakeApplication:
    """One bdev, one mirror, one export and one listener, on which I/O goes on: 1000 reads of 4096 bytes and 20 µs
    each second."""

    def __init__(self, path: Path) -> None:
        self._start = time.time()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        # Wakes the thread, too.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                request = json.loads(connection.recv(65536))
                assert request["method"] == "dst_get_metrics", request
                answer = {"jsonrpc": "2.0", "id": request["id"], "result": self._metrics()}
                connection.sendall(json.dumps(answer).encode())

    def _metrics(self) -> dict[str, Any]:
        count = int((time.time() - self._start) * 1000)
        io = {"read_bytes": 4096 * count, "written_bytes": 0, **LATENCY, "read_latency": [20 * count, 0, 0, 0, 0, count]}
        bdev = {"bdev": "b", "export": "e", "state": "connected", "size_bytes": 1 << 20, "connections": 2, "channels": 1}
        export = {"export": "e", "bdev": "m", "state": "online", "size_bytes": 1 << 20}
        mirror = {"mirror": "m", "state": "degraded", "size_bytes": 1 << 20, "members": 1, "members_in_sync": 0}
        member = {"mirror": "m", "member": "b", "place": "0", "state": "missing", "behind_bytes": 4096, "in_flight": 0}
        now = {"sessions": 1, "connections": 2, "in_flight": 4}
        stats = {**_zeros(STATS), "reads": count, **io}

        def table(row: dict[str, Any]) -> dict[str, Any]:
            return {"columns": list(row), "rows": [list(row.values())]}

        return {
            "start_time_ms": int(self._start * 1000),
            "bdevs": table({**bdev, **_zeros(BDEV), **io}),
            "mirrors": table({**mirror, **_zeros(MIRROR), "reads": count}),
            "mirror_members": table(member),
            "exports": table({**export, **now, **stats}),
            "listeners": table({"address": "127.0.0.1:4460", "state": "listening"}),
            "target": table({**_zeros(TARGET), "max_connections": 4096, **now, **stats}),
        }
