"""DST's JSON-RPC methods as commands of SPDK's rpc.py.

For a stock rpc.py, of SPDK 20.07 or newer:

    PYTHONPATH=/path/to/dst/rpc rpc.py --plugin dst_rpc bdev_dst_get_info

rpc/rpc.py, beside this file, needs neither the variable nor the option.
"""

import json
from functools import partial
from typing import Any, Dict, NamedTuple, Optional, Tuple


class Parameter(NamedTuple):
    """A parameter of a method, and how it is spelled as an option: by default, `--` and its name with dashes."""

    name: str
    help: str
    short: Optional[str] = None
    required: bool = False
    # What argparse makes of the text; a flag has no text.
    type: Any = str
    # A flag is sent only when it is given, with this value.
    flag: Optional[bool] = None
    # A flag's option, where it is not the parameter's name.
    option: Optional[str] = None
    # Takes one or more texts.
    is_list: bool = False
    metavar: Optional[str] = None


class Method(NamedTuple):
    name: str
    help: str
    parameters: Tuple[Parameter, ...] = ()


def number(name: str, help: str, low: int, high: int, default: int) -> Parameter:
    """An option of a whole number. A test of src/rpc/options.rs compares these with what the methods take."""
    return Parameter(name, f"{help}. {low} to {high}; {default} unless set", type=int, metavar="N")


def switch(name: str, help: str) -> Parameter:
    return Parameter(name, help, flag=True)


def text(name: str, help: str, short: Optional[str] = None, **more: Any) -> Parameter:
    return Parameter(name, help, short, **more)


def required(name: str, help: str, short: Optional[str] = None, **more: Any) -> Parameter:
    return Parameter(name, help, short, required=True, **more)


# The same letter means the same thing in every method: -b a bdev, -e an export, -q a host (as NVMe-oF's host
# in rpc.py), -a, -s and -f an address.
PLACE = (
    required("traddr", "IPv4 or IPv6 address", "-a"),
    required("trsvcid", "TCP port, 1 to 65535", "-s"),
    text("adrfam", "address family: ipv4 or ipv6; by default the one of traddr", "-f"),
    text("sock_impl", "SPDK's socket implementation, such as posix; by default SPDK's choice"),
)

# A client's target may have several addresses.
ADDRESSES = required(
    "traddr", "1 to 8 IPv4 or IPv6 addresses or names of hosts, used as path_policy says", "-a", is_list=True
)

PSK_FILE = text(
    "psk_file",
    "absolute path of the file with the key that both sides share; it is read at each handshake",
    metavar="FILE",
)

PSK = text(
    "psk",
    "name of that key in SPDK's keyring, where SPDK has one, in place of a file",
    metavar="KEY",
)

CLIENT_OPTIONS = (
    number("transaction_timeout_ms", "how long after its submission unanswered I/O fails", 1000, 86_400_000, 60_000),
    number(
        "max_retries",
        "how often an I/O is sent again before it fails; 0: as often as its time allows",
        0,
        1_000_000,
        0,
    ),
    number("reconnect_delay_ms", "longest time between two attempts to reach a lost target", 10, 60_000, 500),
    number(
        "fast_io_fail_timeout_ms",
        "how long without a connection until I/O fails at once, at least reconnect_delay_ms; 0: never",
        0,
        86_400_000,
        0,
    ),
    number(
        "loss_timeout_ms",
        "how long without a connection until the bdev is removed, at least fast_io_fail_timeout_ms; 0: never",
        0,
        86_400_000,
        0,
    ),
    number(
        "keep_alive_timeout_ms",
        "how long a target may be silent before it counts as lost, and the length of its leases",
        100,
        3_600_000,
        4000,
    ),
    number(
        "attach_timeout_ms",
        "how long bdev_dst_create waits for the target; rpc.py itself waits for 60 s, or what its -t says",
        10,
        3_600_000,
        10_000,
    ),
    number("queue_depth", "transactions that a thread may have outstanding", 1, 4096, 256),
)

