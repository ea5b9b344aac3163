"""The benchmark's arithmetic: which runs form a pair, which ratio is shown, and the parsing of
others' output."""

from __future__ import annotations

import base64
import errno
import json
import os
import struct
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import charts  # noqa: E402
import cycles  # noqa: E402
import latency  # noqa: E402
import net_latency  # noqa: E402
import rounds  # noqa: E402
import scale  # noqa: E402
import timeline  # noqa: E402
from cases import MAIN, MORE, TWO_CORES, Case, parse  # noqa: E402
from machine import choose_control  # noqa: E402
from measure import Figures, of_rate  # noqa: E402
from peers import nbd  # noqa: E402
from peers.registry import BASE, COMPARED, peers  # noqa: E402
from report import Report  # noqa: E402
from runs import FAR, MIXED, NEAR, Run, best_variant, interleaved, mode, pairs, ratio  # noqa: E402

CASE = parse("randread-4k-qd128")
NEAR_NS, FAR_NS = 65.0, 320.0


def run(peer: str, place: int, iops: float, number: int = 0, ns: float = NEAR_NS, **more: Any) -> Run:
    values = {"family": peer, "before_ns": ns, "after_ns": ns} | more
    return Run(case=CASE, peer=peer, round=number, place=place, figures=Figures(iops, 1e6 / iops), **values)


def test_a_timeline_has_the_calls_that_moved_bytes() -> None:
    printed = """
   [001]   100.000000100: syscalls:sys_exit_readv: 0x30
   [000]   100.000001000: syscalls:sys_enter_sendmsg: fd: 0x00000110, msg: 0x7ffda7a41f60, flags: 0x00000000
   [001]   100.000001500: syscalls:sys_enter_epoll_wait: epfd: 0x000001e3, events: 0x7f, maxevents: 0x20, timeout: 0x0
   [001]   100.000002000: syscalls:sys_exit_epoll_wait: 0x0
   [001]   100.000002500: syscalls:sys_enter_readv: fd: 0x000001e0, vec: 0x7f, vlen: 0x1
   [001]   100.000003000: syscalls:sys_exit_readv: 0xfffffffffffffff5
   [000]   100.000004000: syscalls:sys_exit_sendmsg: 0x1030
   [001]   100.000004000: syscalls:sys_enter_epoll_wait: epfd: 0x000001e3, events: 0x7f, maxevents: 0x20, timeout: 0x0
   [001]   100.000004500: syscalls:sys_exit_epoll_wait: 0x1
   [001]   100.000005000: syscalls:sys_enter_readv: fd: 0x000001e0, vec: 0x7f, vlen: 0x1
   [001]   100.000005500: syscalls:sys_exit_readv: 0x1030
"""
    found = timeline.calls(printed)
    assert [(call.name, call.result) for call in found] == [
        ("sendmsg", 4144), ("epoll_wait", 0), ("readv", timeline.EAGAIN), ("epoll_wait", 1), ("readv", 4144)
    ]
    first, second = timeline.shown(found)
    assert "client sendmsg 4,144 in 3.0" in first and "polls" not in first
    assert "target readv 4,144 in 0.5" in second and "2 empty polls" in second


def test_a_mode_is_what_was_there_before_and_after() -> None:
    assert mode(NEAR_NS, NEAR_NS) == NEAR
    assert mode(FAR_NS, FAR_NS) == FAR
    assert mode(NEAR_NS, FAR_NS) == mode(FAR_NS, NEAR_NS) == MIXED


@pytest.mark.parametrize("others", [[], ["a"], ["a", "b"], ["a", "b", "c"], list("abcdefg")])
def test_the_base_runs_beside_every_other(others: list[str]) -> None:
    order = interleaved("base", others)
    assert sorted(set(order)) == sorted(["base", *others])
    for other in others:
        at = order.index(other)
        assert "base" in order[max(at - 1, 0) : at + 2], order
    assert interleaved(None, others) == others


