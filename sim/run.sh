#!/usr/bin/env bash
# Runs the simulators as CI does: 6,000 seeds of DST's, 1,000 of TCP's and 1,000 of mirrors, then
# the model checker, then the tests which show that all of them would notice. Takes some ten
# minutes on two cores.
#
# usage: sim/run.sh [SEEDS [FROM]]
set -euo pipefail
cd "$(dirname "$0")"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../target}/sim
seeds=${1:-6000} from=${2:-0}
fewer=$((seeds / 6))
cargo run --quiet --release --locked -- --seeds "$seeds" --from "$from"
cargo run --quiet --release --locked --package dst-tcp-sim -- --seeds "$fewer" --from "$from"
cargo run --quiet --release --locked --package dst-mirror-sim -- --seeds "$fewer" --from "$from"
cargo run --quiet --release --locked --package dst-mirror-sim -- --changes --seeds "$fewer" --from "$from"
cargo run --quiet --release --locked --package dst-mirror-sim -- --verifying --seeds "$fewer" --from "$from"
cargo run --quiet --release --locked --package dst-mirror-sim -- --witness-changes --seeds "$fewer" --from "$from"
# All states of the small worlds, with the real broker and the client's rules.
cargo run --quiet --release --locked --package dst-model
# Of dst-target, the unit tests that need SPDK's buffers and sockets, which are simulated here.
cargo test --quiet --release --locked \
    --package dst-sim --package dst-target --package dst-model --package dst-tcp-sim --package dst-mirror-sim
# The TCP stack against this machine's kernel, where the kernel allows that.
cargo build --quiet --release --locked --package dst-tcp-sim --bin dst-tap
/usr/bin/python3 tcp/kernel.py "$CARGO_TARGET_DIR/release/dst-tap"