TARGET_OPTIONS = (
    number("max_connections", "most connections at once", 1, 65_536, 4096),
    number("max_connections_per_host", "most connections at once of one host at one export", 1, 65_536, 1024),
    number(
        "max_handshakes",
        "most connections at once that are not yet admitted; beyond it the oldest is closed for the newest",
        1,
        65_536,
        256,
    ),
    number(
        "max_handshakes_per_address",
        "most connections at once from one address that are not yet admitted, likewise",
        1,
        65_536,
        64,
    ),
    number("max_handshake_bytes", "most bytes of data of a connection's first frame", 512, 4096, 4096),
    number("handshake_timeout_ms", "how long a connection may take to be admitted", 100, 60_000, 5000),
    number("max_sessions", "most sessions at once", 1, 65_536, 1024),
    number("session_timeout_ms", "how long a session without connections is kept", 1000, 3_600_000, 60_000),
    number("max_keep_alive_ms", "longest keep-alive time that a client gets", 100, 3_600_000, 60_000),
    number(
        "drain_timeout_ms",
        "how long dst_delete_export waits for a bdev before it resets it, and again before it gives up",
        100,
        600_000,
        5000,
    ),
    number("queue_depth", "transactions that a connection may have outstanding", 1, 4096, 256),
    number("max_transfer", "most bytes of one request, a power of two", 65_536, 1_048_576, 1_048_576),
    number("buffer_mib", "memory for data, in MiB a core", 4, 65_536, 64),
)

MIRROR_OPTIONS = (
    number("resync_rate_mib", "most MiB that are copied to members in a second; 0: no limit", 0, 1_000_000, 0),
    number(
        "verify_rate_mib",
        "most MiB of the mirror that a verification compares in a second; 0: no limit",
        0,
        1_000_000,
        100,
    ),
    number(
        "member_timeout_ms",
        "how long a member may take for a request before it is reset and given up; 0: for ever",
        0,
        3_600_000,
        30_000,
    ),
    number("flush_interval_ms", "time between two flushes that the mirror makes by itself", 100, 3_600_000, 5000),
    number(
        "degraded_wait_ms",
        "how long the assembly waits for missing members if it may go on without them",
        0,
        3_600_000,
        5000,
    ),
    number("stop_timeout_ms", "how long the mirror's end may take", 100, 600_000, 10_000),
    number(
        "start_timeout_ms",
        "how long the RPC waits until the mirror can be used; rpc.py itself waits for 60 s, or what its -t says",
        10,
        3_600_000,
        30_000,
    ),
)

MIRRORS_LIMITS = (
    number(
        "total_resync_rate_mib",
        "most MiB that all mirrors of the process together copy to members in a second; 0: no limit",
        0,
        1_000_000,
        0,
    ),
)

MIRROR_DEVICES = (
    required("name", "name of the mirror's bdev", "-b"),
    required("members", "1 to 8 names or UUIDs of bdevs", "-m", is_list=True),
    text("witness", "name or UUID of a small bdev that has a vote and no data", "-w"),
)

ENTRY = (
    required("export", "name of the export", "-e"),
    required("host", "identity of the host; *: any", "-q"),
    required("access", "ro or rw"),
    text(
        "addresses",
        "up to 512 prefixes that the host may come from, such as 192.0.2.0/24; by default any",
        is_list=True,
        metavar="PREFIX",
    ),
    switch("takeover", "with rw: the host may take the export over from its owner"),
    PSK_FILE,
    PSK,
)

