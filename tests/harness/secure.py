"""Secured connections for the tests' scripts at either end, with the key agreement and the records
of noise.py."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from harness.channel import Channel, Closed
from harness.noise import AES_256_GCM, RECORD_HEAD_LEN, RECORD_MAX, REKEY, TAG_LEN, Forged, Handshake, Records
from harness.fake_target import Opens
from harness.protocol import Connection, Frame, attribute, attributes, header, receive_frame
from harness.transport import Remote

SECURE, SECURED = 10, 11
NOISE = 11
PROLOGUE = b"DST secure connection 1"


class SecureChannel(Channel):
    """A channel whose bytes are in records."""

    def __init__(self, sock: socket.socket, sends: Records, receives: Records) -> None:
        super().__init__(sock)
        self.sends, self.receives = sends, receives
        self.agreed: dict[str, bytes] = {}
        """The secrets of the key agreement."""
        self._opened = b""

    def secrets(self) -> dict[str, bytes]:
        sent = {f"sent, {name}": value for name, value in self.sends.secrets.items()}
        return self.agreed | sent | {f"received, {name}": value for name, value in self.receives.secrets.items()}

    def send(self, data: bytes) -> None:
        parts = range(0, len(data), RECORD_MAX)
        self.send_raw(b"".join(self.sends.seal(data[at : at + RECORD_MAX]) for at in parts))

    def send_raw(self, data: bytes) -> None:
        """Sends bytes in clear."""
        super().send(data)

    def exactly(self, count: int) -> bytes:
        while len(self._opened) < count:
            head = super().exactly(RECORD_HEAD_LEN)
            length = struct.unpack("<I", head)[0] & ~REKEY
            assert 1 <= length <= RECORD_MAX, f"a record of {length} bytes"
            self._opened += self.receives.open(head, super().exactly(length + TAG_LEN))
        taken, self._opened = self._opened[:count], self._opened[count:]
        return taken


def offer(
    export: str, host: str, ciphers: bytes | None = bytes([AES_256_GCM]), versions: tuple[int, int] = (1, 1)
) -> bytes:
    """Returns the attributes of a Secure without the Noise message."""
    data = attribute(1, struct.pack("<H", versions[0])) + attribute(2, struct.pack("<H", versions[1]))
    data += attribute(3, export.encode()) + attribute(4, host.encode())
    return data if ciphers is None else data + attribute(8, ciphers)


def secure(bound: bytes, noise: bytes) -> bytes:
    """Returns a whole Secure frame."""
    data = bound + attribute(NOISE, noise)
    return header(SECURE, length=len(data)) + data


class Initiator:
    """Performs the client's part of the key agreement."""

    def __init__(self, psk: bytes, bound: bytes, ephemeral: bytes | None = None) -> None:
        self._handshake = Handshake(PROLOGUE + bound, psk, ephemeral)
        self.frame = secure(bound, self._handshake.write())
        self.chosen: dict[int, bytes] = {}

    def finish(self, answer: Frame, sock: socket.socket) -> SecureChannel:
        assert answer.kind == SECURED, answer
        self.chosen = attributes(self._handshake.read(attributes(answer.data)[NOISE]))
        client, target = self._handshake.split()
        cipher = self.chosen[8][0]
        channel = SecureChannel(sock, Records(cipher, client), Records(cipher, target))
        channel.agreed = self._handshake.secrets
        return channel


@dataclass(frozen=True)
class Key:
    """A client that has a key."""

    psk: bytes
    ciphers: bytes | None = bytes([AES_256_GCM])

    def dial(self, remote: Remote, export: str, host: str) -> Connection:
        """Returns a secured connection on which no hello was sent yet."""
        connection = Connection(remote)
        initiator = Initiator(self.psk, offer(export, host, self.ciphers))
        connection.send(initiator.frame)
        connection.channel = initiator.finish(connection.receive(), connection.channel.socket)
        return connection


def accept(psk: bytes, cipher: int | None = None, version: int = 1, behind: bytes = b"") -> Opens:
    """Performs the target's part of the key agreement, which by default chooses the first cipher
    offered. `behind`: sent in clear after the reply."""

    def opens(sock: socket.socket) -> Channel:
        plain = Channel(sock)
        asked = receive_frame(plain)
        assert asked.kind == SECURE, asked
        wanted = attributes(asked.data)
        bound = asked.data[: -len(attribute(NOISE, wanted[NOISE]))]
        handshake = Handshake(PROLOGUE + bound, psk)
        try:
            handshake.read(wanted[NOISE])
        except Forged as error:
            raise Closed from error
        chosen = wanted[8][0] if cipher is None else cipher
        noise = attribute(NOISE, handshake.write(attribute(1, struct.pack("<H", version)) + attribute(8, bytes([chosen]))))
        plain.send(header(SECURED, length=len(noise)) + noise + behind)
        client, target = handshake.split()
        channel = SecureChannel(sock, Records(chosen, target), Records(chosen, client))
        channel.agreed = handshake.secrets
        return channel

    return opens
