#!/usr/bin/env python3
"""Runs the stack under test against this kernel's TCP, over a TAP device in a network namespace.

usage: sim/tcp/kernel.py [--require] DST_TAP

DST_TAP is the program built from sim/tcp/src/bin/dst-tap.rs. Each case echoes bytes, with this
kernel as the client or the server: over IPv4 and IPv6, with and without lost frames, over 500
connections one after the other. The exit status is 0 if all cases succeed, and also if the kernel
does not allow a namespace or a TAP device, unless --require is given.
"""

import ctypes
import fcntl
import hashlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000

PORT = 4460
DEVICE = "dsttap"
OURS_MAC = "02:00:00:00:00:01"
KERNEL = {"ipv4": "10.77.0.2", "ipv6": "fd77::2"}
OURS = {"ipv4": "10.77.0.1", "ipv6": "fd77::1"}
TIMEOUT_S = 120


def make_device():
    """Enters a new network namespace. Returns the file descriptor of a TAP device in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH14x", DEVICE.encode(), IFF_TAP | IFF_NO_PI))
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "address", "add", f"{KERNEL['ipv4']}/24", "dev", DEVICE],
        ["ip", "address", "add", f"{KERNEL['ipv6']}/64", "dev", DEVICE, "nodad"],
        ["ip", "link", "set", DEVICE, "up"],
    ):
        subprocess.run(command, check=True)
    return tap


class Tap:
    """The program under test."""

    def __init__(self, program, tap, lose, arguments):
        command = [program, "--mac", OURS_MAC, "--address", f"{OURS['ipv4']}/24"]
        command += ["--address", f"{OURS['ipv6']}/64", "--lose", str(lose), "--seed", "7", *arguments]
        self.process = subprocess.Popen(command, stdin=tap, stdout=tap, stderr=subprocess.PIPE, text=True)

    def end(self):
        _, text = self.process.communicate(timeout=TIMEOUT_S)
        if self.process.returncode != 0:
            raise AssertionError(text)
        return text.strip()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def pattern(length):
    """Returns bytes that do not repeat."""
    blocks = (hashlib.sha256(n.to_bytes(8, "big")).digest() for n in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def connect(address):
    """Connects as soon as the program has announced its addresses and uses them."""
    end = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return socket.create_connection((address, PORT), timeout=TIMEOUT_S)
        except (ConnectionRefusedError, OSError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def call(address, length):
    """Sends bytes, shuts down the sending side, and compares the bytes that come back."""
    data, back = pattern(length), bytearray()
    with connect(address) as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        while piece := connection.recv(1 << 18):
            back += piece
        sender.join()
    assert bytes(back) == data, f"{len(back)} bytes came back of {length}, or they differ"


def serve(listener):
    """Echoes one connection."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(TIMEOUT_S)
        while piece := connection.recv(1 << 18):
            connection.sendall(piece)


def kernel_calls(program, tap, family, lose, length, times=1):
    under_test = Tap(program, tap, lose, ["serve"])
    try:
        for _ in range(times):
            call(OURS[family], length)
        return under_test.end()
    finally:
        under_test.kill()


def kernel_serves(program, tap, family, lose, length):
    kind = socket.AF_INET if family == "ipv4" else socket.AF_INET6
    with socket.create_server((KERNEL[family], PORT), family=kind) as listener:
        listener.settimeout(TIMEOUT_S)
        server = threading.Thread(target=serve, args=(listener,), daemon=True)
        server.start()
        under_test = Tap(program, tap, lose, ["call", KERNEL[family], str(length)])
        try:
            return under_test.end()
        finally:
            under_test.kill()
            server.join(timeout=1)


def checksum(data):
    """Returns the Internet checksum."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def echo(family, length):
    """Sends an echo request with `length` bytes of data, and compares the reply."""
    kind, protocol, request, reply = {
        "ipv4": (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0),
        "ipv6": (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129),
    }[family]
    body = struct.pack("!HH", 0x1234, length) + pattern(length)
    message = struct.pack("!BBH", request, 0, 0) + body
    # The kernel fills in ICMPv6's checksum.
    message = struct.pack("!BBH", request, 0, checksum(message)) + body
    with socket.socket(kind, socket.SOCK_RAW, protocol) as raw:
        raw.settimeout(10)
        raw.sendto(message, (OURS[family], 0))
        while True:
            answer = raw.recv(65536)
            answer = answer[20:] if family == "ipv4" else answer
            if answer[0] == reply:
                assert answer[4:] == body, "the reply differs from the request"
                return


def kernel_asks(program, tap):
    """Sends echo requests with up to as much data as the MTU allows."""
    under_test = Tap(program, tap, 0, ["serve"])
    try:
        with connect(OURS["ipv4"]):
            for family, longest in (("ipv4", 1472), ("ipv6", 1452)):
                for length in (0, 1, 56, longest):
                    echo(family, length)
        return under_test.end()
    finally:
        under_test.kill()


def kernel_resets(program, tap):
    """The kernel resets a connection that has data in both directions."""
    under_test = Tap(program, tap, 0, ["serve"])
    try:
        with connect(OURS["ipv4"]) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(pattern(100_000))
        _, text = under_test.process.communicate(timeout=TIMEOUT_S)
        assert "reset by the peer" in text, text
        return text.splitlines()[-1]
    finally:
        under_test.kill()


def main():
    arguments = sys.argv[1:]
    require = "--require" in arguments
    (program,) = [argument for argument in arguments if argument != "--require"]
    try:
        tap = make_device()
    except OSError as error:
        print(f"kernel: no TAP device in a network namespace here: {error}")
        return 1 if require else 0
    failed = 0
    cases = [
        ("echo requests", lambda: kernel_asks(program, tap)),
        ("a reset", lambda: kernel_resets(program, tap)),
    ]
    for family in ("ipv4", "ipv6"):
        for lose in (0, 20):
            length = 20_000_000 if lose == 0 else 3_000_000
            for name, case in (("calls", kernel_calls), ("serves", kernel_serves)):
                run = lambda case=case, family=family, lose=lose, length=length: case(program, tap, family, lose, length)
                cases.append((f"the kernel {name}, {family}, {length} bytes, {lose} of 1,000 frames lost", run))
    cases.append(("500 connections", lambda: kernel_calls(program, tap, "ipv4", 0, 100, times=500)))
    for name, case in cases:
        begin = time.monotonic()
        try:
            text = case()
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            failed += 1
            text = f"FAILED: {error!r}"
        print(f"kernel: {name}: {text} ({time.monotonic() - begin:.1f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
