"""SPDK's iSCSI target over a socket of DPDK, and the kernel's TCP at the other end: a veth, of which
DPDK has one end and the kernel the other. (SPDK's iSCSI initiator is libiscsi, which has the
kernel's sockets.)"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import subprocess
from typing import Iterator

import pytest

from harness.lab import Lab
from harness.net import (
    MIB,
    assert_buffers_are_back,
    connections,
    counters,
    create_interface,
    create_veth,
    default_implementation,
)
from harness.requirements import require_tool
from harness.spdk import Job, assert_clean
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

TARGET, KERNEL = "198.51.100.1", "198.51.100.2"
IQN = "iqn.2016-06.io.spdk:volume"

# linux/sockios.h, linux/ethtool.h
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17

# linux/if_packet.h, linux/if_ether.h
_SOL_PACKET, _PACKET_AUXDATA, _ETH_P_ALL = 263, 8, 0x0003
_TP_STATUS_VLAN_VALID = 0x10
_ARP, _TAGGED = b"\x08\x06", b"\x81\x00"


@pytest.fixture(autouse=True)
def buffers_are_back(lab: Lab) -> Iterator[None]:
    yield
    assert_buffers_are_back(lab)


def complete_checksums(interface: str) -> None:
    """Lets the kernel complete checksums, which it otherwise leaves to a veth that does not."""
    value = (ctypes.c_uint32 * 2)(_ETHTOOL_STXCSUM, 0)
    request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)


@pytest.fixture
def veth(lab: Lab) -> str:
    """Returns the end for DPDK of a veth, whose other end has the address KERNEL."""
    ours, kernels = create_veth(lab)
    complete_checksums(kernels)
    subprocess.run([require_tool("ip"), "addr", "add", f"{KERNEL}/24", "dev", kernels], check=True)
    return ours


@pytest.mark.watchdog(120)
def test_iscsi(lab: Lab, veth: str) -> None:
    target = lab.target(shm_id=1, config=default_implementation())
    create_interface(target, f"net_af_packet0,iface={veth}", TARGET)
    call = target.rpc.call
    call("bdev_malloc_create", name="Malloc0", num_blocks=16 * MIB // 4096, block_size=4096)
    call("iscsi_create_portal_group", tag=1, portals=[{"host": TARGET, "port": "3260"}])
    call("iscsi_create_initiator_group", tag=1, initiators=["ANY"], netmasks=[f"{KERNEL}/32"])
    call(
        "iscsi_create_target_node",
        name=IQN,
        alias_name="volume",
        luns=[{"bdev_name": "Malloc0", "lun_id": 0}],
        pg_ig_maps=[{"pg_tag": 1, "ig_tag": 1}],
        queue_depth=64,
        disable_chap=True,
    )
    job = Job(depth=16, size=16_384)
    perf = lab.bdevperf_unattached(job, 16 * MIB // 4096, bdevs=["iscsi0"], shm_id=2)
    url = f"iscsi://{TARGET}:3260/{IQN}/0"
    perf.rpc.call("bdev_iscsi_create", name="iscsi0", url=url, initiator_iqn="iqn.2016-06.io.spdk:client")
    assert any(found["local"] == f"{TARGET}:3260" for found in connections(target))
    assert_clean(perf.run())
    found = counters(target)
    assert found["frames_received"] > 1000 and found["segment_checksum_errors"] == 0
    assert perf.stop() == 0
    assert target.stop() == 0


def arp_question(source_mac: bytes, tag: int | None) -> bytes:
    """Returns a frame in which KERNEL asks for TARGET's link-layer address."""
    head = b"\xff" * 6 + source_mac + (_TAGGED + struct.pack("!H", tag) if tag is not None else b"")
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + source_mac + socket.inet_aton(KERNEL)
    return (head + _ARP + arp + bytes(6) + socket.inet_aton(TARGET)).ljust(60, b"\0")


def arp_answers(raw: socket.socket, until: float) -> list[int | None]:
    """Returns the VLANs of TARGET's answers that arrive, the last of which is the first one with a
    VLAN. (None: the frame has no tag.)"""
    found: list[int | None] = []
    raw.settimeout(until)
    while not any(found):
        frame, control, _, (_, _, kind, _, _) = raw.recvmsg(2048, 256)
        # The kernel takes the tag out of the frame.
        (status, tci), *_ = [
            (struct.unpack_from("=I", data)[0], struct.unpack_from("=H", data, 16)[0])
            for level, name, data in control
            if (level, name) == (_SOL_PACKET, _PACKET_AUXDATA)
        ]
        if kind != socket.PACKET_OUTGOING and frame[12:14] == _ARP and frame[20:22] == b"\x00\x02":
            found.append(tci & 0xFFF if status & _TP_STATUS_VLAN_VALID else None)
    return found


def test_vlan(lab: Lab, veth: str) -> None:
    """The driver takes the tags of received frames out of them, and the port puts them back."""
    target = lab.target(shm_id=1)
    kernels = veth[:-1] + "b"
    create_interface(target, f"net_af_packet0,iface={veth}", TARGET, vlan=7)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as raw:
        raw.bind((kernels, _ETH_P_ALL))
        raw.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        mac = raw.getsockname()[4]
        dropped = counters(target)["frames_dropped"].get("vlan", 0)
        # Only the last question is one of the interface's VLAN, with a priority.
        for tag in (None, 8, 7 | 3 << 13):
            raw.send(arp_question(mac, tag))
        assert arp_answers(raw, 10.0) == [7]
    wait_until(lambda: counters(target)["frames_dropped"].get("vlan", 0) >= dropped + 2, "both others to be dropped")
    assert target.stop() == 0
