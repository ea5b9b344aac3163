"""A second implementation of the secured connection's key agreement and records, written from
docs/protocol.md and the Noise specification.

It is slow and does not protect secrets. The tests' scripts use it to break rules with a key.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

PROTOCOL = b"Noise_NNpsk0_25519_ChaChaPoly_SHA256"

AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305 = 1, 2, 3
CIPHER_NAMES = {AES_128_GCM: "aes-128-gcm", AES_256_GCM: "aes-256-gcm", CHACHA20_POLY1305: "chacha20-poly1305"}

PUBLIC_LEN = 32
TAG_LEN = 16

# The maximum size of a record's data, and the bit of its head that announces the next key.
RECORD_MAX = 16_384
REKEY = 1 << 31
RECORD_HEAD_LEN = 4


class Forged(Exception):
    """A message or record that was not made with the right key for this place."""


def _hkdf(chaining_key: bytes, material: bytes, count: int) -> list[bytes]:
    """Noise's HKDF: RFC 5869 with the chaining key as the salt and without info."""
    secret = hmac.digest(chaining_key, material, "sha256")
    outputs, last = [], b""
    for number in range(1, count + 1):
        last = hmac.digest(secret, last + bytes([number]), "sha256")
        outputs.append(last)
    return outputs


def expand(secret: bytes, label: bytes, length: int) -> bytes:
    return HKDFExpand(hashes.SHA256(), length, label).derive(secret)


def _nonce(number: int) -> bytes:
    """The nonce of Noise's ChaChaPoly."""
    return bytes(4) + struct.pack("<Q", number)


class Handshake:
    """The handshake NNpsk0: `-> psk, e` and `<- e, ee`. Each side writes one message and reads
    one."""

    def __init__(self, prologue: bytes, psk: bytes, ephemeral: bytes | None = None) -> None:
        """`ephemeral` is the private key, by default a random one."""
        self._own = X25519PrivateKey.from_private_bytes(ephemeral) if ephemeral else X25519PrivateKey.generate()
        self._other: X25519PublicKey | None = None
        self._messages = 0
        self.secrets: dict[str, bytes] = {}
        """The results that both sides have computed."""
        # The name is longer than a hash, so its hash is used.
        self.hash = self._chaining_key = hashlib.sha256(PROTOCOL).digest()
        self._mix_hash(prologue)
        self._chaining_key, mixed, self._key = _hkdf(self._chaining_key, psk, 3)
        self._mix_hash(mixed)

    def write(self, payload: bytes = b"") -> bytes:
        public = self._own.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self._take_public(public)
        # Every message has its own key, so its number is always 0.
        sealed = ChaCha20Poly1305(self._key).encrypt(_nonce(0), payload, self.hash)
        self._mix_hash(sealed)
        return public + sealed

    def read(self, message: bytes) -> bytes:
        public, sealed = message[:PUBLIC_LEN], message[PUBLIC_LEN:]
        if len(sealed) < TAG_LEN:
            raise Forged("too short")
        self._other = X25519PublicKey.from_public_bytes(public)
        self._take_public(public)
        try:
            payload = ChaCha20Poly1305(self._key).decrypt(_nonce(0), sealed, self.hash)
        except InvalidTag:
            raise Forged("another key, or changed on the way") from None
        self._mix_hash(sealed)
        return payload

    def split(self) -> tuple[bytes, bytes]:
        """Returns the secrets of the two directions, the initiator's first."""
        first, second = _hkdf(self._chaining_key, b"", 2)
        self.secrets |= {"the client's secret": first, "the target's secret": second}
        return first, second

    def _take_public(self, public: bytes) -> None:
        self._mix_hash(public)
        # This step is only in patterns with a pre-shared key.
        self._mix_key(public)
        self._messages += 1
        if self._messages == 2:
            assert self._other is not None
            shared = self._own.exchange(self._other)
            self._mix_key(shared)
            self.secrets |= {"ee": shared, "the chaining key": self._chaining_key, "the last Noise key": self._key}

    def _mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def _mix_key(self, material: bytes) -> None:
        self._chaining_key, self._key = _hkdf(self._chaining_key, material, 2)


class Records:
    """The records of one direction, at either end."""

    def __init__(self, cipher: int, secret: bytes) -> None:
        self._cipher, self._secret = cipher, secret
        self.secrets: dict[str, bytes] = {}
        """All secrets so far."""
        self._keys = 0
        self._begin()

    def seal(self, data: bytes, changes_key: bool = False) -> bytes:
        head = struct.pack("<I", len(data) | (REKEY if changes_key else 0))
        record = head + self._aead.encrypt(self._next_nonce(), data, head)
        if changes_key:
            self._next_key()
        return record

    def open(self, head: bytes, sealed: bytes) -> bytes:
        try:
            data = self._aead.decrypt(self._next_nonce(), sealed, head)
        except InvalidTag:
            raise Forged("a record with a wrong tag") from None
        if struct.unpack("<I", head)[0] & REKEY:
            self._next_key()
        return data

    def skip(self) -> None:
        """Counts as if the next record had been processed."""
        self._number += 1

    def _begin(self) -> None:
        key = expand(self._secret, b"dst key" + bytes([self._cipher]), 16 if self._cipher == AES_128_GCM else 32)
        self._iv = expand(self._secret, b"dst iv", 12)
        self._aead = ChaCha20Poly1305(key) if self._cipher == CHACHA20_POLY1305 else AESGCM(key)
        self._number = 0
        self._keys += 1
        self.secrets |= {f"key {self._keys}": key, f"secret {self._keys}": self._secret}

    def _next_key(self) -> None:
        self._secret = expand(self._secret, b"dst next", 32)
        self._begin()

    def _next_nonce(self) -> bytes:
        """Returns the nonce, built as in TLS 1.3 (RFC 8446, section 5.3)."""
        counted = self._number.to_bytes(len(self._iv), "big")
        self._number += 1
        return bytes(one ^ other for one, other in zip(self._iv, counted))