def test_pairs_are_neighbours_of_the_same_round_and_mode() -> None:
    first, near, far_away = run("dst", 0, 100), run("dst", 3, 110), run("dst", 9, 120)
    other = run("nvmf", 4, 50)
    assert pairs([first, near, far_away, other], "dst", "nvmf") == [(near, other)]
    # The neighbour had another mode; the next run has the same.
    assert pairs([first, run("dst", 3, 30, ns=FAR_NS), other], "dst", "nvmf") == [(first, other)]
    # No run is compared with one of another round, nor with one during which the mode changed.
    assert pairs([first, run("nvmf", 1, 50, number=1)], "dst", "nvmf") == []
    assert pairs([first, run("nvmf", 1, 50, before_ns=FAR_NS)], "dst", "nvmf") == []
    changed = {"before_ns": FAR_NS, "after_ns": NEAR_NS}
    assert pairs([run("dst", 0, 100, **changed), run("nvmf", 1, 50, **changed)], "dst", "nvmf") == []


def test_a_ratio_is_the_median_of_the_pairs_that_were_left_alone() -> None:
    runs = [run("dst", 0, 200, 0), run("nvmf", 1, 100, 0), run("dst", 0, 300, 1), run("nvmf", 1, 100, 1)]
    runs += [run("dst", 0, 900, 2, disturbed=0.3), run("nvmf", 1, 100, 2)]
    found = ratio(runs, "dst", "nvmf")
    assert found is not None and found.quiet
    assert sorted(found.values) == [2.0, 3.0] and found.median == 2.5
    # If there is no other, a disturbed pair is better than none, and is marked.
    doubtful = ratio(runs[4:], "dst", "nvmf")
    assert doubtful is not None and not doubtful.quiet and doubtful.median == 9.0
    assert "disturbed" in str(doubtful)
    assert ratio(runs, "dst", "limit") is None
    assert ratio(runs, "dst", "nvmf", lambda figures: figures.p99_us) is None, "what was not measured has no ratio"


def test_of_variants_the_one_counts_that_is_hardest_to_beat() -> None:
    runs = [run("dst", 1, 100), run("a", 0, 50, family="nvmf"), run("b", 2, 80, family="nvmf"), run("c", 3, 99)]
    assert best_variant(runs, "dst", "nvmf") == "b"
    assert best_variant(runs, "dst", "iscsi") is None


def test_names_of_cases() -> None:
    everything = MAIN + MORE + TWO_CORES
    assert [parse(case.name) for case in everything] == everything
    assert len(set(everything)) == len(everything)
    assert parse("randrw-16k-qd32-null-2cores") == Case("randrw", 16384, 32, "null", 2)
    for wrong in ("randread-4k", "randread-0k-qd1", "read-4k-qd1", "randread-4k-qd0", "randread-4k-qd1-aio", ""):
        with pytest.raises(ValueError, match="no such case"):
            parse(wrong)


def test_every_comparison_has_its_peers() -> None:
    known = peers(dst_bin_b=Path("/nowhere"))
    assert len({peer.name for peer in known}) == len(known)
    for ours, family in COMPARED:
        assert ours in {peer.name for peer in known} and family in {peer.family for peer in known}
    for case in MAIN:
        quick = [peer.family for peer in known if peer.quick(case) and peer.family != BASE]
        assert "nvmf" in quick and len(set(quick)) == len(quick), f"{case.name}: one variant each in QUICK=1"


