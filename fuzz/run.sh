#!/usr/bin/env bash
# Fuzzes each target over its kept corpus: fuzz/run.sh [SECONDS each, default 5] [TARGET...]
# Lints the targets, with what the build shares: fuzz/run.sh lint
#
# FUZZ_SEED=N  uses another seed than 1
# FUZZ_KEEP=1  adds the inputs found to fuzz/corpus/, minimised
#
# Works with stable Rust: LLVM provides the instrumentation and libfuzzer-sys the runtime, which
# needs a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-5}
[[ $seconds =~ ^[0-9]+$ || $seconds == lint ]] ||
    { echo "usage: fuzz/run.sh [SECONDS] [TARGET...], or fuzz/run.sh lint" >&2; exit 2; }
shift || true
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || targets=(header hello welcome refusal event deframer secure secured records connection tcp frames metadata)
seed=${FUZZ_SEED:-1}

if ! command -v "${CXX:-c++}" >/dev/null; then
    echo "fuzz: no C++ compiler; install Debian's package g++" >&2
    exit 2
fi

# The flags are cargo-fuzz's, without the address sanitizer (it needs nightly Rust, and DST has no
# unsafe code here). A target triple keeps build scripts and macros from being instrumented.
triple=$(rustc -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=" -Cllvm-args=-sanitizer-coverage-$option"
done
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../target}/fuzz
if [[ $seconds == lint ]]; then
    RUSTFLAGS=$flags exec cargo clippy --quiet --release --locked --target "$triple" -- -D warnings
fi
echo "fuzz: building"
RUSTFLAGS=$flags cargo build --quiet --release --locked --target "$triple"
bin=$CARGO_TARGET_DIR/$triple/release

work=$CARGO_TARGET_DIR/run
mkdir -p "$work"

fuzz() {
    local target=$1 options cov first runs input
    local found=$work/$target/found log=$work/$target/log artefacts=$work/$target/artefacts
    rm -rf "$found" && mkdir -p "$found" "$artefacts" "corpus/$target"
    # The maximum input length is slightly more than that of the longest list of attributes, and of a
    # superblock with a short tree.
    options=(-max_len=4200 -timeout=5 -rss_limit_mb=1024 -seed="$seed")
    if ! "$bin/$target" "${options[@]}" -max_total_time="$seconds" -print_final_stats=1 \
        -artifact_prefix="$artefacts/" "$found" "corpus/$target" >"$log" 2>&1; then
        grep -m 1 -A 4 'panicked at' "$log" >&2 || tail -n 30 "$log" >&2
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        echo "fuzz: $target FAILED with seed $seed, input: ${input:-none was written}" >&2
        echo "fuzz: again: $bin/$target $input" >&2
        return 1
    fi
    # The last line of progress shows the coverage, which is absent without instrumentation.
    cov=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1) || true
    first=$(grep -E 'INITED' "$log" | grep -oE 'cov: [0-9]+') || true
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [[ -z $cov || ${cov#cov: } -lt 20 ]]; then
        echo "fuzz: $target sees no coverage (${cov:-none}): was it built with the flags above?" >&2
        return 1
    fi
    echo "fuzz: $target passed, seed $seed, $runs runs, ${first:-cov: ?} -> ${cov#cov: }"
    if [[ ${FUZZ_KEEP:-} == 1 ]]; then
        local kept=$work/$target/kept
        rm -rf "$kept" && mkdir "$kept"
        # Keeps a minimal set of inputs that covers all the code, however often each part runs.
        "$bin/$target" "${options[@]}" -set_cover_merge=1 -use_counters=0 \
            "$kept" "corpus/$target" "$found" >"$log" 2>&1 || { cat "$log" >&2; return 1; }
        rm -rf "corpus/$target" && cp -r "$kept" "corpus/$target"
        echo "fuzz: $target keeps $(find "corpus/$target" -type f | wc -l) inputs"
    fi
}

# Two targets run at a time, since each uses one thread.
failed=0 running=()
for target in "${targets[@]}"; do
    if [[ ${#running[@]} -eq 2 ]]; then
        wait "${running[0]}" || failed=1
        running=("${running[1]}")
    fi
    fuzz "$target" &
    running+=($!)
done
for pid in "${running[@]}"; do
    wait "$pid" || failed=1
done
[[ $failed == 0 ]] || exit 1
echo "fuzz: ${#targets[@]} targets passed"
