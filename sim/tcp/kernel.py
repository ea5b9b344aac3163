#!/usr/bin/env python3
"""Runs the stack under test against this kernel's TCP, over a TAP device in a network namespace.

usage: sim/tcp/kernel.py [--require] [--soak SECONDS] DST_TAP

DST_TAP is the program built from sim/tcp/src/bin/dst-tap.rs. Each case echoes bytes, with this
kernel as the client or the server: over IPv4 and IPv6, with and without lost and late frames, over 500
connections one after the other. The exit status is 0 if all cases succeed, and also if the kernel does
not allow a namespace or a TAP device, unless --require is given.

With --soak, three cases take so long each instead: echoes of one stream with this kernel as the client,
requests of 4 KiB that are answered one by one, and streams with this kernel as the server; the stack
must send nothing twice unless a frame was lost. 10,000 connections follow.
"""

import argparse
import ctypes
import fcntl
import hashlib
import os
import re
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

    def __init__(self, program, tap, lose, arguments, limit_s=TIMEOUT_S):
        command = [program, "--mac", OURS_MAC, "--address", f"{OURS['ipv4']}/24"]
        command += ["--address", f"{OURS['ipv6']}/64", "--lose", str(lose), "--delay", str(lose), "--seed", "7"]
        command += ["--limit", str(limit_s), *arguments]
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
        except OSError:
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


def stream(seconds):
    """Sends a stream for so long, and compares what comes back. Returns the bytes."""
    data, sent, back = pattern(1 << 20), hashlib.sha256(), hashlib.sha256()
    end, total = time.monotonic() + seconds, 0

    def send():
        while time.monotonic() < end:
            connection.sendall(data)
            sent.update(data)
        connection.shutdown(socket.SHUT_WR)

    with connect(OURS["ipv4"]) as connection:
        sender = threading.Thread(target=send)
        sender.start()
        while piece := connection.recv(1 << 18):
            back.update(piece)
            total += len(piece)
        sender.join()
    assert sent.digest() == back.digest(), "what came back differs"
    return f"{total >> 20} MiB"


def ask(seconds):
    """Sends a request and waits for its answer, for so long. Returns the number."""
    data, end, count = pattern(4096), time.monotonic() + seconds, 0
    with connect(OURS["ipv4"]) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < end:
            connection.sendall(data)
            back = b""
            while len(back) < len(data):
                piece = connection.recv(len(data))
                assert piece, "the connection has ended"
                back += piece
            assert back == data, "the answer differs"
            count += 1
    return f"{count} requests"


def kernel_retransmitted():
    """Returns the segments that this kernel has sent again in this namespace."""
    with open("/proc/self/net/snmp", encoding="ascii") as file:
        names, values = (line.split() for line in file if line.startswith("Tcp:"))
    return int(values[names.index("RetransSegs")])


def nothing_twice(case):
    """Returns a case that fails if the stack has sent more segments twice than frames were lost."""

    def judged():
        before = kernel_retransmitted()
        moved, text = case()

        def total(what):
            return sum(map(int, re.findall(rf"{what} (\d+)", text)))

        lost, retransmitted = total("lost"), total("retransmitted")
        found = f"{moved}, {lost} frames lost, {retransmitted} segments sent again ({total('tail probes')} tail probes, "
        found += f"{total('timeouts')} timeouts), {kernel_retransmitted() - before} by the kernel"
        assert retransmitted <= lost, found
        return found

    return judged


def soak_calls(program, tap, seconds, use):
    under_test = Tap(program, tap, 0, ["serve"], seconds + TIMEOUT_S)
    try:
        return use(seconds), under_test.end()
    finally:
        under_test.kill()


def soak_serves(program, tap, seconds):
    end, length, texts = time.monotonic() + seconds, 500_000_000, []
    while time.monotonic() < end:
        texts.append(kernel_serves(program, tap, "ipv4", 0, length))
    return f"{len(texts)} streams of {length} bytes", " ".join(texts)


def soak_cases(program, tap, seconds):
    return [
        ("a stream", nothing_twice(lambda: soak_calls(program, tap, seconds, stream))),
        ("requests", nothing_twice(lambda: soak_calls(program, tap, seconds, ask))),
        ("streams to the kernel", nothing_twice(lambda: soak_serves(program, tap, seconds))),
        ("10,000 connections", lambda: kernel_calls(program, tap, "ipv4", 0, 100, times=10_000)),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--require", action="store_true", help="fail without a TAP device")
    parser.add_argument("--soak", type=int, metavar="SECONDS", help="how long each of three other cases takes")
    parser.add_argument("program", metavar="DST_TAP")
    arguments = parser.parse_args()
    program = arguments.program
    try:
        tap = make_device()
    except OSError as error:
        print(f"kernel: no TAP device in a network namespace here: {error}")
        return 1 if arguments.require else 0
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
                cases.append((f"the kernel {name}, {family}, {length} bytes, {lose} of 1,000 frames lost and {lose} late", run))
    if arguments.soak:
        cases = soak_cases(program, tap, arguments.soak)
    else:
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
