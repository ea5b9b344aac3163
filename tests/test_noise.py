"""Checks the tests' own key agreement and records against a published Noise vector and the examples
in docs/protocol.md."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from harness.noise import AES_256_GCM, CIPHER_NAMES, Forged, Handshake, Records, TAG_LEN
from harness.protocol import HEADER_LEN, KEEP_ALIVE, attribute, attributes, header
from harness.secure import NOISE, PROLOGUE as DST_PROLOGUE, SECURED, offer, secure
from harness.specification import example

# A vector of Noise_NNpsk0_25519_ChaChaPoly_SHA256 from cacophony, which snow has, too.
PROLOGUE = bytes.fromhex("4a6f686e2047616c74")
PSK = bytes.fromhex("54686973206973206d7920417573747269616e20706572737065637469766521")
CLIENT_EPHEMERAL = bytes.fromhex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
TARGET_EPHEMERAL = bytes.fromhex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
HASH = bytes.fromhex("f4d03dc34495c95729ea6de9e1b59004b59733102488b3e24bc441e0be208eaf")
FIRST = b"Ludwig von Mises", bytes.fromhex(
    "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944"
    "79b962b8aff8485742ac32f905ba45369e2465fb59e138a93d67a0d1266b6a54"
)
SECOND = b"Murray Rothbard", bytes.fromhex(
    "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843"
    "d6062704d5a9c422a8e834423f8c1feada7e8d0d910a1a2cd030fb584221e3"
)
# The first transport message of each direction.
THIRD = b"F. A. Hayek", bytes.fromhex("e632c3763d7669067383433197a3baddf146e9e70ad4b4e9e59e0f")
FOURTH = b"Carl Menger", bytes.fromhex("64c6bee32ea91c8474bb4c21d7a700109ad45af77b29764ba5eb1e")

CIPHERS = list(CIPHER_NAMES)


def test_published_vector() -> None:
    client, target = Handshake(PROLOGUE, PSK, CLIENT_EPHEMERAL), Handshake(PROLOGUE, PSK, TARGET_EPHEMERAL)
    assert client.write(FIRST[0]) == FIRST[1]
    assert target.read(FIRST[1]) == FIRST[0]
    assert target.write(SECOND[0]) == SECOND[1]
    assert client.read(SECOND[1]) == SECOND[0]
    assert client.hash == target.hash == HASH
    assert client.split() == target.split()
    for secret, (payload, sealed) in zip(client.split(), (THIRD, FOURTH)):
        assert ChaCha20Poly1305(secret).encrypt(bytes(12), payload, b"") == sealed


def agree(cipher: int) -> tuple[bytes, bytes, Handshake]:
    """Returns the frames of the document's handshake, and the client's end of it."""
    bound = offer("vol0", "alpha", bytes([cipher]))
    psk, client_secret, target_secret = (bytes(range(start, start + 32)) for start in (0, 0x20, 0x40))
    client = Handshake(DST_PROLOGUE + bound, psk, client_secret)
    target = Handshake(DST_PROLOGUE + bound, psk, target_secret)
    first = client.write()
    assert target.read(first) == b""
    second = target.write(attribute(1, b"\1\0") + attribute(8, bytes([cipher])))
    assert attributes(client.read(second)) == {1: b"\1\0", 8: bytes([cipher])}
    answer = attribute(NOISE, second)
    return secure(bound, first), header(SECURED, length=len(answer)) + answer, client


def test_examples_of_the_handshake() -> None:
    assert agree(AES_256_GCM)[:2] == (example("secure"), example("secured"))


@pytest.mark.parametrize("cipher", CIPHERS, ids=CIPHER_NAMES.values())
def test_examples_of_records(cipher: int) -> None:
    client = agree(cipher)[2]
    record = Records(cipher, client.split()[0]).seal(header(KEEP_ALIVE, ident=1))
    assert len(record) == 4 + HEADER_LEN + TAG_LEN
    assert record == example(f"record-{CIPHER_NAMES[cipher]}")


def test_every_byte_counts() -> None:
    message = Handshake(b"x", PSK).write()
    Handshake(b"x", PSK).read(message)
    for at in range(len(message)):
        with pytest.raises(Forged):
            Handshake(b"x", PSK).read(message[:at] + bytes([message[at] ^ 0x80]) + message[at + 1 :])
    for prologue, psk in ((b"y", PSK), (b"x", bytes(32))):
        with pytest.raises(Forged):
            Handshake(prologue, psk).read(message)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_records(cipher: int) -> None:
    sends, receives = Records(cipher, PSK), Records(cipher, PSK)
    for number in range(10):
        data = bytes([number]) * (number + 1)
        record = sends.seal(data, changes_key=number % 3 == 2)
        assert len(record) == 4 + len(data) + TAG_LEN
        assert receives.open(record[:4], record[4:]) == data


@pytest.mark.parametrize("cipher", CIPHERS)
def test_records_have_their_place_and_their_cipher(cipher: int) -> None:
    first, second = (sends := Records(cipher, PSK)).seal(b"one"), sends.seal(b"two")
    later = Records(cipher, PSK)
    with pytest.raises(Forged):
        later.open(second[:4], second[4:])
    other = Records(cipher % 3 + 1, PSK)
    with pytest.raises(Forged):
        other.open(first[:4], first[4:])
