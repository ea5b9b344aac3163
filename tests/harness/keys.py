"""Key files for `psk_file`."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from harness.lab import Lab
from harness.service import Backend, Service, memory_backend
from harness.spdk import Application
from harness.transport import Remote

HEADER = "DST-PSK-1"
HOST = "test-client"


class KeyFile:
    def __init__(self, folder: Path, name: str, *keys: bytes) -> None:
        """Creates the file, with a random key by default."""
        self._path = folder / name
        self.keys: tuple[bytes, ...] = ()
        self.write(*(keys or [os.urandom(32)]))

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def key(self) -> bytes:
        return self.keys[0]

    def write(self, *keys: bytes) -> None:
        """Replaces the keys atomically, so that no reader finds half a file."""
        self.keys = keys
        text = "\n".join([HEADER, "# of a test", *(key.hex() for key in keys), ""])
        new = self._path.with_suffix(".new")
        new.touch(0o600)
        new.write_text(text)
        new.replace(self._path)


def key_file(path: Path, *keys: bytes) -> str:
    """Writes a file with these keys, or with a new one, and returns its name."""
    return KeyFile(path.parent, path.name, *keys).path


def forms(key: bytes) -> dict[str, bytes]:
    """Returns all forms in which a key might appear."""
    found = {"raw": key, "hex": key.hex().encode(), "HEX": key.hex().upper().encode(), "base64": base64.b64encode(key)}
    # The form of a debug print of bytes.
    found["list"] = ", ".join(str(byte) for byte in key).encode()
    return found


class KeyedService(Service):
    """A target whose only host has a key, and its client's file with the same key."""

    def __init__(self, lab: Lab, backend: Backend | None = None, cipher: str | None = None, **more: Any) -> None:
        """`cipher`: the default for attach(). `more`: options of Service."""
        self._cipher = {} if cipher is None else {"cipher": cipher}
        self.at_target, self.at_client = KeyFile(lab.folder, "target.psk"), KeyFile(lab.folder, "client.psk")
        self.at_client.write(self.at_target.key)
        entry = {"host": HOST, "access": "rw", "psk_file": self.at_target.path}
        super().__init__(lab, backend or memory_backend(), entry, **more)

    def attach(
        self, client: Application, name: str = "remote0", remote: Remote | None = None, **options: Any
    ) -> None:
        super().attach(client, name, remote, **({"psk_file": self.at_client.path} | self._cipher | options))

    def session(self) -> dict[str, Any]:
        """Returns the only session, as the target shows it."""
        (session,) = self.application.rpc.call("dst_get_sessions")
        return session


def service_with(lab: Lab, backend: Backend, cipher: str | None) -> Service:
    """Returns a service with a key and this cipher, or without both."""
    return Service(lab, backend) if cipher is None else KeyedService(lab, backend, cipher)
