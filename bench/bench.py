#!/usr/bin/python3
"""make bench: compares DST with its peers, with the same SPDK, backend, cores and sockets.

Each case has one bdevperf on the client's core, and a target process for each peer on the target's
core. Only one pair at a time is awake: in each round, each peer in turn is attached to that
bdevperf under the same name, does its I/O, and is detached. DST runs between every two others. The
ratios compare neighbours in the same round and the same mode of the machine (see runs.py), so that
other load on the machine affects both alike.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The harness of the tests starts processes and calls RPCs. It needs only Python's standard library.
sys.path.insert(0, str(ROOT / "tests"))

import machine  # noqa: E402
from cases import MAIN, MORE, NAMES, TWO_CORES, Case, parse  # noqa: E402
from harness.environment import environment  # noqa: E402
from harness.lab import Lab  # noqa: E402
from harness.rpc import RpcError  # noqa: E402
from harness.transport import Dst  # noqa: E402
from peers import Peer, Spdk  # noqa: E402
from peers.registry import ALWAYS, peers  # noqa: E402
from report import Report  # noqa: E402
from rounds import Plan, run_case  # noqa: E402
from runs import DISTURBED  # noqa: E402
from stage import Stage  # noqa: E402

FULL = Plan(pairs=5, seconds=2, limit_ms=1000, safety_rounds=5, seconds_in_all=2400)
QUICK = Plan(pairs=3, seconds=1, limit_ms=400, safety_rounds=1, seconds_in_all=75)


def say(text: str) -> None:
    print(text, flush=True)


def spdk_in_use() -> Spdk:
    """Starts an application to see what its SPDK can do."""
    lab = Lab(Dst())
    try:
        call = lab.client().rpc.call
        sockets = {"posix"}
        try:
            call("sock_impl_get_options", impl_name="uring")
            sockets.add("uring")
        except RpcError:
            # SPDK names no implementation that it was built without.
            pass
        return Spdk(set(call("rpc_get_methods")), sockets)
    finally:
        lab.close()


def chosen_cases(args: argparse.Namespace) -> list[Case]:
    if args.cases:
        return args.cases
    if args.quick:
        return MAIN
    return MAIN + MORE + (TWO_CORES if (os.cpu_count() or 1) >= 4 else [])


def chosen_peers(args: argparse.Namespace, missing: dict[str, str]) -> list[Peer]:
    """Returns the peers that were asked for and can be measured. Adds the others to `missing`, with
    the reason."""
    known = peers(args.dst_bin, args.dst_bin_b)
    words = {word for peer in known for word in (peer.name, peer.family)}
    if unknown := set(args.peers) - words:
        sys.exit(f"dst: error: no such peer: {', '.join(sorted(unknown))}; the peers are {', '.join(sorted(words))}")
    asked = [peer for peer in known if not args.peers or {peer.name, peer.family} & set(args.peers)]
    spdk = spdk_in_use()
    missing |= {peer.name: why for peer in asked if (why := peer.missing(spdk))}
    return [peer for peer in asked if peer.name not in missing]


def those_of(case: Case, known: list[Peer], args: argparse.Namespace) -> list[Peer]:
    suitable = [peer for peer in known if peer.suits(case)]
    if args.peers:
        return suitable
    if args.quick:
        return [peer for peer in suitable if peer.quick(case)]
    return [peer for peer in suitable if args.cases or case in MAIN or peer.family in ALWAYS]


def bench(args: argparse.Namespace, plan: Plan) -> None:
    began = time.monotonic()
    # Building may first download dependencies.
    machine.limit_program()
    report = Report(machine.describe() | {"congestion_control": machine.own_network()})
    missing: dict[str, str] = {}
    known = chosen_peers(args, missing)
    cases = [(case, those_of(case, known, args)) for case in chosen_cases(args)]
    total, so_far = sum(len(here) for _, here in cases), 0
    lines = []
    with closing(Stage(cases[0][0], plan.seconds, plan.limit_ms)) as stage:
        for case, here in cases:
            # Each case has a share of the time that depends on its peers. Time that one leaves over
            # goes to the next ones.
            so_far += len(here)
            until = began + plan.seconds_in_all * so_far / total
            stage.case = case
            runs = run_case(stage, here, plan, say, until)
            lines += report.add(case, runs)
            # The results are written after each case, so that an interrupted run keeps them.
            report.write(args.results)
            if not args.quick:
                # New processes, because each process has its own luck with memory.
                stage.clear()
    lines += [f"{peer} not measured: {why}" for peer, why in missing.items()]
    if report.disturbed() > DISTURBED:
        say(f"note: others had up to {report.disturbed():.0%} of a core; run it again when the machine is idle")
    say("\n" + report.table())
    say(report.modes())
    say("\n".join(lines))
    say(f"{time.monotonic() - began:.0f} s; results.json, results.txt and charts (*.svg) are in {os.path.relpath(args.results)}")


def on_term(_number: int, _frame: Any) -> None:
    # SIGTERM raises an exception, so that the processes are still ended.
    raise KeyboardInterrupt


def words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def cases(text: str) -> list[Case]:
    try:
        return [parse(name) for name in words(text)]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def bin_folder(text: str) -> Path:
    if not (folder := Path(text).absolute() / "spdk_tgt").exists():
        raise argparse.ArgumentTypeError(f"{folder} does not exist")
    return folder.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--quick", action="store_true", help="fewer cases and pairs, in under 90 s")
    option("--cases", type=cases, default=[], help=f"run only these; a name is {NAMES}")
    option("--peers", type=words, default=[], help="run only these, by name or by family")
    option("--pairs", type=int, help="number of rounds of each case")
    option("--seconds", type=int, help="duration of each run")
    option("--dst-bin", type=bin_folder, default=environment().bin, help="folder of DST's spdk_tgt and bdevperf")
    option("--dst-bin-b", type=bin_folder, help="the same for another build: adds the peer dst-b, compared with dst")
    option("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the results")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("dst: error: benchmarks want two cores, one for the target and one for the client")
    plan = QUICK if args.quick else FULL
    changes = {"pairs": args.pairs, "seconds": args.seconds, "safety_rounds": args.pairs}
    if args.cases or args.peers or args.pairs:
        # An explicit number overrides the defaults.
        changes["seconds_in_all"] = float("inf")
    plan = Plan(**(vars(plan) | {name: value for name, value in changes.items() if value}))
    signal.signal(signal.SIGTERM, on_term)
    try:
        bench(args, plan)
    except KeyboardInterrupt:
        sys.exit(130)
    except AssertionError as error:
        sys.exit(f"dst: error: {error}")


if __name__ == "__main__":
    main()
