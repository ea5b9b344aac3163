"""The methods as commands: rpc/rpc.py, and SPDK's own rpc.py with the plug-in, of this version and
of the newest one."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.environment import ROOT, environment
from harness.keys import KeyFile
from harness.lab import Lab
from harness.ports import free_port
from harness.rpc_parameters import NAMES, methods
from harness.spdk import Application
from harness.spdk_package import spdk_rpc

pytestmark = pytest.mark.needs_dst

OWN = ROOT / "rpc" / "rpc.py"


def plugin() -> ModuleType:
    # Not through sys.path, which would also import rpc/rpc.py as `rpc`.
    spec = importlib.util.spec_from_file_location("dst_rpc", OWN.with_name("dst_rpc.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(command: list[str | os.PathLike[str]], variables: dict[str, str], folder: Path) -> tuple[int, str, str]:
    """Returns the exit code, the output and the error output."""
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, env=variables, cwd=folder
    )
    return ended.returncode, ended.stdout, ended.stderr


class Commands:
    """SPDK's rpc.py as a process that reads commands, since each start of rpc.py takes a third of a
    second."""

    def __init__(self, command: list[str | os.PathLike[str]], variables: dict[str, str], application: Application) -> None:
        # Each command has its own options.
        self._options = ["-s", os.fspath(application.socket_path)]
        self._process = subprocess.Popen(
            [*command, "--server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=variables,
            cwd=application.socket_path.parent,
        )

    def run(self, arguments: tuple[str, ...]) -> tuple[int, str]:
        """Returns 0 or 1, and the output."""
        assert self._process.stdin and self._process.stdout
        print(shlex.join([*self._options, *arguments]), file=self._process.stdin, flush=True)
        output = ""
        for line in self._process.stdout:
            if found := re.fullmatch(r"\*\*STATUS=(\d)\n", line):
                return int(found[1]), output
            output += line
        raise AssertionError(f"rpc.py --server has ended at {arguments}:\n{output}")

    def end(self) -> None:
        """Ends the process, as its input ends."""
        self._process.communicate(timeout=30)


class CommandLine:
    def __init__(self, kind: str, application: Application, lab: Lab) -> None:
        variables = dict(environment().variables)
        if kind == "own":
            command: list[str | os.PathLike[str]] = [OWN]
            # It finds SPDK through the file that the build has written.
            del variables["SPDK_DIR"]
        else:
            stock = Path(variables["SPDK_DIR"]) / "scripts" / "rpc.py"
            command = [sys.executable, stock] if kind == "plugin" else [spdk_rpc()]
            command += ["--plugin", "dst_rpc"]
            variables["PYTHONPATH"] = str(OWN.parent)
        self._command = [*command, "-s", application.socket_path]
        self._variables = variables
        self._folder = application.socket_path.parent
        self._commands: Commands | None = None
        if kind != "own":
            # What succeeds with rpc/rpc.py as a process of its own.
            self._commands = Commands(command, variables, application)
            lab.on_end(self._commands.end)
        self.called: set[str] = set()

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self.called.add(arguments[0])
        return run([*self._command, *arguments], self._variables, self._folder)

    def __call__(self, *arguments: str) -> str:
        if self._commands:
            self.called.add(arguments[0])
            code, output = self._commands.run(arguments)
            assert code == 0, f"{arguments}:\n{output}"
            return output
        code, output, errors = self.run(*arguments)
        assert (code, errors) == (0, ""), f"exit code {code} of {arguments}:\n{output}{errors}"
        return output

    def shown(self, *arguments: str) -> Any:
        return json.loads(self(*arguments))


def test_table_is_complete() -> None:
    table = {method.name: [parameter.name for parameter in method.parameters] for method in plugin().METHODS}
    assert {name: sorted(parameters) for name, parameters in table.items()} == {
        name: sorted(parameters) for name, parameters in NAMES.items()
    }
    required = {m.name: [p.name for p in m.parameters if p.required] for m in plugin().METHODS}
    for name, parameters in methods(1, 2).items():
        assert sorted(required[name]) == sorted(key for key, parameter in parameters.items() if parameter.required)


@pytest.mark.watchdog(240)
@pytest.mark.parametrize("kind", ["own", "plugin", "package"])
def test_every_command(lab: Lab, kind: str) -> None:
    application = lab.target()
    rpc = CommandLine(kind, application, lab)
    port = str(free_port())
    place = ("-a", "127.0.0.1", "-s", port, "-f", "ipv4", "--sock-impl", "posix")
    for bdev in ("Malloc0", "Malloc1"):
        application.rpc.call("bdev_malloc_create", name=bdev, num_blocks=2048, block_size=512)
    # SPDK's own commands are available, too.
    assert [bdev["name"] for bdev in rpc.shown("bdev_get_bdevs", "-b", "Malloc0")] == ["Malloc0"]

    assert rpc("dst_set_options", "--max-connections", "64", "--queue-depth", "32", "--max-transfer", "131072") == ""
    options = rpc.shown("dst_get_options")
    assert (options["max_connections"], options["queue_depth"], options["max_transfer"]) == (64, 32, 131072)
    assert rpc("dst_set_stop_note", "-p", str(lab.folder / "note")) == ""
    assert rpc("dst_create_listener", *place) == ""
    assert [listener["trsvcid"] for listener in rpc.shown("dst_get_listeners")] == [port]
    assert rpc("dst_create_export", "-e", "volume", "-b", "Malloc0", "--read-only") == "volume\n"
    networks = ["127.0.0.0/8", "192.168.0.0/16"]
    assert rpc("dst_export_add_host", "-e", "volume", "-q", "me", "--access", "rw", "--addresses", *networks) == ""
    assert rpc("dst_create_export", "-e", "strict", "-b", "Malloc1", "--require-cipher") == "strict\n"
    host = ("dst_export_add_host", "-e", "strict", "-q", "me", "--access", "rw")
    assert rpc(*host, "--psk-file", KeyFile(lab.folder, "key").path) == ""
    assert rpc("dst_delete_export", "-e", "strict") == ""
    (export,) = rpc.shown("dst_get_exports", "-e", "volume")
    assert export["read_only"] is True
    assert export["hosts"] == [{"host": "me", "access": "rw", "addresses": networks}]

    assert rpc("bdev_dst_set_options", "--max-retries", "7", "--reconnect-delay-ms", "100") == ""
    options = rpc.shown("bdev_dst_get_options")
    assert (options["max_retries"], options["reconnect_delay_ms"]) == (7, 100)
    create = ("bdev_dst_create", *place, "--export", "volume", "--host", "me", "--attach-timeout-ms", "5000")
    assert rpc(*create, "-b", "remote0", "--transaction-timeout-ms", "2000", "--digest", "none") == "remote0\n"
    (info,) = rpc.shown("bdev_dst_get_info", "-b", "remote0")
    assert info["state"] == "connected"
    assert (info["options"]["transaction_timeout_ms"], info["options"]["max_retries"]) == (2000, 7)
    assert [session["host"] for session in rpc.shown("dst_get_sessions", "-e", "volume")] == ["me"]
    assert rpc.shown("dst_get_stats")["sessions"] == 1
    assert len(rpc.shown("dst_get_metrics")["bdevs"]["rows"]) == 1
    assert rpc("dst_set_workers", "-m", "0x1") == ""
    assert [worker["cpu"] for worker in rpc.shown("dst_get_stats")["workers"]] == [0]
    assert rpc("dst_set_workers", "--cpumask", "[]") == ""

    code, output, errors = rpc.run(*create, "--name", "refused", "--psk-file", "/nowhere/key")
    assert code == 1 and "psk_file: " in output + errors
    code, output, errors = rpc.run(*create, "--name", "refused", "--cipher", "aes-128-gcm")
    assert code == 1 and "cipher: " in output + errors
    file = KeyFile(lab.folder, "key").path
    assert rpc(*create, "--name", "keyed0", "--psk-file", file, "--cipher", "aes-128-gcm", "--no-wait") == "keyed0\n"
    (info,) = rpc.shown("bdev_dst_get_info", "-b", "keyed0")
    assert (info["psk_file"], info["cipher"]) == (file, "aes-128-gcm")
    assert rpc("bdev_dst_delete", "-b", "keyed0") == ""
    code, output, errors = rpc.run(*create, "--name", "refused", "--max-retries", "often")
    assert code == 2 and "--max-retries" in output + errors
    code, output, errors = rpc.run("bdev_dst_create", "-b", "refused")
    assert code == 2 and "--traddr" in output + errors

    assert rpc("bdev_dst_set_addresses", "-b", "remote0", "-a", "127.0.0.1", "-s", port) == ""
    code, output, errors = rpc.run("bdev_dst_accept_device", "-b", "remote0")
    assert code != 0 and "is not `failed`" in output + errors
    assert rpc("bdev_dst_delete", "-b", "remote0") == ""
    assert rpc.shown("bdev_dst_get_info") == []
    assert rpc("dst_export_set_host", "-e", "volume", "-q", "me", "--access", "ro") == ""
    code, output, errors = rpc.run("dst_export_release", "-e", "volume")
    assert code == 1 and "state file" in output + errors
    code, output, errors = rpc.run("dst_export_reset", "-e", "volume")
    assert code == 1 and "nobody waits" in output + errors
    assert rpc("dst_export_remove_host", "-e", "volume", "-q", "me") == ""
    assert rpc("bdev_dst_create", *place, "-b", "later", "-e", "volume", "--no-wait") == "later\n"
    assert rpc("bdev_dst_delete", "-b", "later") == ""
    assert rpc("dst_delete_export", "-e", "volume") == ""
    assert rpc.shown("dst_get_exports") == []
    assert rpc("dst_delete_listener", *place) == ""
    assert rpc.shown("dst_get_listeners") == []
    assert rpc("bdev_dst_wait_first_attempts") == ""

    interface = ("dpdk_sock_create_interface", "-n", "net0", "-p", "net_absent0", "-a", "192.0.2.1/24", "fd00::1/64")
    code, output, errors = rpc.run(*interface, "-g", "192.0.2.2", "--mtu", "9000", "--vlan", "7", "--queues", "2")
    assert code == 1 and ("net_absent0" in output + errors or "DPDK" in output + errors)
    code, output, errors = rpc.run("dpdk_sock_delete_interface", "-n", "net0")
    assert code == 1 and "there is no interface named net0" in output + errors
    assert rpc.shown("dpdk_sock_get_interfaces") == rpc.shown("dpdk_sock_get_connections") == []

    mirror = ("-b", "Mirror0", "-m", "Member0", "Member1")
    for bdev in mirror[3:]:
        application.rpc.call("bdev_malloc_create", name=bdev, num_blocks=24 * 2048, block_size=512)
    assert rpc("bdev_dst_mirror_create", *mirror, "--equal", "--flush-interval-ms", "1000") == "Mirror0\n"
    assert rpc("bdev_dst_mirror_set_options", "-b", "Mirror0", "--resync-rate-mib", "7") == ""
    assert rpc("bdev_dst_mirror_set_limits", "--total-resync-rate-mib", "9") == ""
    limits = rpc.shown("bdev_dst_mirror_get_limits")
    assert limits == {"total_resync_rate_mib": 9, "mirrors_waiting_to_copy": 0}
    (info,) = rpc.shown("bdev_dst_mirror_get_info", "-b", "Mirror0")
    assert (info["state"], [member["state"] for member in info["members"]]) == ("online", ["in_sync"] * 2)
    assert (info["options"]["flush_interval_ms"], info["options"]["resync_rate_mib"]) == (1000, 7)
    assert rpc("bdev_dst_mirror_verify", "-b", "Mirror0", "--repair") == ""
    code, output, errors = rpc.run("bdev_dst_mirror_verify", "-b", "Mirror0", "--repair", "--stop")
    assert code == 1 and "repair: " in output + errors
    assert rpc("bdev_dst_mirror_verify", "-b", "Mirror0", "--stop") == ""
    assert rpc("bdev_dst_mirror_remove_member", "-b", "Mirror0", "-m", "Member1") == ""
    assert rpc("bdev_dst_mirror_add_member", "-b", "Mirror0", "-m", "Member1") == ""
    application.rpc.call("bdev_malloc_create", name="Witness0", num_blocks=2048, block_size=512)
    assert rpc("bdev_dst_mirror_add_witness", "-b", "Mirror0", "-w", "Witness0") == ""
    assert rpc("bdev_dst_mirror_remove_witness", "-b", "Mirror0") == ""
    assert rpc("bdev_dst_mirror_delete", "-b", "Mirror0") == ""
    assert rpc("bdev_dst_mirror_assemble", *mirror) == "Mirror0\n"
    assert rpc("bdev_dst_mirror_wait", "-b", "Mirror0") == ""
    # It says what it was.
    (found,) = rpc.shown("bdev_dst_mirror_find", "-b", "Witness0", "--search-mib", "1")
    assert (found["role"], found["members"]) == ("witness", ["Member0", "Member1"])
    assert rpc("bdev_dst_mirror_delete", "-b", "Mirror0", "--wipe") == ""
    assert rpc.shown("bdev_dst_mirror_get_info") == []
    assert {method.name for method in plugin().METHODS} <= rpc.called


def test_help_names_every_parameter() -> None:
    code, output, _ = run([OWN, "bdev_dst_create", "--help"], environment().variables, ROOT)
    assert code == 0
    for parameter in NAMES["bdev_dst_create"]:
        prefix = "--no-" if parameter in ("wait", "first_attempt") else "--"
        assert prefix + parameter.replace("_", "-") in output


def test_with_a_plugin_of_the_user(lab: Lab) -> None:
    (lab.folder / "of_user.py").write_text(
        "def spdk_rpc_plugin_initialize(subparsers):\n"
        "    subparsers.add_parser('greet').set_defaults(func=lambda args: print('hello'))\n"
    )
    command = [OWN, "-s", lab.target().socket_path, "--plugin", "of_user"]
    variables = environment().variables | {"PYTHONPATH": str(lab.folder)}
    assert run([*command, "greet"], variables, lab.folder) == (0, "hello\n", "")
    assert run([*command, "dst_get_listeners"], variables, lab.folder) == (0, "[]\n", "")


def test_without_spdk(tmp_path: Path) -> None:
    code, _, errors = run([OWN, "dst_get_stats"], environment().variables | {"SPDK_DIR": str(tmp_path)}, ROOT)
    assert code == 1
    assert "set SPDK_DIR" in errors and "Traceback" not in errors
