"""Every method with every parameter wrong in every way: the error names the parameter, and nothing
is half-created."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from harness.keys import KeyFile
from harness.lab import Lab
from harness.ports import free_port
from harness.rpc import PendingCall, RpcError
from harness.spdk import Application
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

# The maximum length of the name of an export or a host, in bytes.
NAME_MAX = 223
# The maximum number of address prefixes of a host.
PREFIXES_MAX = 512
# No error repeats all of a long value.
MESSAGE_MAX = 1000

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
        "bdev_dst_mirror_assemble": {**MIRROR_DEVICES, "force": text(SPARE, "nobody"), "wait": flag(True)},
        "bdev_dst_mirror_wait": {"name": name(MIRROR)},
        "bdev_dst_mirror_add_member": {"name": name(MIRROR), "member": name(SPARE), "force": flag(False)},
        "bdev_dst_mirror_remove_member": {"name": name(MIRROR), "member": name(SPARE)},
        "bdev_dst_mirror_delete": {"name": name(MIRROR), "wipe": flag(False)},
        "bdev_dst_mirror_get_info": {"name": text(MIRROR)},
        "bdev_dst_mirror_set_options": {"name": name(MIRROR), **MIRROR_OPTIONS},
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
        "dpdk_sock_create_interface": {
            "name": name("net0"),
            "port": text("net_absent0", required=True),
            "addresses": Parameter(["192.0.2.1/24"], ("string", "list"), BAD_INTERFACE_ADDRESSES, required=True),
            "gateway": Parameter("192.0.2.2", ("string", "list"), BAD_GATEWAYS),
            "mtu": number(576, 9600),
            "vlan": number(0, 4094),
        },
        "dpdk_sock_delete_interface": {"name": name("net0")},
        "dpdk_sock_get_interfaces": {"name": text("net0")},
        "dpdk_sock_get_connections": {"name": text("net0")},
    }


# The names of the tests come from here, so they must not depend on the ports.
TABLE = methods(1, 2)
NAMES = {method: list(parameters) for method, parameters in TABLE.items()}
EVERY_METHOD = pytest.mark.parametrize("method", NAMES)


def every_parameter(such: Callable[[Parameter], bool] = lambda _: True) -> pytest.MarkDecorator:
    pairs = [(method, key) for method, parameters in TABLE.items() for key in parameters if such(parameters[key])]
    return pytest.mark.parametrize("method, parameter", pairs)


def steady(shown: Any) -> Any:
    """Returns what is shown, without what changes by itself or with each attempt."""
    if isinstance(shown, dict):
        return {key: steady(value) for key, value in shown.items() if key not in ("age_ms", "state_age_ms", "refused_hellos")}
    return [steady(value) for value in shown] if isinstance(shown, list) else shown


class World:
    """One process, which is target and its own client, with one object of each kind."""

    def __init__(self, lab: Lab) -> None:
        self.app: Application = lab.target()
        self.call = self.app.rpc.call
        self.port, self.free_port = free_port(), free_port()
        self.methods = methods(self.port, self.free_port)
        for bdev in (BDEV, SPARE, CLAIMED):
            self.call("bdev_malloc_create", name=bdev, num_blocks=2048, block_size=512)
        self.call("bdev_passthru_create", name="Passthru0", base_bdev_name=CLAIMED)
        self.call("dst_create_export", name=EXPORT, bdev_name=BDEV)
        self.call("dst_export_add_host", export=EXPORT, host=HOST, access="rw")
        self.call("dst_create_listener", traddr="127.0.0.1", trsvcid=str(self.port))
        self.call("bdev_dst_create", **(self.good("bdev_dst_create") | {"name": ATTACHED, "host": HOST}))
        for member in MEMBERS:
            self.call("bdev_malloc_create", name=member, num_blocks=24 * 2048, block_size=512)
        self.call("bdev_dst_mirror_create", name=MIRROR, members=MEMBERS, equal=True)
        everything = self.call("rpc_get_methods")
        getters = [m for m in everything if re.match(r"(bdev_)?dst_get_|dpdk_sock_get_", m)] + ["bdev_get_bdevs"]
        # The metrics count refusals, too.
        self.getters = [m for m in getters if m != "dst_get_metrics"]
        # The state that refused calls must not change.
        self.before = self.shown()

    def good(self, method: str) -> dict[str, Any]:
        """Returns the parameters that the method requires."""
        return {key: parameter.good for key, parameter in self.methods[method].items() if parameter.required}

    def shown(self) -> dict[str, Any]:
        return {getter: steady(self.call(getter)) for getter in self.getters}

    def call_text(self, method: str, params: str) -> Any:
        """Sends parameters as text, for JSON that json.dumps does not write."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(10)
        sock.connect(str(self.app.socket_path))
        sock.sendall(f'{{"jsonrpc": "2.0", "id": 1, "method": "{method}", "params": {params}}}'.encode())
        return PendingCall(sock, method, 1).result()

    def complaint(self, call: Callable[[], Any], parameter: str) -> str | None:
        """Returns what is wrong with the call's error, or None."""
        try:
            result = call()
        except RpcError as error:
            if not names(error.message, parameter):
                return f"the error does not name {parameter}: {error.message}"
            if len(error.message) > MESSAGE_MAX:
                return f"the error has {len(error.message)} characters: {error.message[:100]}..."
            return None
        return f"no error; the answer is {result!r}"


