#!/usr/bin/env python3
"""SPDK's rpc.py with the DST methods: the same options, the same commands, and DST's among them.

It runs scripts/rpc.py of the SPDK tree in the variable SPDK_DIR, or else of the one that `make` built with.
"""

import argparse
import importlib
import os
import re
import runpy
import shlex
import sys
from types import ModuleType

HERE = os.path.dirname(os.path.realpath(__file__))
PLUGIN = "dst_rpc"


def spdk_dir() -> str:
    if os.environ.get("SPDK_DIR"):
        return os.environ["SPDK_DIR"]
    try:
        with open(os.path.join(HERE, os.pardir, "build", "env.sh")) as script:
            found = re.search(r"^export SPDK_DIR=(.*)$", script.read(), re.MULTILINE)
    except FileNotFoundError:
        found = None
    if not found:
        sys.exit("rpc.py: SPDK is not known here: run `make` first, or set SPDK_DIR to an SPDK tree")
    return shlex.split(found.group(1))[0]


def take_plugin() -> str:
    """The plugin to load. rpc.py loads only one, so one that the user asks for is loaded together with DST's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--plugin")
    known, sys.argv[1:] = parser.parse_known_args()
    of_user = known.plugin
    if of_user in (None, PLUGIN):
        return PLUGIN

    both = ModuleType("dst_rpc_and_" + of_user)

    def initialize(subparsers: object) -> None:
        for name in (PLUGIN, of_user):
            importlib.import_module(name).spdk_rpc_plugin_initialize(subparsers)

    both.spdk_rpc_plugin_initialize = initialize  # type: ignore[attr-defined]
    sys.modules[both.__name__] = both
    return both.__name__


def main() -> None:
    scripts = os.path.join(spdk_dir(), "scripts")
    script = os.path.join(scripts, "rpc.py")
    if not os.path.isfile(script):
        sys.exit(f"rpc.py: there is no {script}: set SPDK_DIR to an SPDK tree")
    plugin = take_plugin()
    # SPDK's folder first: its package `rpc` and this file have the same name.
    sys.path[:1] = [scripts, HERE]
    sys.argv[1:1] = ["--plugin", plugin]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
