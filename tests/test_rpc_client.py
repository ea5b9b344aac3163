"""The methods as commands: rpc/rpc.py, and SPDK's own rpc.py with the plugin."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.environment import ROOT, environment
from harness.lab import Lab
from harness.ports import free_port
from harness.spdk import Application

import test_rpc

pytestmark = pytest.mark.needs_dst

BLOCKS = 2048


def plugin() -> ModuleType:
    # Not by way of sys.path: rpc/rpc.py would come along as `rpc`.
    spec = importlib.util.spec_from_file_location("dst_rpc", ROOT / "rpc" / "dst_rpc.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class CommandLine:
    def __init__(self, kind: str, application: Application) -> None:
        variables = dict(environment().variables)
        stock = Path(variables["SPDK_DIR"]) / "scripts" / "rpc.py"
        if kind == "own":
            # It finds SPDK by what the build has written.
            del variables["SPDK_DIR"]
            self._command = [ROOT / "rpc" / "rpc.py"]
        else:
            variables["PYTHONPATH"] = str(ROOT / "rpc")
            self._command = [Path(sys.executable), stock, "--plugin", "dst_rpc"]
        self._variables = variables
        self._application = application
        self.called: set[str] = set()

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output, error output."""
        command: list[str | os.PathLike[str]] = [*self._command, "-s", self._application.socket_path, *arguments]
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            env=self._variables,
            cwd=self._application.socket_path.parent,
        )
        self.called.add(arguments[0])
        return ended.returncode, ended.stdout, ended.stderr

    def __call__(self, *arguments: str) -> str:
        code, output, errors = self.run(*arguments)
        assert (code, errors) == (0, ""), f"exit code {code} of {arguments}:\n{output}{errors}"
        return output

    def shown(self, *arguments: str) -> Any:
        return json.loads(self(*arguments))


def test_table_is_complete() -> None:
    table = {method.name: [parameter.name for parameter in method.parameters] for method in plugin().METHODS}
    assert {name: sorted(parameters) for name, parameters in table.items()} == {
        name: sorted(parameters) for name, parameters in test_rpc.NAMES.items()
    }
    required = {m.name: [p.name for p in m.parameters if p.required] for m in plugin().METHODS}
    for name, parameters in test_rpc.methods(1, 2).items():
        assert sorted(required[name]) == sorted(key for key, parameter in parameters.items() if parameter.required)


@pytest.mark.parametrize("kind", ["own", "plugin"])
def test_every_command(lab: Lab, kind: str) -> None:
    application = lab.target()
    rpc = CommandLine(kind, application)
    port = str(free_port())
    place = ("-a", "127.0.0.1", "-s", port, "-f", "ipv4", "--sock-impl", "posix")
    # SPDK's own commands are there too.
    assert rpc("bdev_malloc_create", "-b", "Malloc0", "1", "512") == "Malloc0\n"

    assert rpc("dst_set_options", "--max-connections", "64", "--queue-depth", "32", "--max-transfer", "131072") == ""
    options = rpc.shown("dst_get_options")
    assert (options["max_connections"], options["queue_depth"], options["max_transfer"]) == (64, 32, 131072)
    assert rpc("dst_create_listener", *place) == ""
    assert [listener["trsvcid"] for listener in rpc.shown("dst_get_listeners")] == [port]
    assert rpc("dst_create_export", "-e", "volume", "-b", "Malloc0", "--read-only") == "volume\n"
    networks = ["127.0.0.0/8", "192.168.0.0/16"]
    assert rpc("dst_export_add_host", "-e", "volume", "-q", "me", "--access", "rw", "--addresses", *networks) == ""
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

    code, output, errors = rpc.run(*create, "--name", "refused", "--psk-file", "/nowhere/key")
    assert code == 1 and "psk_file: " in output + errors
    code, output, errors = rpc.run(*create, "--name", "refused", "--max-retries", "often")
    assert code == 2 and "--max-retries" in output + errors
    code, output, errors = rpc.run("bdev_dst_create", "-b", "refused")
    assert code == 2 and "--traddr" in output + errors

    assert rpc("bdev_dst_delete", "-b", "remote0") == ""
    assert rpc.shown("bdev_dst_get_info") == []
    assert rpc("dst_export_remove_host", "-e", "volume", "-q", "me") == ""
    assert rpc("bdev_dst_create", *place, "-b", "later", "-e", "volume", "--no-wait") == "later\n"
    assert rpc("bdev_dst_delete", "-b", "later") == ""
    assert rpc("dst_delete_export", "-e", "volume") == ""
    assert rpc.shown("dst_get_exports") == []
    assert rpc("dst_delete_listener", *place) == ""
    assert rpc.shown("dst_get_listeners") == []
    assert {method.name for method in plugin().METHODS} <= rpc.called


def test_help_names_every_parameter(lab: Lab) -> None:
    variables = dict(environment().variables)
    shown = subprocess.run(
        [ROOT / "rpc" / "rpc.py", "bdev_dst_create", "--help"],
        capture_output=True, text=True, timeout=30, check=True, env=variables,
    ).stdout
    for parameter in test_rpc.NAMES["bdev_dst_create"]:
        option = "--no-wait" if parameter == "wait" else "--" + parameter.replace("_", "-")
        assert option in shown


def test_with_a_plugin_of_the_user(lab: Lab) -> None:
    (lab.folder / "of_user.py").write_text(
        "def spdk_rpc_plugin_initialize(subparsers):\n"
        "    subparsers.add_parser('greet').set_defaults(func=lambda args: print('hello'))\n"
    )
    application = lab.target()
    for command, printed in (("greet", "hello\n"), ("dst_get_listeners", "[]\n")):
        shown = subprocess.run(
            [ROOT / "rpc" / "rpc.py", "-s", application.socket_path, "--plugin", "of_user", command],
            capture_output=True, text=True, timeout=30,
            env=environment().variables | {"PYTHONPATH": str(lab.folder)},
        )
        assert (shown.returncode, shown.stdout) == (0, printed), shown.stderr


def test_without_spdk(lab: Lab) -> None:
    shown = subprocess.run(
        [ROOT / "rpc" / "rpc.py", "dst_get_stats"],
        capture_output=True, text=True, timeout=30,
        env=environment().variables | {"SPDK_DIR": str(lab.folder)},
    )
    assert shown.returncode == 1 and "SPDK_DIR" in shown.stderr
