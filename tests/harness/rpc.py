"""A JSON-RPC client for SPDK applications."""

from __future__ import annotations

import itertools
import json
import select
import socket
from pathlib import Path
from typing import Any


class RpcError(Exception):
    """The application has returned an error object."""

    def __init__(self, method: str, error: dict[str, Any]) -> None:
        super().__init__(f"{method}: {error.get('message')} (code {error.get('code')})")
        self.method = method
        self.code: int = error.get("code", 0)
        self.message: str = error.get("message", "")


class PendingCall:
    """A call that was sent and is not answered yet."""

    def __init__(self, sock: socket.socket, method: str, ident: int) -> None:
        self._socket = sock
        self._method = method
        self._ident = ident

    def is_answered(self) -> bool:
        """Returns whether an answer has begun to come, or there will be none."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def result(self, timeout: float = 30.0) -> Any:
        """Returns the answer. Raises RpcError for an error object, AssertionError if there is no
        answer in time, and OSError if there will be none."""
        self._socket.settimeout(timeout)
        received = b""
        with self._socket:
            while True:
                try:
                    chunk = self._socket.recv(65536)
                except TimeoutError:
                    raise AssertionError(f"no answer to {self._method} in {timeout:g} s") from None
                if not chunk:
                    raise ConnectionResetError(f"connection closed before the answer to {self._method}")
                received += chunk
                # SPDK does not delimit its answers: an answer is complete when the bytes are a
                # whole JSON value.
                try:
                    answer = json.loads(received)
                except ValueError:
                    continue
                assert answer["id"] == self._ident, answer
                if "error" in answer:
                    raise RpcError(self._method, answer["error"])
                return answer["result"]


class RpcClient:
    """Calls methods. Every call has its own connection, so that a slow call delays no other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idents = itertools.count(1)

    def start(self, method: str, **params: Any) -> PendingCall:
        """Sends a call and returns at once."""
        ident = next(self._idents)
        request: dict[str, Any] = {"jsonrpc": "2.0", "id": ident, "method": method}
        if params:
            request["params"] = params
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(10)
        try:
            sock.connect(str(self._path))
            sock.sendall(json.dumps(request).encode())
        except BaseException:
            sock.close()
            raise
        return PendingCall(sock, method, ident)

    def call(self, method: str, *, rpc_timeout: float = 30.0, **params: Any) -> Any:
        return self.start(method, **params).result(rpc_timeout)
