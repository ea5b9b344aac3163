"""The parameters of each method: a good value of each, the types that it may have, and values of the
right type that are wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Iterator

# The maximum length of the name of an export or a host, in bytes.
NAME_MAX = 223
# The maximum number of address prefixes of a host.
PREFIXES_MAX = 512

OF_EACH_TYPE: dict[str, list[Any]] = {
    "null": [None],
    "bool": [True, False],
    "number": [0, 5],
    "string": ["x"],
    "list": [[], ["x"]],
    "object": [{}, {"x": "x"}],
}


@dataclass(frozen=True)
class Parameter:
    good: Any
    types: tuple[str, ...]
    bad: list[Any]
    """Values of the right type that are wrong."""
    required: bool = False

    def wrong_values(self) -> Iterator[Any]:
        for kind, values in OF_EACH_TYPE.items():
            if kind not in self.types:
                yield from values
        yield from self.bad


BAD_TEXTS = ["", "x" * (NAME_MAX + 1), "ä" * (NAME_MAX // 2 + 1), "x" * 5000]
BAD_TEXTS += ["a\nb", "\0", "a\x7f", "a\x85", "\x1b[0m"]


def text(good: str, *bad: Any, required: bool = False) -> Parameter:
    return Parameter(good, ("string",), BAD_TEXTS + list(bad), required)


def name(good: str) -> Parameter:
    return text(good, required=True)


def number(low: int, high: int) -> Parameter:
    numbers = [low - 1, high + 1, low + 0.5, -1, -low, 2**31, 2**32, 2**63, 2**64, 10**30, -(10**30)]
    return Parameter(low, ("number",), [n for n in numbers if not (low <= n <= high and n == int(n))])


def flag(good: bool) -> Parameter:
    return Parameter(good, ("bool",), ["true", "false", 1])


# A path that is not a valid key file.
PSK_FILE = text("/nowhere/key", "/nowhere/key", "key", "./key", "/", "/dev/null", "/tmp\n/key", "/" + "x" * 600)

# At the target, a key that is not there may come later.
LATE_PSK_FILE = text("/nowhere/key", "key", "./key", "/", "/dev/null", "/tmp\n/key", "/" + "x" * 600)

# A key that is in no keyring.
PSK = text("there-is-none", "there-is-none", ":there-is-none")

PREFIXES = Parameter(
    ["10.0.0.0/8", "::1/128"],
    ("list",),
    [
        *([value] for value in (None, True, 5, [], {}, "", "x", "10.0.0.0/33", "10.0.0.1/8", "10/8", "10.0.0.0/")),
        *([value] for value in ("10.0.0.0/-1", "::1/129", "::1/0", "x" * 5000, "10.0.0.0/8\n", "10.0.0.0/8,::1")),
        ["10.0.0.0/8", 5],
        ["10.0.0.0/8"] * (PREFIXES_MAX + 1),
    ],
)

# The objects on which the calls operate; see the fixture.
EXPORT, BDEV, SPARE, CLAIMED, ATTACHED, HOST = "volume", "Malloc0", "Malloc1", "Malloc2", "attached", "somebody"
MIRROR, MEMBERS = "mirrored", ["Member0", "Member1"]

# An entry of an export's list of hosts.
ENTRY = {"host": "somebody", "access": "rw"}

CLIENT_OPTIONS = {
    "transaction_timeout_ms": number(1000, 86_400_000),
    "max_retries": number(0, 1_000_000),
    "reconnect_delay_ms": number(10, 60_000),
    "fast_io_fail_timeout_ms": number(0, 86_400_000),
    "loss_timeout_ms": number(0, 86_400_000),
    "keep_alive_timeout_ms": number(100, 3_600_000),
    "attach_timeout_ms": number(10, 3_600_000),
    "queue_depth": number(1, 4096),
}


MIRROR_OPTIONS = {
    "resync_rate_mib": number(0, 1_000_000),
    "verify_rate_mib": number(0, 1_000_000),
    "member_timeout_ms": number(0, 3_600_000),
    "flush_interval_ms": number(100, 3_600_000),
    "degraded_wait_ms": number(0, 3_600_000),
    "stop_timeout_ms": number(100, 600_000),
    "start_timeout_ms": number(10, 3_600_000),
}

BAD_MEMBERS: list[Any] = [[], [5], [None], [["x"]], ["x", "x"], ["x"] * 9, ["x" * 65], ["x", "a\nb"]]

MIRROR_DEVICES = {
    "name": name("new"),
    "members": Parameter([SPARE], ("list",), BAD_MEMBERS, required=True),
    "witness": text("nowhere", SPARE, "x" * 65),
    **MIRROR_OPTIONS,
}

BAD_PLACES = ["local host", "-a", "a..b", "::1%", "256.0.0.1", "1.2.3", "::g", "127.0.0.1:80", "[::1]"]
BAD_ADDRESSES = ["localhost", "256.0.0.1", "1.2.3", "::g", " 127.0.0.1", "127.0.0.1:80", "[::1]", "::1%lo"]
BAD_ADDRESS_LISTS: list[Any] = [[], ["-a"], ["127.0.0.1", "::g"], ["127.0.0.1", 5], ["127.0.0.1"] * 9]

# An interface has addresses of hosts, and gateways in its networks.
BAD_INTERFACE_ADDRESSES: list[Any] = ["", "x", "192.0.2.1", "192.0.2.1/33", "192.0.2.1/+9", "192.0.2.1/", "/24", "::1/129"]
BAD_INTERFACE_ADDRESSES += ["0.0.0.0/0", "192.0.2.255/24", "224.0.0.1/24", "127.0.0.1/8", "x" * 5000]
BAD_INTERFACE_ADDRESSES += [[], [5], [["192.0.2.1/24"]], ["192.0.2.1/24"] * 2, ["192.0.2.1/24"] * 17]
BAD_GATEWAYS: list[Any] = ["", "x", "192.0.2.2/24", "198.51.100.1", "192.0.2.1", "fd00::1"]
BAD_GATEWAYS += [[5], ["192.0.2.2", "192.0.2.3"], ["192.0.2.2", "fd00::1", "fd00::2"]]

BAD_CPUMASKS: list[Any] = ["", " ", "x", "0x", "0x6g", "-1", "0x-1", "1-2", "1,2", "1 2", "６", "\0", "1\n", "f" * 5000]
BAD_CPUMASKS += ["[", "]", "[1", "1]", "[,]", "[0,]", "[0,,1]", "[-1]", "[0-]", "[1-0]", "[0-1-2]", "[+1]", "[0x1]", "[٣]"]
# CPUs that do not exist.
BAD_CPUMASKS += ["[1023]", "[0,1023]", "[0-1023]", "0x1" + "0" * 255, "[1024]", "0x1" + "0" * 256, "[9" + "9" * 30 + "]"]


PATH_POLICY = text("spread", "round_robin", "FAILOVER")


def place(port: int) -> dict[str, Parameter]:
    ports = ["", "0", "65536", "-1", "+80", "1.5", " 80", "0x50", "http", "٣", "9" * 5000, "80\n", "\0"]
    ports += [0, 65536, -1, 1.5, 2**64, 10**30]
    return {
        "traddr": text("127.0.0.1", *BAD_ADDRESSES, required=True),
        "trsvcid": Parameter(str(port), ("string", "number"), ports, required=True),
        "adrfam": text("ipv4", "ipv6", "ipv5", "ib", "4"),
        "sock_impl": text("posix", "there-is-none"),
    }


def methods(port: int, other_port: int) -> dict[str, dict[str, Parameter]]:
    """Returns all methods and their parameters. `port` has a listener, `other_port` has none."""
    return {
        "bdev_dst_create": {
            "name": name("new"),
            **place(port),
            "traddr": Parameter("127.0.0.1", ("string", "list"), [*BAD_PLACES, *BAD_ADDRESS_LISTS], required=True),
            "path_policy": PATH_POLICY,
            "export": name(EXPORT),
            "host": text(HOST),
            "psk_file": PSK_FILE,
            "psk": PSK,
            "digest": text("none", "md5", "CRC32C"),
            # Without a key there is no cipher.
            "cipher": text("none", "aes-128-gcm", "aes-256-gcm", "chacha20-poly1305", "rot13", "NONE"),
            "uuid": text("derive", "export", "7a7d0f0a-6b1c-4f0e-8c55-0f1f7a8a3c11"),
            "exclusive": flag(False),
            # It needs exclusive.
            "takeover": flag(False),
            "wait": flag(True),
            "first_attempt": flag(True),
            **CLIENT_OPTIONS,
        },
        "bdev_dst_wait_first_attempts": {},
        "bdev_dst_delete": {"name": name(ATTACHED)},
        "bdev_dst_set_addresses": {
            "name": name(ATTACHED),
            "traddr": Parameter("127.0.0.1", ("string", "list"), [*BAD_PLACES, *BAD_ADDRESS_LISTS], required=True),
            **{key: replace(place(port)[key], required=False) for key in ("trsvcid", "adrfam")},
            "path_policy": PATH_POLICY,
        },
        "bdev_dst_accept_device": {"name": name(ATTACHED)},
        "bdev_dst_get_info": {"name": text(ATTACHED)},
        "bdev_dst_set_options": CLIENT_OPTIONS,
        "bdev_dst_get_options": {},
        "bdev_dst_mirror_create": {**MIRROR_DEVICES, "force": flag(False), "equal": flag(False)},
        "bdev_dst_mirror_assemble": {
            **MIRROR_DEVICES,
            "force": text(SPARE, "nobody"),
            "wait": flag(True),
            "takeover": flag(False),
        },
        "bdev_dst_mirror_find": {"bdev_name": text(SPARE), "search_mib": number(0, 1 << 43)},
        "bdev_dst_mirror_wait": {"name": name(MIRROR)},
        "bdev_dst_mirror_add_member": {"name": name(MIRROR), "member": name(SPARE), "force": flag(False)},
        "bdev_dst_mirror_remove_member": {"name": name(MIRROR), "member": name(SPARE)},
        "bdev_dst_mirror_add_witness": {"name": name(MIRROR), "witness": name(SPARE), "force": flag(False)},
        "bdev_dst_mirror_remove_witness": {"name": name(MIRROR)},
        "bdev_dst_mirror_delete": {"name": name(MIRROR), "wipe": flag(False)},
        "bdev_dst_mirror_verify": {"name": name(MIRROR), "repair": flag(False), "stop": flag(False)},
        "bdev_dst_mirror_get_info": {"name": text(MIRROR)},
        "bdev_dst_mirror_set_options": {"name": name(MIRROR), **MIRROR_OPTIONS},
        "bdev_dst_mirror_set_limits": {"total_resync_rate_mib": number(0, 1_000_000)},
        "bdev_dst_mirror_get_limits": {},
        "dst_create_listener": place(other_port),
        "dst_delete_listener": place(port),
        "dst_get_listeners": {},
        "dst_create_export": {
            "name": name("new"),
            "bdev_name": name(SPARE),
            "uuid": text(
                "00010203-0405-0607-0809-0a0b0c0d0e0f",
                *("x", "1" * 32, "1-1", "0001020-30405-0607-0809-0a0b0c0d0e0f", "g001020-0405-0607-0809-0a0b0c0d0e0f"),
                "00000000-0000-0000-0000-000000000000",
            ),
            "read_only": flag(True),
            "require_digest": flag(True),
            "cache_outlives_target": flag(True),
            "require_cipher": flag(True),
            "hosts": Parameter(
                [{"host": "first", "access": "ro"}, {"host": "*", "access": "rw", "addresses": ["::1/128"]}],
                ("list",),
                [
                    *([value] for value in (None, True, 5, "x", [], {}, {"host": "x"}, {"access": "rw"})),
                    [ENTRY | {"access": "wo"}],
                    [ENTRY | {"frobnicate": 1}],
                    [ENTRY | {"export": EXPORT}],
                    *([ENTRY | {"host": bad}] for bad in BAD_TEXTS),
                    *([ENTRY | {"addresses": bad}] for bad in PREFIXES.bad),
                    *([ENTRY | {"psk_file": bad}] for bad in ("key", "/", "/dev/null")),
                    [ENTRY, ENTRY],
                    [ENTRY, {"host": "other", "access": "ro"}, ENTRY],
                ],
            ),
            "reset": text("backend", "bdev", "HOST", "host "),
            "state_file": text("/nowhere/state", "state", "./state", "/tmp\n/state", "/" + "x" * 600),
        },
        "dst_delete_export": {"name": name(EXPORT)},
        "dst_get_exports": {"name": text(EXPORT)},
        "dst_export_add_host": {
            "export": name(EXPORT),
            "host": name("new"),
            "access": text("rw", "wo", "RW", "rw ", required=True),
            "addresses": PREFIXES,
            "takeover": flag(True),
            "psk_file": LATE_PSK_FILE,
            "psk": text("there-is-none"),
        },
        "dst_export_release": {"export": name(EXPORT)},
        "dst_export_reset": {"export": name(EXPORT)},
        "dst_export_set_host": {
            "export": name(EXPORT),
            "host": name(HOST),
            "access": text("rw", "wo", "RW", "rw ", required=True),
            "takeover": flag(True),
            "addresses": PREFIXES,
            "psk_file": LATE_PSK_FILE,
            "psk": text("there-is-none"),
        },
        "dst_export_remove_host": {"export": name(EXPORT), "host": name(HOST)},
        "dst_get_sessions": {"export": text(EXPORT)},
        "dst_get_stats": {},
        "dst_get_metrics": {},
        "dst_set_workers": {"cpumask": Parameter("0x0", ("string",), BAD_CPUMASKS, required=True)},
        "dst_set_options": {
            "max_connections": number(1, 65_536),
            "max_connections_per_host": number(1, 65_536),
            "max_handshakes": number(1, 65_536),
            "max_handshakes_per_address": number(1, 65_536),
            "max_handshake_bytes": number(512, 4096),
            "handshake_timeout_ms": number(100, 60_000),
            "max_sessions": number(1, 65_536),
            "session_timeout_ms": number(1000, 3_600_000),
            "max_keep_alive_ms": number(100, 3_600_000),
            "drain_timeout_ms": number(100, 600_000),
            "queue_depth": number(1, 4096),
            "max_transfer": Parameter(
                65_536, ("number",), [65_535, 65_537, 131_071, 1_048_577, 2_097_152, -1, 65_536.5, 2**32, 10**30]
            ),
            "buffer_mib": number(4, 65_536),
        },
        "dst_get_options": {},
        "dst_set_stop_note": {
            "path": text("/nowhere/note", "note", "./note", "/tmp\n/note", "/" + "x" * 600, required=True)
        },
        "dpdk_sock_create_interface": {
            "name": name("net0"),
            "port": text("net_absent0", required=True),
            "addresses": Parameter(["192.0.2.1/24"], ("string", "list"), BAD_INTERFACE_ADDRESSES, required=True),
            "gateway": Parameter("192.0.2.2", ("string", "list"), BAD_GATEWAYS),
            "mtu": number(576, 9600),
            "vlan": number(0, 4094),
            "queues": number(0, 16),
        },
        "dpdk_sock_delete_interface": {"name": name("net0")},
        "dpdk_sock_get_interfaces": {"name": text("net0")},
        "dpdk_sock_get_connections": {"name": text("net0")},
    }


# The names of the tests come from here, so they must not depend on the ports.
TABLE = methods(1, 2)
NAMES = {method: list(parameters) for method, parameters in TABLE.items()}