METHODS = (
    Method(
        "bdev_dst_create",
        "Attach an export of a DST target as a bdev",
        (required("name", "name of the bdev", "-b"), ADDRESSES)
        + PLACE[1:]
        + (
            text(
                "path_policy",
                "which addresses threads use: failover (the default; all use the one that answered) or spread "
                "(each has another one)",
            ),
            required("export", "name of the export at the target", "-e"),
            text("host", "identity of this client; by default this machine's name and a number made of its machine-id", "-q"),
            PSK_FILE,
            PSK,
            text("digest", "digest of data: crc32c (the default) or none"),
            text("cipher", "with a key: aes-256-gcm (the default), aes-128-gcm or chacha20-poly1305; without: none"),
            text(
                "uuid",
                "derive (the default): the bdev's UUID is made of the export's; inherit: it is the export's, so that a raid "
                "made on one machine assembles on another. No other bdev of this process may have it: SPDK from 22.05 on "
                "refuses the one that comes second, be it this bdev or the other",
            ),
            switch("exclusive", "own the export: no other host has a session"),
            switch("takeover", "with --exclusive: take the export over, once, from its owner or those who share it"),
            Parameter(
                "wait",
                "return after the first attempt, or half a second, and go on trying until the bdev is attached or deleted",
                flag=False,
                option="--no-wait",
            ),
            Parameter(
                "first_attempt",
                "with --no-wait: return at once; bdev_dst_wait_first_attempts waits for all such bdevs together",
                flag=False,
                option="--no-first-attempt",
            ),
        )
        + CLIENT_OPTIONS,
    ),
    Method(
        "bdev_dst_wait_first_attempts",
        "Wait until DST bdevs created with --no-first-attempt are attached, or their first attempt has ended",
    ),
    Method("bdev_dst_delete", "Detach a DST bdev", (required("name", "name of the bdev", "-b"),)),
    Method(
        "bdev_dst_set_addresses",
        "Have a DST bdev look for its target elsewhere; its connections are made anew",
        (
            required("name", "name of the bdev", "-b"),
            ADDRESSES,
            text("trsvcid", "TCP port, 1 to 65535; by default as before", "-s"),
            text("path_policy", "failover or spread; by default as before"),
            text("adrfam", "address family: ipv4 or ipv6; by default the one of traddr", "-f"),
        ),
    ),
    Method(
        "bdev_dst_accept_device",
        "Remove a DST bdev whose state is failed, and attach the device that its target has now",
        (required("name", "name of the bdev", "-b"),),
    ),
    Method("bdev_dst_get_info", "Show DST bdevs", (text("name", "name of the bdev; by default all are shown", "-b"),)),
    Method("bdev_dst_set_options", "Set the defaults for DST bdevs created from now on", CLIENT_OPTIONS),
    Method("bdev_dst_get_options", "Show the defaults for DST bdevs"),
    Method(
        "bdev_dst_mirror_create",
        "Create a mirror; the data of the first member are copied to the others",
        MIRROR_DEVICES
        + (
            switch("force", "take devices that belong to another mirror or hold data"),
            switch("equal", "all members hold the same data already, so nothing is copied"),
        )
        + MIRROR_OPTIONS,
    ),
    Method(
        "bdev_dst_mirror_assemble",
        "Assemble a mirror from devices that hold its metadata, and that may appear later",
        MIRROR_DEVICES
        + (
            text("force", "the member whose data count, whatever the others have; what these have more is lost"),
            Parameter(
                "wait",
                "return at once, and go on trying until the mirror is assembled or deleted",
                flag=False,
                option="--no-wait",
            ),
            switch(
                "takeover",
                "take the mirror over first: the exports of its witness and of its members, in this order, from whoever owns them",
            ),
        )
        + MIRROR_OPTIONS,
    ),
    Method(
        "bdev_dst_mirror_find",
        "Look for members and witnesses of mirrors by the metadata on the bdevs that nothing uses",
        (
            text("bdev_name", "name or UUID of the bdev to search; by default all are searched", "-b"),
            number("search_mib", "MiB to search before a bdev's end, in case it has grown", 0, 1 << 43, 0),
        ),
    ),
    Method(
        "bdev_dst_mirror_wait",
        "Wait until a mirror is assembled or has ended, but no longer than its start_timeout_ms",
        (required("name", "name of the mirror's bdev", "-b"),),
    ),
    Method(
        "bdev_dst_mirror_add_member",
        "Add a member to a mirror that runs; all data are copied to it",
        (
            required("name", "name of the mirror's bdev", "-b"),
            required("member", "name or UUID of the bdev that becomes a member", "-m"),
            switch("force", "take a bdev that belongs to another mirror or holds data"),
        ),
    ),
    Method(
        "bdev_dst_mirror_remove_member",
        "Remove a member from a mirror that runs, or one that is missing",
        (
            required("name", "name of the mirror's bdev", "-b"),
            required("member", "name or UUID of its bdev as it was given, or the member's name or id", "-m"),
        ),
    ),
    Method(
        "bdev_dst_mirror_add_witness",
        "Add a witness to a mirror that runs and has none",
        (
            required("name", "name of the mirror's bdev", "-b"),
            required("witness", "name or UUID of the bdev that becomes the witness", "-w"),
            switch("force", "take a bdev that belongs to another mirror or holds data"),
        ),
    ),
    Method(
        "bdev_dst_mirror_remove_witness",
        "Remove the witness from a mirror that runs, also one that is missing",
        (required("name", "name of the mirror's bdev", "-b"),),
    ),
    Method(
        "bdev_dst_mirror_delete",
        "Delete a mirror; its devices keep their metadata, so that it can be assembled again",
        (required("name", "name of the mirror's bdev", "-b"), switch("wipe", "overwrite the metadata")),
    ),
    Method(
        "bdev_dst_mirror_verify",
        "Begin to compare the members of a mirror, or stop that; bdev_dst_mirror_get_info shows what is found",
        (
            required("name", "name of the mirror's bdev", "-b"),
            switch("repair", "write what differs over with what the first member in sync holds"),
            switch("stop", "stop the comparison that is under way"),
        ),
    ),
    Method(
        "bdev_dst_mirror_get_info",
        "Show mirrors, their members and what these lack",
        (text("name", "name of the mirror's bdev; by default all are shown", "-b"),),
    ),
    Method(
        "bdev_dst_mirror_set_options",
        "Change options of a mirror while it runs",
        (required("name", "name of the mirror's bdev", "-b"),) + MIRROR_OPTIONS,
    ),
    Method("bdev_dst_mirror_set_limits", "Limit what all mirrors of the process do together", MIRRORS_LIMITS),
    Method("bdev_dst_mirror_get_limits", "Show what all mirrors of the process may do together"),
    Method("dst_create_listener", "Let the DST target listen on an address", PLACE),
    Method("dst_delete_listener", "Stop listening; connections stay", PLACE),
    Method("dst_get_listeners", "Show where the DST target listens"),
    Method(
        "dst_create_export",
        "Export a bdev, to these hosts and those of dst_export_add_host",
        (
            required("name", "name of the export", "-e"),
            required("bdev_name", "name of the bdev, which may appear later", "-b"),
            text("uuid", "identity of the export; by default the bdev's UUID, which may be another one after each start"),
            switch("read_only", "nobody may write"),
            switch("require_digest", "refuse clients that do not use a digest"),
            switch(
                "cache_outlives_target",
                "what the bdev has completed survives the target's process, flushed or not, as with a file or a disk",
            ),
            text(
                "reset",
                "what a client's reset reaches: its session's own I/O (host, the default), or the bdev, too (backend)",
            ),
            switch("require_cipher", "nobody may attach without a cipher: each host needs a --psk-file or a --psk"),
            text(
                "hosts",
                "JSON list of up to 4096 entries, as the other parameters of dst_export_add_host: "
                'such as [{"host": "client1", "access": "rw"}]',
                type=json.loads,
                metavar="JSON",
            ),
            text(
                "state_file",
                "absolute path of the file that keeps who owns the export; without one, nobody can",
                metavar="FILE",
            ),
        ),
    ),
    Method("dst_delete_export", "End an export and its sessions", (required("name", "name of the export", "-e"),)),
    Method("dst_get_exports", "Show exports", (text("name", "name of the export; by default all are shown", "-e"),)),
    Method(
        "dst_export_add_host",
        "Let a host attach an export, which has at most 4096 hosts",
        ENTRY,
    ),
    Method(
        "dst_export_set_host",
        "Replace a host's entry, as a whole, while its sessions live: only what it does not allow any more ends",
        ENTRY,
    ),
    Method(
        "dst_export_release",
        "End the ownership of an export, and the owner's sessions; or the doubt about who owns it",
        (required("export", "name of the export", "-e"),),
    ),
    Method(
        "dst_export_reset",
        "Begin to reset the bdev of an export whose backend hangs, for a client that waits to own the export",
        (required("export", "name of the export", "-e"),),
    ),
    Method(
        "dst_export_remove_host",
        "Let a host attach an export no more, and close its sessions",
        (required("export", "name of the export", "-e"), required("host", "identity of the host; *: any", "-q")),
    ),
    Method(
        "dst_get_sessions",
        "Show sessions of the DST target",
        (text("export", "name of the export; by default the sessions of all are shown", "-e"),),
    ),
    Method("dst_get_stats", "Show totals of the DST target"),
    Method("dst_get_metrics", "Show all counts of both sides in one cheap call, as dstctl exporter asks for them"),
    Method(
        "dst_set_workers",
        "Encrypt and decrypt on these CPUs, too; while I/O runs",
        (required("cpumask", "mask such as 0x6, or list such as [1,2-3], of at most 64 CPUs; [] for no workers", "-m"),),
    ),
    Method(
        "dst_set_options",
        "Set limits and defaults of the DST target, before its first listener and export",
        TARGET_OPTIONS,
    ),
    Method("dst_get_options", "Show limits and defaults of the DST target"),
    Method(
        "dst_set_stop_note",
        "Use the note of the previous orderly stop, and leave one, before the first listener and export",
        (required("path", "absolute path of the file, in a folder that exists", "-p"),),
    ),
    Method(
        "dpdk_sock_create_interface",
        "Create an interface for sockets over a port of DPDK; answered when its addresses are usable",
        (
            required("name", "name of the interface", "-n"),
            required("port", "vdev with its arguments, such as net_memif0,id=0, or PCI address", "-p"),
            required("addresses", "up to 16 addresses with their prefixes, such as 192.0.2.1/24", "-a", is_list=True),
            text("gateway", "router of everything else, at most one for IPv4 and one for IPv6", "-g", is_list=True),
            number("mtu", "longest IP packet, bytes", 576, 9600, 1500),
            number("vlan", "VLAN of all frames; 0: no tag", 0, 4094, 0),
            number("queues", "queue pairs of the port; 0: one for each reactor, as far as it has them", 0, 16, 0),
        ),
    ),
    Method(
        "dpdk_sock_delete_interface",
        "Delete an interface; its connections end at once",
        (required("name", "name of the interface", "-n"),),
    ),
    Method(
        "dpdk_sock_get_interfaces",
        "Show interfaces for sockets over DPDK, and their counters",
        (text("name", "name of the interface; by default all are shown", "-n"),),
    ),
    Method(
        "dpdk_sock_get_connections",
        "Show the connections of interfaces for sockets over DPDK",
        (text("name", "name of the interface; by default those of all are shown", "-n"),),
    ),
)


def _add_option(parser: Any, parameter: Parameter) -> None:
    long = parameter.option or "--" + parameter.name.replace("_", "-")
    spellings = [parameter.short, long] if parameter.short else [long]
    how: Dict[str, Any] = {"dest": parameter.name, "help": parameter.help, "required": parameter.required}
    if parameter.flag is not None:
        how.update(action="store_const", const=parameter.flag)
    else:
        how.update(type=parameter.type, metavar=parameter.metavar)
        if parameter.is_list:
            how.update(nargs="+")
    parser.add_argument(*spellings, **how)


def _call(method: Method, args: Any) -> None:
    given = {p.name: getattr(args, p.name) for p in method.parameters if getattr(args, p.name) is not None}
    result = args.client.call(method.name, given)
    # As SPDK's own commands: a method that only says that it worked prints nothing, and so does --dry-run.
    if result is None or result is True:
        return
    print(result if isinstance(result, str) else json.dumps(result, indent=2))


def spdk_rpc_plugin_initialize(subparsers: Any) -> None:
    """What rpc.py calls."""
    for method in METHODS:
        parser = subparsers.add_parser(method.name, help=method.help)
        for parameter in method.parameters:
            _add_option(parser, parameter)
        parser.set_defaults(func=partial(_call, method))
