"""Every method with every parameter wrong in every way: the error names the parameter, and nothing
is half-created."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from harness.keys import KeyFile
from harness.lab import Lab
from harness.ports import free_port
from harness.rpc import PendingCall, RpcError
from harness.rpc_parameters import (
    ATTACHED,
    BDEV,
    CLAIMED,
    CLIENT_OPTIONS,
    EXPORT,
    HOST,
    MEMBERS,
    MIRROR,
    NAMES,
    NAME_MAX,
    PREFIXES_MAX,
    Parameter,
    SPARE,
    TABLE,
    methods,
)
from harness.spdk import Application
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

# No error repeats all of a long value.
MESSAGE_MAX = 1000

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
        ("bdev_dst_mirror_find", "bdev_name", "nobody"),
        ("bdev_dst_mirror_wait", "name", "nobody"),
        ("bdev_dst_mirror_delete", "name", "nobody"),
        ("bdev_dst_mirror_add_member", "name", "nobody"),
        ("bdev_dst_mirror_remove_member", "name", BDEV),
        ("bdev_dst_mirror_add_witness", "name", "nobody"),
        ("bdev_dst_mirror_remove_witness", "name", BDEV),
        ("bdev_dst_mirror_verify", "name", "nobody"),
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