def test_lines_of_ratios() -> None:
    report = Report(machine())
    runs = []
    for number, ns in enumerate([NEAR_NS, FAR_NS]):
        scale = 1 + number
        runs += [run("limit", 0, 400, number, ns), run("dst", 1, 200 / scale, number, ns)]
        runs += [run("nvmf-default", 2, 100 / scale, number, ns, family="nvmf"), run("dst-crc32c", 3, 150, number, ns)]
    assert report.add(CASE, runs) == [
        "ratio randread-4k-qd128 dst/nvmf 2.00 dst/limit 0.38",
        "ratio randread-4k-qd128 dst-crc32c/dst 1.12",
        "ratio-near randread-4k-qd128 dst/nvmf 2.00 dst/limit 0.50",
        "ratio-near randread-4k-qd128 dst-crc32c/dst 0.75",
        "ratio-far randread-4k-qd128 dst/nvmf 2.00 dst/limit 0.25",
        "ratio-far randread-4k-qd128 dst-crc32c/dst 1.50",
    ]


def test_what_is_written(tmp_path: Path) -> None:
    report = Report(machine())
    alone = parse("randread-4k-qd1")
    figures = Figures(50_000.0, 20.0, 19.0, 30.0, 80.0)
    runs = [Run(alone, peer, peer, 0, place, figures, 65, 65) for place, peer in enumerate(["dst", "limit", "<&>"])]
    report.add(alone, runs)
    report.write(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "results.json", "results.txt", "ratios.svg", "iops.svg", "latency.svg"
    }  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    assert [found["case"] for found in results["runs"]] == [alone.name] * 3
    assert "near in 3 runs (65 to 65 ns)" in results["machine"]["cores"]
    for chart in tmp_path.glob("*.svg"):
        ElementTree.parse(chart)


def test_scale_is_beside_one_connection_of_the_same_load_peer_and_mode() -> None:
    one, many = (next(p for p in scale.POINTS if p.load == "4 each" and p.connections == n) for n in (1, 1000))
    found = [scale.Measured(one, "dst", iops, 0.5, NEAR) for iops in (90, 100, 300)]
    found += [scale.Measured(one, "dst", 10, 0.5, FAR), scale.Measured(one, "limit", 400, 0.0, NEAR)]
    found += [scale.Measured(many, "dst", 70, 0.5, NEAR), scale.Measured(many, "dst", 1, 0.5, MIXED)]
    rows = scale.summed_up(found)
    assert [(row["connections"], row["peer"], row["mode"], row["of_one"]) for row in rows] == [
        (1, "dst", NEAR, 1.0), (1, "dst", FAR, 1.0), (1, "limit", NEAR, 1.0), (1000, "dst", NEAR, 0.7)
    ]  # fmt: skip
    assert "scale 1000 (4 each) dst near: 70 IOPS of one's 0.70" in scale.lines(rows)[3]
    ElementTree.fromstring(charts.scale_chart(rows, "a machine"))


@pytest.mark.parametrize(
    "allowed, told",
    [
        (("cubic", "reno"), "cubic"),
        (("reno",), "reno (cubic: Operation not permitted)"),
        ((), "bbr (cubic: Operation not permitted, reno: Operation not permitted)"),
    ],
)
def test_a_congestion_control_that_is_not_allowed(
    monkeypatch: pytest.MonkeyPatch, allowed: tuple[str, ...], told: str
) -> None:
    class File:
        def write_text(self, control: str) -> None:
            if control not in allowed:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        def read_text(self) -> str:
            return "bbr\n"

    monkeypatch.setattr("machine.CONTROL_FILE", File())
    assert choose_control() == told


def machine() -> dict[str, Any]:
    return {"cpu": "a CPU", "cpus": 2, "virtual": True, "kernel": "6.1", "spdk": "20.07"}


def histogram(counts: dict[int, int], **more: Any) -> dict[str, Any]:
    # Two ranges of 4 buckets of one tick, then ranges whose buckets are twice as wide each time.
    numbers = [counts.get(bucket, 0) for bucket in range(16)]
    coded = base64.b64encode(struct.pack("16Q", *numbers)).decode()
    return {"histogram": coded, "bucket_shift": 2, "tsc_rate": 1_000_000} | more


