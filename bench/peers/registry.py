"""All peers in the order of a round, and the comparisons between them."""

from __future__ import annotations

from pathlib import Path

from peers import Peer
from peers.dst import DstPeer
from peers.iscsi import IscsiPeer
from peers.limit import LimitPeer
from peers.nbd import NbdPeer
from peers.nvmf import NVMF, URING

BASE = "dst"
SECOND = "dst-b"
"""DST of a second build, compared with the first."""

# Pairs of families to compare; the first of each pair has only one peer. First what DST gains, then
# the cost and the gain of safety.
COMPARED = [
    (BASE, "nvmf"),
    (BASE, "limit"),
    (BASE, "iscsi"),
    (BASE, "nbd"),
    ("dst-crc32c", BASE),
    ("dst-aes-256-gcm", BASE),
    ("dst-crc32c", "nvmf-digest"),
    ("dst-aes-256-gcm", "nvmf-tls"),
    (SECOND, BASE),
    (SECOND, "nvmf"),
    ("dst-uring", BASE),
]

# The families that DST is compared with in every case; the others are measured only in the main
# cases.
ALWAYS = {BASE, SECOND, "nvmf", "limit"}


def peers(dst_bin: Path | None = None, dst_bin_b: Path | None = None) -> list[Peer]:
    """`dst_bin`, `dst_bin_b`: folders with spdk_tgt and bdevperf of a first and of a second build
    of DST."""
    second = [DstPeer(SECOND, folder=dst_bin_b)] if dst_bin_b else []
    return [
        DstPeer(BASE, folder=dst_bin),
        LimitPeer(),
        *second,
        *NVMF,
        DstPeer("dst-crc32c", safety=True, folder=dst_bin, digest="crc32c"),
        DstPeer("dst-aes-256-gcm", safety=True, folder=dst_bin, cipher="aes-256-gcm"),
        DstPeer("dst-uring", folder=dst_bin, sockets=URING),
        IscsiPeer(),
        NbdPeer("nbdkit"),
        NbdPeer("qemu-nbd"),
    ]
