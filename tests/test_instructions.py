"""The hot paths take no more instructions than before: bench/paths under callgrind, with a bound
for each step, those of the sockets over DPDK included."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from harness.requirements import require_tool

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import instructions  # noqa: E402
import net_instructions  # noqa: E402


@pytest.mark.watchdog(360)
@pytest.mark.parametrize("tool", [instructions, net_instructions], ids=["hot-paths", "sockets-over-dpdk"])
def test_instructions_stay_within_their_bounds(capsys: pytest.CaptureFixture[str], tool: ModuleType) -> None:
    require_tool("valgrind")
    counts, compiler, bounds = tool.count(), instructions.compiler(), tool.bounds()
    with capsys.disabled():
        print("\n" + instructions.table(counts, bounds, compiler))
    over = [step for step, count in counts.items() if count > bounds.allowed(step, compiler)]
    assert not over, f"{', '.join(over)}: faster, or if it is worth it, move the bound: bench/{tool.__name__}.py --write"
    if tool is net_instructions:
        for name, (ratio, most) in net_instructions.growth(counts).items():
            assert ratio <= most, f"{name}: {ratio:.2f}"


def test_a_function_counts_with_all_that_it_calls() -> None:
    lines = [
        "40,000 (100.0%)  /x/bench/paths/net.rs:dst_net_paths::counted [/x/dst-net-paths]",
        "20,000 (50.0%)  /x/src/sockets/driver.rs:dst_sockets::driver::Driver<P,L>::receive [/x/dst-net-paths]",
        " 5,000 (12.5%)  /x/src/tcp/stack.rs:dst_sockets::driver::Driver<P,L>::receive [/x/dst-net-paths]",
        " 9,000 (22.5%)  /x/src/sockets/driver.rs:dst_sockets::driver::Driver<P,L>::send::{{closure}} [/x/dst-net-paths]",
        " 8,000 (20.0%)  /x/src/sockets/driver.rs:dst_sockets::driver::Driver<P,L>::send [/x/dst-net-paths]",
    ]
    assert net_instructions.parse("\n".join(lines), 10) == {"io": 4000, "receive": 2000, "send": 800}
    with pytest.raises(AssertionError, match="send"):
        net_instructions.parse("\n".join(lines[:4]), 10)


def test_what_callgrind_says_is_divided_by_the_ios() -> None:
    names = ["client::Client::submit", "client::Client::send", "client::Client::complete"]
    names += ["target::Target::parse", "target::Target::answer", "digest"]
    names += ["one_mirror_write", "one_mirror_read"]
    names += [f"scrape::Scrape::{part}" for part in ("sum_channels", "copy_connections", "answer")] + ["one_scrape"]
    assert list(instructions.STEPS) == names
    lines = [
        f"{100 * instructions.STEPS[name]:,} (28.80%)  /x/bench/paths/{name.split(':')[0]}.rs:dst_paths::{name} [/x/dst-paths]"
        for name in names
    ]
    # Parts that are inlined from elsewhere are already in the step's own line.
    lines.append(" 5,000 ( 1.00%)  /x/src/wire/header.rs:dst_paths::target::Target::answer")
    lines.append(" 5,000 ( 1.00%)  /x/bench/paths/main.rs:dst_paths::target::Target::answer [/x/dst-paths]")
    assert instructions.parse("\n".join(lines)) == dict.fromkeys(names, 100)
    with pytest.raises(AssertionError, match="client::Client::submit"):
        instructions.parse("\n".join(lines[1:]))


def test_another_compiler_is_allowed_more() -> None:
    bounds = instructions.parse_bounds("# a comment\nrustc 1.2.3\ndigest 1000\n")
    assert bounds.allowed("digest", "rustc 1.2.3") == 1030
    assert bounds.allowed("digest", "rustc 1.2.4") == 1300
    assert "TOO MANY" in instructions.table({"digest": 1031}, bounds, "rustc 1.2.3")
    assert "TOO MANY" not in instructions.table({"digest": 1030}, bounds, "rustc 1.2.3")