def test_percentiles_of_a_histogram() -> None:
    # 90 I/Os of 2 to 3 µs, 10 of 8 to 10 (the first bucket of the range that begins at 8).
    found = latency.decode(histogram({2: 90, 8: 10}), [50, 90, 99])
    assert found.percentiles == [3.0, 3.0, 10.0]
    assert found.mean == pytest.approx((90 * 2.5 + 10 * 9) / 100)
    assert latency.decode(histogram({}), [50]) == latency.Latencies(0.0, [0.0])


def test_littles_law() -> None:
    assert of_rate(100_000, 10).mean_us == pytest.approx(100)


def test_what_perf_says() -> None:
    assert cycles.parse("1234567,,cycles,100,100.00,,\n") == 1234567
    assert cycles.parse("1234567,,cycles:u,100,100.00,,\n") == 1234567
    assert cycles.parse("<not supported>,,cycles,0,100.00,,\n") == 0
    assert cycles.parse("") == 0


def test_what_fio_says() -> None:
    mixed = {
        "iops": 5000.0,
        "lat_ns": {"mean": 20_000.0},
        "clat_ns": {"percentile": {"50.000000": 19_000, "99.000000": 40_000, "99.900000": 90_000}},
    }
    log = f"$ fio\nfio: a note about {{}}\n{json.dumps({'jobs': [{'mixed': mixed}]}, indent=1)}\n"
    assert nbd.parse(log) == Figures(5000.0, 20.0, 19.0, 40.0, 90.0)


def test_charts_of_nothing(tmp_path: Path) -> None:
    assert charts.draw({"machine": machine(), "runs": [], "ratios": []}, tmp_path) == []


def test_rounds_go_on_until_each_has_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing pair is measured even when time is up: a late ratio is better than none."""
    case = parse("randread-4k-qd1")
    known = [peer for peer in peers() if peer.name in ("dst", "nvmf-default")]
    modes: list[float] = []

    def run_once(_stage: Any, peer: Any, number: int, place: int, _say: Any) -> Run:
        ns = modes.pop(0) if modes else NEAR_NS
        return Run(case, peer.name, peer.family, number, place, Figures(100, 10), ns, ns)

    monkeypatch.setattr(rounds, "_run_once", run_once)
    plan = rounds.Plan(pairs=5, seconds=1, limit_ms=1, safety_rounds=0, seconds_in_all=0)
    stage: Any = type("Stage", (), {"case": case})

    def numbers() -> set[int]:
        return {run.round for run in rounds.run_case(stage, known, plan, lambda _: None, until=0.0)}

    assert numbers() == {0}
    modes[:] = [FAR_NS, NEAR_NS]
    assert numbers() == {0, 1}
    modes[:] = [FAR_NS, NEAR_NS] * 2 + [NEAR_NS, FAR_NS]
    assert numbers() == {0, 1, 2}


def test_latencies_over_dpdk_are_compared_with_their_neighbours() -> None:
    def at(sockets: str, number: int, us: float, mode: str = NEAR) -> net_latency.Run:
        return net_latency.Run("randread", "dst", sockets, number, us, us, us, mode, 0.0)

    runs = [at("dpdk", 0, 5.0), at("posix", 0, 20.0), at("dpdk", 1, 8.0, FAR), at("posix", 1, 20.0, FAR)]
    # Neither has a neighbour in its mode, nor has the last one any.
    runs += [at("dpdk", 2, 1.0), at("posix", 2, 9.0, FAR), at("dpdk", 3, 1.0, MIXED), at("posix", 3, 9.0, MIXED)]
    runs += [at("dpdk", 4, 6.0), at("posix", 4, 20.0), at("dpdk", 5, 1.0)]
    assert net_latency.summary(runs) == [
        "randread dst: dpdk 6.0 us, posix 20.0 us, ratio 0.30 (0.25 to 0.40; pairs: 3; far, near)"
    ]