def names(message: str, parameter: str) -> bool:
    """Returns whether a message begins with the parameter's name, or contains it in quotes."""
    return parameter in message.split(": ")[0].split(", ") or f"'{parameter}'" in message


@pytest.fixture(scope="module")
def world(needs_dst: None, module_lab: Lab) -> World:
    return World(module_lab)


@pytest.fixture
def unchanged(world: World) -> Iterator[None]:
    """After the test, everything must look as before."""
    before = world.before
    yield
    world.app.assert_running()

    def as_before() -> bool:
        # A refused connection takes a moment to end.
        world.before = world.shown()
        return world.before == before

    try:
        wait_until(as_before, "everything to look as before", timeout=5)
    except AssertionError:
        assert world.before == before


def refuse(world: World, method: str, parameter: str, **params: Any) -> str:
    """Makes a call that must fail and name the parameter. Returns the message."""
    with pytest.raises(RpcError) as caught:
        world.call(method, **params)
    message = caught.value.message
    assert names(message, parameter), message
    return message


def test_every_method_is_here(world: World) -> None:
    assert {m for m in world.call("rpc_get_methods") if re.match(r"(bdev_)?dst_|dpdk_sock_", m)} == set(NAMES)


@every_parameter()
@pytest.mark.usefixtures("unchanged")
def test_wrong_values(world: World, method: str, parameter: str) -> None:
    complaints = {}
    for value in world.methods[method][parameter].wrong_values():
        params = json.dumps(world.good(method) | {parameter: value})
        complaints[repr(value)[:60]] = world.complaint(lambda: world.call_text(method, params), parameter)
    assert {value: complaint for value, complaint in complaints.items() if complaint} == {}


@every_parameter(lambda parameter: "number" in parameter.types)
@pytest.mark.usefixtures("unchanged")
def test_numbers_beyond_all_numbers(world: World, method: str, parameter: str) -> None:
    for number in ("1e400", "-1e400", "1e-400", "9" * 500, "0." + "0" * 500 + "1"):
        params = json.dumps(world.good(method) | {parameter: "NUMBER"}).replace('"NUMBER"', number)
        assert world.complaint(lambda: world.call_text(method, params), parameter) is None, number


@every_parameter(lambda parameter: parameter.required)
@pytest.mark.usefixtures("unchanged")
def test_missing(world: World, method: str, parameter: str) -> None:
    params = world.good(method)
    del params[parameter]
    assert "missing" in refuse(world, method, parameter, **params)


@every_parameter()
@pytest.mark.usefixtures("unchanged")
def test_there_twice_in_the_call(world: World, method: str, parameter: str) -> None:
    params = world.good(method) | {parameter: world.methods[method][parameter].good}
    pairs = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in params.items()]
    pairs.append(f'"{parameter}": {json.dumps(params[parameter])}')
    text = "{" + ", ".join(pairs) + "}"
    assert world.complaint(lambda: world.call_text(method, text), parameter) is None


@EVERY_METHOD
@pytest.mark.usefixtures("unchanged")
def test_unknown_parameter(world: World, method: str) -> None:
    # A long name is shown by its beginning, an unprintable one escaped.
    for key, named in (("frobnicate", "frobnicate"), ("Name", "Name"), ("x" * 5000, "x" * 64), ("a\nb", "a\\nb")):
        params = json.dumps(world.good(method) | {key: 1})
        with pytest.raises(RpcError) as caught:
            world.call_text(method, params)
        message = caught.value.message
        assert message.startswith(named) and "no such parameter" in message and len(message) < MESSAGE_MAX, message


