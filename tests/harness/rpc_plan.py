"""Random sequences of RPCs over a target and a client. A sequence is a function of its seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Callable

TARGET, CLIENT = "target", "client"
PROCESSES = (TARGET, CLIENT)

# Stand for what differs from run to run: ports, and files in the run's folder. The runner replaces
# them in the text of the calls.
PORTS = ("$PORT0", "$PORT1")
FILES = ("$FOLDER/volume0", "$FOLDER/volume1")
KEYS = ("$FOLDER/key0", "$FOLDER/key1", "$FOLDER/no-key")

# Few names, so that calls meet each other.
DISKS = ("Bdev0", "Bdev1", "Bdev2")
# Names of their own: SPDK 26.09 dies of a passthru bdev whose name another bdev has.
PASSTHRUS = ("Over0", "Over1")
BDEVS = DISKS + PASSTHRUS
EXPORTS = ("disk0", "disk1")
HOSTS = ("*", "host0", "host1")
REMOTES = ("Remote0", "Remote1", "Remote2")

# The times of both processes, so short that no call and no stop takes long.
TARGET_TIMES = {"drain_timeout_ms": 500, "session_timeout_ms": 1000, "handshake_timeout_ms": 1000}
CLIENT_TIMES = {
    "transaction_timeout_ms": 2000,
    "reconnect_delay_ms": 50,
    "keep_alive_timeout_ms": 1000,
    "attach_timeout_ms": 1000,
}

# Values that are wrong for every parameter, or harmless.
WRONG: tuple[Any, ...] = (None, True, -1, 1.5, 0, 2**64, 10**30, "", "x" * 3000, "a\nb", "\0", [], [[]], {}, {"x": 1})

# Bytes that are not a call.
GARBAGE = (b"\0", b"]", b"{", b"{}", b"[]", b'{"jsonrpc": "2.0", "method": ', b'"' + b"x" * 40_000, b"[" * 2000)


@dataclass(frozen=True)
class Call:
    method: str
    params: Any

    def __str__(self) -> str:
        shown = repr(self.params)
        return f"{self.method} {shown if len(shown) < 300 else shown[:300] + '…'}"


@dataclass(frozen=True)
class Send:
    """Sends calls on a new connection, and waits for nothing."""

    process: str
    calls: tuple[Call, ...]
    abandon: bool = False
    """Whether the connection is closed at once, before the answers."""

    def __str__(self) -> str:
        abandoned = " (abandoned)" if self.abandon else ""
        return f"{self.process}{abandoned}: " + "; ".join(str(call) for call in self.calls)


@dataclass(frozen=True)
class SendGarbage:
    process: str
    data: bytes


@dataclass(frozen=True)
class Collect:
    """Waits for all answers."""


@dataclass(frozen=True)
class Pause:
    ms: int


@dataclass(frozen=True)
class Freeze:
    """Stops a process for a time."""

    process: str
    ms: int


@dataclass(frozen=True)
class Save:
    """Saves the configuration, whatever is in flight."""

    process: str


@dataclass(frozen=True)
class Kill:
    process: str


@dataclass(frozen=True)
class Stop:
    """Ends a process with SIGTERM."""

    process: str


@dataclass(frozen=True)
class Start:
    """Starts a process that is down, with the configuration saved last or with none."""

    process: str
    saved: bool


@dataclass(frozen=True)
class Reload:
    """Saves the configuration while nothing is in flight, restarts the process with it, and expects
    the same again."""

    process: str


Step = Send | SendGarbage | Collect | Pause | Freeze | Save | Kill | Stop | Start | Reload


@dataclass(frozen=True)
class Plan:
    seed: int
    steps: tuple[Step, ...]
    """Leaves both processes running."""
    sweep: tuple[str, ...]
    """The order in which the processes delete everything at the end."""


Maker = Callable[[random.Random], dict[str, Any]]


def _optional(rng: random.Random, share: float = 0.3, /, **choices: Any) -> dict[str, Any]:
    """Returns this share of the parameters, each with one of its values."""
    return {name: rng.choice(values) for name, values in choices.items() if rng.random() < share}


def _nothing(_: random.Random) -> dict[str, Any]:
    return {}


def _one(parameter: str, *values: Any) -> Maker:
    return lambda rng: {parameter: rng.choice(values)}


def _listener(rng: random.Random) -> dict[str, Any]:
    addresses = ("127.0.0.1",) * 5 + ("::1", "0.0.0.0", "192.0.2.1")
    return {"traddr": rng.choice(addresses), "trsvcid": rng.choice(PORTS)}


def _export(rng: random.Random) -> dict[str, Any]:
    flags = _optional(
        rng, 0.25, read_only=(True,), require_digest=(True,), require_cipher=(True,), cache_outlives_target=(True,)
    )
    uuid = _optional(rng, 0.5, uuid=tuple(f"00000000-0000-0000-0000-00000000000{number}" for number in range(1, 4)))
    more = _optional(rng, 0.2, reset=("host", "backend"), hosts=([{"host": "*", "access": "rw"}],))
    return {"name": rng.choice(EXPORTS), "bdev_name": rng.choice(BDEVS), **flags, **uuid, **more}


def _host(rng: random.Random) -> dict[str, Any]:
    more = _optional(rng, 0.15, addresses=(["127.0.0.0/8"], ["10.0.0.0/8", "::1/128"]), psk_file=KEYS)
    access = rng.choice(("rw", "rw", "rw", "ro"))
    host = rng.choice(HOSTS[:1] * 3 + HOSTS)
    return {"export": rng.choice(EXPORTS), "host": host, "access": access, **more}


def _target_options(rng: random.Random) -> dict[str, Any]:
    return _optional(
        rng,
        max_connections=(1, 4, 4096),
        max_connections_per_host=(1, 1024),
        max_handshakes=(1, 256),
        max_handshakes_per_address=(1, 64),
        max_sessions=(1, 2, 1024),
        max_keep_alive_ms=(100, 1000),
        drain_timeout_ms=(100, 500),
        session_timeout_ms=(1000,),
        queue_depth=(1, 2, 256),
        max_transfer=(65_536, 1_048_576),
        buffer_mib=(4, 16),
    )


def _client_options(rng: random.Random) -> dict[str, Any]:
    return _optional(
        rng,
        transaction_timeout_ms=(1000, 2000),
        max_retries=(0, 1, 5),
        reconnect_delay_ms=(10, 50, 200),
        keep_alive_timeout_ms=(100, 400, 1000),
        attach_timeout_ms=(10, 200, 1000),
        fast_io_fail_timeout_ms=(300, 1000),
        queue_depth=(1, 2, 256),
    )


def _address(rng: random.Random) -> Any:
    addresses: tuple[Any, ...] = ("127.0.0.1",) * 8 + ("::1", ["127.0.0.2", "127.0.0.1"], "127.0.0.2", "localhost")
    return rng.choice(addresses)


def _places(rng: random.Random) -> dict[str, Any]:
    more = _optional(rng, 0.3, trsvcid=PORTS, path_policy=("failover", "spread"))
    return {"name": rng.choice(REMOTES), "traddr": _address(rng), **more}


def _remote(rng: random.Random) -> dict[str, Any]:
    more = _optional(rng, 0.15, wait=(False,), digest=("none", "crc32c"), psk_file=KEYS)
    return {
        "name": rng.choice(REMOTES),
        "traddr": _address(rng),
        "trsvcid": rng.choice(PORTS),
        "export": rng.choice(EXPORTS),
        "host": rng.choice(HOSTS[1:]),
        **more,
        **_client_options(rng),
    }


def _malloc(rng: random.Random) -> dict[str, Any]:
    block_size = rng.choice((512, 512, 4096))
    return {"name": rng.choice(DISKS), "num_blocks": rng.choice((1024, 2048)), "block_size": block_size}


def _aio(rng: random.Random) -> dict[str, Any]:
    return {"name": rng.choice(DISKS), "filename": rng.choice(FILES), "block_size": rng.choice((512, 4096))}


def _passthru(rng: random.Random) -> dict[str, Any]:
    name = rng.choice(PASSTHRUS)
    return {"base_bdev_name": rng.choice([bdev for bdev in BDEVS if bdev != name]), "name": name}


def _interface(rng: random.Random) -> dict[str, Any]:
    # A link that never comes up. Its address may be that of another interface.
    name = rng.choice(INTERFACES)
    port = f"net_memif_{name},role=slave,socket=$FOLDER/absent.memif"
    return {"name": name, "port": port, "addresses": [f"192.0.2.{rng.randrange(1, 4)}/24"]}


def _mirror(rng: random.Random) -> dict[str, Any]:
    # The bdevs are too small for a mirror's metadata, so nothing comes of it but claims.
    more = _optional(rng, 0.3, witness=BDEVS, member_timeout_ms=(0, 100))
    return {"name": rng.choice(MIRRORS), "members": rng.sample(BDEVS, 2), "start_timeout_ms": 100, **more}


def _mirror_member(rng: random.Random) -> dict[str, Any]:
    return {"name": rng.choice(MIRRORS), "member": rng.choice(BDEVS)}


def _mirror_witness(rng: random.Random) -> dict[str, Any]:
    return {"name": rng.choice(MIRRORS), "witness": rng.choice(BDEVS)}


def _verification(rng: random.Random) -> dict[str, Any]:
    return {"name": rng.choice(MIRRORS), **_optional(rng, 0.3, repair=(True,), stop=(True,))}


def _run(rng: random.Random) -> dict[str, Any]:
    # A journal of its own, since the same name is not the same device.
    journal = f"$FOLDER/journal{rng.randrange(10**9)}"
    return {"bdev": rng.choice(REMOTES), "journal": journal, "blocks": 64, "depth": rng.choice((1, 16)), "flushes": 2}


INTERFACES = ("net0", "net1")
MIRRORS = ("mirror0", "mirror1")

# The methods of each process: a weight, and what makes the parameters.
Vocabulary = dict[str, tuple[int, Maker]]

VOCABULARY: dict[str, Vocabulary] = {
    TARGET: {
        "bdev_malloc_create": (8, _malloc),
        "bdev_malloc_delete": (5, _one("name", *DISKS)),
        "bdev_aio_create": (6, _aio),
        "bdev_aio_delete": (4, _one("name", *DISKS)),
        "bdev_null_create": (3, _malloc),
        "bdev_null_delete": (2, _one("name", *DISKS)),
        "bdev_passthru_create": (2, _passthru),
        "bdev_passthru_delete": (2, _one("name", *PASSTHRUS)),
        "bdev_get_bdevs": (1, _nothing),
        "framework_get_config": (2, _one("name", "bdev", "dst")),
        "bdev_dst_mirror_create": (2, _mirror),
        "bdev_dst_mirror_assemble": (2, _mirror),
        "bdev_dst_mirror_wait": (1, _one("name", *MIRRORS)),
        "bdev_dst_mirror_add_member": (2, _mirror_member),
        "bdev_dst_mirror_remove_member": (2, _mirror_member),
        "bdev_dst_mirror_add_witness": (1, _mirror_witness),
        "bdev_dst_mirror_remove_witness": (1, _one("name", *MIRRORS)),
        "bdev_dst_mirror_delete": (1, _one("name", *MIRRORS)),
        "bdev_dst_mirror_verify": (1, _verification),
        "bdev_dst_mirror_find": (1, lambda rng: {"search_mib": rng.choice((0, 1, 1000))}),
        "bdev_dst_mirror_get_info": (1, lambda rng: _optional(rng, name=MIRRORS)),
        "bdev_dst_mirror_set_options": (1, lambda rng: {"name": rng.choice(MIRRORS), "resync_rate_mib": 1}),
        "bdev_dst_mirror_set_limits": (1, lambda rng: {"total_resync_rate_mib": rng.choice((0, 1))}),
        "bdev_dst_mirror_get_limits": (1, _nothing),
        "dst_create_listener": (7, _listener),
        "dst_delete_listener": (3, _listener),
        "dst_get_listeners": (1, _nothing),
        "dst_create_export": (10, _export),
        "dst_delete_export": (4, _one("name", *EXPORTS)),
        "dst_get_exports": (1, lambda rng: _optional(rng, name=EXPORTS)),
        "dst_export_add_host": (14, _host),
        "dst_export_set_host": (4, _host),
        "dst_export_release": (1, lambda rng: {"export": rng.choice(EXPORTS)}),
        "dst_export_reset": (1, lambda rng: {"export": rng.choice(EXPORTS)}),
        "dst_export_remove_host": (4, lambda rng: {"export": rng.choice(EXPORTS), "host": rng.choice(HOSTS)}),
        "dst_get_sessions": (2, lambda rng: _optional(rng, export=EXPORTS)),
        "dst_get_stats": (1, _nothing),
        "dst_get_metrics": (1, _nothing),
        "dst_set_workers": (1, _one("cpumask", "0x1", "[0,1]", "[]")),
        "dst_set_options": (1, _target_options),
        "dst_get_options": (1, _nothing),
        # A file for it would be left behind.
        "dst_set_stop_note": (1, _one("path", "note", "/nowhere/note")),
        "dpdk_sock_create_interface": (1, _interface),
        "dpdk_sock_delete_interface": (1, _one("name", *INTERFACES)),
        "dpdk_sock_get_interfaces": (1, lambda rng: _optional(rng, name=INTERFACES)),
        "dpdk_sock_get_connections": (1, lambda rng: _optional(rng, name=INTERFACES)),
    },
    CLIENT: {
        "bdev_dst_create": (14, _remote),
        "bdev_dst_delete": (6, _one("name", *REMOTES)),
        "bdev_dst_set_addresses": (2, _places),
        "bdev_dst_accept_device": (1, _one("name", *REMOTES)),
        "bdev_dst_wait_first_attempts": (1, _nothing),
        "bdev_dst_get_info": (2, lambda rng: _optional(rng, name=REMOTES)),
        "bdev_dst_set_options": (1, _client_options),
        "bdev_dst_get_options": (1, _nothing),
        "bdev_get_bdevs": (1, _nothing),
        "framework_get_config": (2, _one("name", "bdev")),
        # The client's own bdev may take the name while an attach is under way.
        "bdev_malloc_create": (1, lambda rng: _malloc(rng) | {"name": rng.choice(REMOTES)}),
        "bdev_malloc_delete": (1, _one("name", *REMOTES)),
        "check_start": (5, _run),
        "check_flush": (3, _one("bdev", *REMOTES)),
        "dst_set_workers": (1, _one("cpumask", "0x1", "[]")),
    },
}


def _spoiled(rng: random.Random, params: dict[str, Any]) -> Any:
    """Returns the parameters with one of them missing, wrong or unknown, or something else in their
    place."""
    how = rng.randrange(8)
    if how == 0:
        return rng.choice(WRONG)
    if how == 1 or not params:
        return params | {rng.choice(("unknown", "", "name", "x" * 500)): rng.choice(WRONG)}
    victim = rng.choice(sorted(params))
    if how == 2:
        return {name: value for name, value in params.items() if name != victim}
    return params | {victim: rng.choice(WRONG)}


def _call(rng: random.Random, process: str) -> Call:
    vocabulary = VOCABULARY[process]
    methods = list(vocabulary)
    (method,) = rng.choices(methods, [vocabulary[name][0] for name in methods])
    params = vocabulary[method][1](rng)
    # What SPDK's own methods make of garbage is not DST's.
    if "dst" in method and rng.random() < 0.06:
        return Call(method, _spoiled(rng, params))
    return Call(method, params)


@dataclass
class _Planner:
    rng: random.Random
    steps: list[Step] = field(default_factory=list)
    down: set[str] = field(default_factory=set)

    def add(self, step: Step) -> None:
        self.steps.append(step)

    def send(self) -> None:
        """Adds calls that are in flight at once, over both processes."""
        for _ in range(self.rng.choice((1, 2, 4, 8))):
            process = self.rng.choice((TARGET, TARGET, CLIENT))
            if process in self.down:
                continue
            count = self.rng.choice((1, 1, 1, 1, 2, 4))
            calls = tuple(_call(self.rng, process) for _ in range(count))
            self.add(Send(process, calls, abandon=self.rng.random() < 0.05))

    def bring_up(self) -> None:
        """Adds the calls that lead to I/O through an export, in any order at once or one by one, so
        that there is something to break."""
        rng, bdev, export, port, remote = self.rng, *(self.rng.choice(n) for n in (DISKS, EXPORTS, PORTS, REMOTES))
        method = rng.choice(("bdev_malloc_create", "bdev_aio_create"))
        maker = VOCABULARY[TARGET][method][1]
        at_target = [
            Call(method, maker(rng) | {"name": bdev}),
            Call("dst_create_listener", {"traddr": "127.0.0.1", "trsvcid": port}),
            Call("dst_create_export", {"name": export, "bdev_name": bdev}),
            Call("dst_export_add_host", {"export": export, "host": "*", "access": "rw"}),
        ]
        place = {"traddr": "127.0.0.1", "trsvcid": port, "export": export, "host": rng.choice(HOSTS[1:])}
        at_client = [
            Call("bdev_dst_create", {"name": remote, **place, **_client_options(rng)}),
            Call("check_start", _run(rng) | {"bdev": remote}),
        ]
        if rng.random() < 0.3:
            rng.shuffle(at_target)
        one_by_one = rng.random() < 0.7
        for process, calls in ((TARGET, at_target), (CLIENT, at_client)):
            for call in calls if process not in self.down else []:
                self.add(Send(process, (call,)))
                if one_by_one:
                    self.add(Collect())

    def end_one(self, step: type[Kill] | type[Stop]) -> None:
        process = self.rng.choice(PROCESSES)
        if process not in self.down:
            self.down.add(process)
            self.add(step(process))

    def start_one(self) -> None:
        if self.down:
            process = self.rng.choice(sorted(self.down))
            self.down.remove(process)
            self.add(Start(process, saved=self.rng.random() < 0.8))

    def reload(self) -> None:
        process = self.rng.choice(PROCESSES)
        if process not in self.down:
            self.add(Collect())
            self.add(Reload(process))

    def on_one(self, make: Callable[[str], Step]) -> None:
        process = self.rng.choice(PROCESSES)
        if process not in self.down:
            self.add(make(process))

    def turn(self) -> None:
        kinds: dict[Callable[[], None], int] = {
            self.send: 30,
            self.bring_up: 8,
            lambda: self.add(Collect()): 8,
            lambda: self.add(Pause(self.rng.choice((1, 5, 20, 100)))): 8,
            lambda: self.on_one(Save): 3,
            lambda: self.on_one(lambda process: Freeze(process, self.rng.choice((50, 300, 1200)))): 1,
            lambda: self.on_one(lambda process: SendGarbage(process, self.rng.choice(GARBAGE))): 1,
            lambda: self.end_one(Kill): 1,
            lambda: self.end_one(Stop): 1,
            self.reload: 3,
        }
        (kind,) = self.rng.choices(list(kinds), list(kinds.values()))
        kind()
        if self.down and self.rng.random() < 0.4:
            self.start_one()


def plan(seed: int, turns: int = 60) -> Plan:
    """Returns the sequence of this seed."""
    planner = _Planner(random.Random(seed))
    for _ in range(turns):
        planner.turn()
    while planner.down:
        planner.start_one()
    sweep = list(PROCESSES)
    planner.rng.shuffle(sweep)
    return Plan(seed, tuple(planner.steps), tuple(sweep))