@EVERY_METHOD
@pytest.mark.usefixtures("unchanged")
def test_parameters_that_are_no_object(world: World, method: str) -> None:
    for params in ("[]", '["x"]'):
        assert world.complaint(lambda: world.call_text(method, params), "params") is None


@pytest.mark.parametrize(
    "method, parameter, value",
    [
        ("bdev_dst_delete", "name", "nobody"),
        ("bdev_dst_delete", "name", BDEV),
        ("bdev_dst_get_info", "name", "nobody"),
        ("bdev_dst_get_info", "name", BDEV),
        ("bdev_dst_mirror_wait", "name", "nobody"),
        ("bdev_dst_mirror_delete", "name", "nobody"),
        ("bdev_dst_mirror_add_member", "name", "nobody"),
        ("bdev_dst_mirror_remove_member", "name", BDEV),
        ("bdev_dst_mirror_get_info", "name", "nobody"),
        ("bdev_dst_mirror_set_options", "name", BDEV),
        ("dst_delete_export", "name", "nobody"),
        ("dst_get_exports", "name", "nobody"),
        ("dst_get_sessions", "export", "nobody"),
        ("dst_export_add_host", "export", "nobody"),
        ("dst_export_release", "export", "nobody"),
        # It has no state file.
        ("dst_export_release", "export", EXPORT),
        ("dst_export_reset", "export", "nobody"),
        # Nobody waits to own it.
        ("dst_export_reset", "export", EXPORT),
        ("dst_export_set_host", "export", "nobody"),
        ("dst_export_set_host", "host", "nobody"),
        ("dst_export_set_host", "host", "*"),
        ("dst_export_remove_host", "export", "nobody"),
        ("dst_export_remove_host", "host", "nobody"),
        ("dst_export_remove_host", "host", "*"),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_not_there(world: World, method: str, parameter: str, value: str) -> None:
    assert value in refuse(world, method, parameter, **(world.good(method) | {parameter: value}))


@pytest.mark.usefixtures("unchanged")
def test_no_such_listener(world: World) -> None:
    for place in ({"trsvcid": str(world.free_port)}, {"traddr": "127.0.0.2"}, {"traddr": "::1"}):
        refuse(world, "dst_delete_listener", "trsvcid", **(world.good("dst_delete_listener") | place))


@pytest.mark.parametrize(
    "method, parameter, params",
    [
        ("bdev_dst_create", "name", {"name": ATTACHED}),
        ("bdev_dst_create", "name", {"name": BDEV}),
        ("bdev_dst_create", "name", {"name": BDEV, "wait": False}),
        ("dst_create_export", "name", {"name": EXPORT}),
        ("dst_export_add_host", "host", {"host": HOST}),
        ("dst_create_export", "bdev_name", {"bdev_name": CLAIMED}),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_there_already(world: World, method: str, parameter: str, params: dict[str, Any]) -> None:
    assert params[parameter] in refuse(world, method, parameter, **(world.good(method) | params))


@pytest.mark.usefixtures("unchanged")
def test_listener_there_already(world: World) -> None:
    params = world.good("dst_create_listener")
    refuse(world, "dst_create_listener", "trsvcid", **(params | {"trsvcid": str(world.port)}))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert port in refuse(world, "dst_create_listener", "trsvcid", **(params | {"trsvcid": port}))


@pytest.mark.usefixtures("unchanged")
def test_address_of_another_family(world: World) -> None:
    for method in ("bdev_dst_create", "dst_create_listener", "dst_delete_listener"):
        for traddr, adrfam in (("127.0.0.1", "ipv6"), ("::1", "ipv4")):
            refuse(world, method, "adrfam", **(world.good(method) | {"traddr": traddr, "adrfam": adrfam}))


@pytest.mark.parametrize("method", ["bdev_dst_create", "dst_export_add_host"])
@pytest.mark.usefixtures("unchanged")
def test_key_files_that_will_not_do(world: World, method: str, tmp_path: Path) -> None:
    """The call fails at once and names the file and what to do, and shows nothing of its
    content."""
    path = tmp_path / "key"
    key = os.urandom(32)
    KeyFile(tmp_path, "key", key)

    def complaint(problem: str) -> str:
        message = refuse(world, method, "psk_file", **world.good(method), psk_file=str(path))
        assert str(path) in message and problem in message, message
        assert key.hex()[:8] not in message
        return message

    def missing() -> None:
        # For a target's entry it may come later.
        if method == "bdev_dst_create":
            complaint("No such file")

    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        assert "chmod 600" in complaint(f"{mode:04o}")
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
        assert "chown" in complaint("12345")
        os.chown(path, 0, -1)
    path.write_text(key.hex() * 65)
    complaint("4160 bytes")
    path.unlink()
    missing()
    os.mkfifo(path, 0o600)
    complaint("FIFO")
    path.unlink()
    path.mkdir(0o700)
    complaint("directory")
    path.rmdir()
    path.symlink_to(tmp_path / "elsewhere")
    missing()
    # The permissions of the file count, not those of the link.
    KeyFile(tmp_path, "elsewhere", key)
    path.resolve().chmod(0o644)
    complaint("0644")


@pytest.mark.usefixtures("unchanged")
def test_key_and_cipher_belong_together(world: World, tmp_path: Path) -> None:
    good, file = world.good("bdev_dst_create"), KeyFile(tmp_path, "key").path
    assert "psk_file" in refuse(world, "bdev_dst_create", "cipher", **good, cipher="aes-128-gcm")
    assert "leave it out" in refuse(world, "bdev_dst_create", "cipher", **good, cipher="none", psk_file=file)
    assert world.call("dst_create_export", name="strict", bdev_name=SPARE, require_cipher=True) == "strict"
    host = {"export": "strict", "host": HOST, "access": "rw"}
    assert "psk_file" in refuse(world, "dst_export_add_host", "host", **host)
    assert world.call("dst_export_add_host", **host, psk_file=file) is True
    (export,) = world.call("dst_get_exports", name="strict")
    assert export["require_cipher"] is True and export["hosts"][0]["psk_file"] == file
    assert world.call("dst_delete_export", name="strict") is True


@pytest.mark.usefixtures("unchanged")
def test_options_in_use(world: World) -> None:
    with pytest.raises(RpcError, match="before the first listener"):
        world.call("dst_set_options", queue_depth=8)


def test_limits_themselves_are_allowed(world: World) -> None:
    long = "x" * NAME_MAX
    world.call("dst_create_export", name=long, bdev_name=SPARE, read_only=True)
    world.call("dst_export_add_host", export=long, host=long, access="ro", addresses=["127.0.0.0/8"] * PREFIXES_MAX)
    params = world.good("bdev_dst_create") | {"name": long, "export": long, "host": long, "adrfam": "IPv4"}
    assert world.call("bdev_dst_create", **(params | {"trsvcid": world.port})) == long
    assert world.call("bdev_dst_delete", name=long) is True
    assert world.call("dst_delete_export", name=long) is True

    before = world.call("bdev_dst_get_options")
    limits = {"transaction_timeout_ms": 86_400_000, "max_retries": 1_000_000, "reconnect_delay_ms": 60_000}
    limits |= {"keep_alive_timeout_ms": 3_600_000, "attach_timeout_ms": 3_600_000, "queue_depth": 4096}
    limits |= {"fast_io_fail_timeout_ms": 86_400_000, "loss_timeout_ms": 86_400_000}
    for options in ({key: parameter.good for key, parameter in CLIENT_OPTIONS.items()}, limits, before):
        assert world.call("bdev_dst_set_options", **options) is True
        assert world.call("bdev_dst_get_options") == options
    # The bdev was read while it existed, which the counters show for ever.
    world.before = world.before | {"dst_get_stats": steady(world.call("dst_get_stats"))}
    wait_until(lambda: world.shown() == world.before, "everything else to look as before", timeout=5)


def test_a_listener_that_fails_leaves_the_options_free(lab: Lab) -> None:
    target = lab.target()
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(RpcError):
        target.rpc.call("dst_create_listener", traddr="127.0.0.1", trsvcid=str(other.getsockname()[1]))
    threads = [thread["name"] for thread in target.rpc.call("thread_get_stats")["threads"]]
    assert not any(thread.startswith("dst") for thread in threads)
    chosen = {"queue_depth": 8, "max_transfer": 65_536, "max_keep_alive_ms": 2000, "drain_timeout_ms": 700}
    assert target.rpc.call("dst_set_options", **chosen) is True
    options = target.rpc.call("dst_get_options")
    assert {key: options[key] for key in chosen} == chosen


# Attaching without success.

TIMEOUT_MS = 500
# The additional time that a busy machine may take, seconds.
LATENESS = 2.0


def attach_in_vain(world: World, **params: Any) -> str:
    """Returns the error's message."""
    call = world.good("bdev_dst_create") | {"host": HOST, "attach_timeout_ms": TIMEOUT_MS} | params
    begun = time.monotonic()
    pending = world.app.rpc.start("bdev_dst_create", **call)
    # The call delays no other call meanwhile.
    world.call("rpc_get_methods", rpc_timeout=LATENESS)
    with pytest.raises(RpcError) as caught:
        pending.result()
    assert time.monotonic() - begun < TIMEOUT_MS / 1000 + LATENESS
    assert world.app.bdev(call["name"]) is None
    return caught.value.message


@pytest.mark.usefixtures("unchanged")
def test_attach_where_nobody_listens(world: World) -> None:
    message = attach_in_vain(world, trsvcid=str(world.free_port))
    assert names(message, "attach_timeout_ms") and str(TIMEOUT_MS) in message, message


@pytest.mark.parametrize("params", [{"export": "wrong"}, {"host": "stranger"}, {"export": SPARE}, {"host": "*"}])
@pytest.mark.usefixtures("unchanged")
def test_attach_refused(world: World, params: dict[str, str]) -> None:
    message = attach_in_vain(world, **params)
    assert names(message, "export") and names(message, "host"), message
    assert all(value in message for value in params.values()), message


@pytest.mark.usefixtures("unchanged")
def test_attach_to_somebody_who_never_answers(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        message = attach_in_vain(world, trsvcid=str(mute.getsockname()[1]))
    assert names(message, "attach_timeout_ms"), message


@pytest.mark.usefixtures("unchanged")
def test_attach_to_a_black_hole(world: World) -> None:
    """The connection is not even established: a listener with a full backlog drops further ones."""
    with ExitStack() as sockets, socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        message = attach_in_vain(world, trsvcid=str(full.getsockname()[1]))
    assert names(message, "attach_timeout_ms"), message


@pytest.mark.usefixtures("unchanged")
def test_attach_to_another_protocol(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        call = world.good("bdev_dst_create") | {"attach_timeout_ms": TIMEOUT_MS}
        pending = world.app.rpc.start("bdev_dst_create", **(call | {"trsvcid": str(server.getsockname()[1])}))
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        with pytest.raises(RpcError) as caught:
            pending.result()
    assert names(caught.value.message, "attach_timeout_ms"), caught.value.message


@pytest.mark.usefixtures("unchanged")
def test_delete_while_attaching(world: World) -> None:
    params = world.good("bdev_dst_create") | {"trsvcid": str(world.free_port), "attach_timeout_ms": 60_000}
    pending = world.app.rpc.start("bdev_dst_create", **params)
    wait_until(lambda: len(world.call("bdev_dst_get_info")) == 2, "the attempt to be shown")
    refuse(world, "bdev_dst_create", "name", **params)
    assert world.call("bdev_dst_delete", name=params["name"]) is True
    with pytest.raises(RpcError, match="deleted"):
        pending.result()


@pytest.mark.usefixtures("unchanged")
def test_no_wait_for_a_target_that_says_nothing(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        params = world.good("bdev_dst_create") | {"trsvcid": str(port), "wait": False, "attach_timeout_ms": 60_000}
        assert world.call("bdev_dst_create", **params) == params["name"]
        assert world.call("bdev_dst_get_info", name=params["name"])[0]["state"] == "attaching"
        assert world.call("bdev_dst_delete", name=params["name"]) is True


@pytest.mark.usefixtures("unchanged")
def test_no_wait(world: World) -> None:
    params = world.good("bdev_dst_create") | {"trsvcid": str(world.free_port), "wait": False}
    assert world.call("bdev_dst_create", **params) == params["name"]
    refuse(world, "bdev_dst_create", "name", **params)
    assert world.call("bdev_dst_get_info", name=params["name"])[0]["state"] == "attaching"
    assert world.app.bdev(params["name"]) is None
    assert world.call("bdev_dst_delete", name=params["name"]) is True
