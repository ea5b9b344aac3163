# The project's commands: make, make test, make demo [NET=dpdk], make bench [QUICK=1], make deb,
# make docs, make clean.
# SPDK_DIR=/path make ... uses your own built SPDK tree; otherwise one is downloaded and built on
# first use. spdk/provision/ (packages, SPDK, hugepages) and spdk/apps/ (building and linking) do
# the work.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := all

# rustup's default folder, which is not on PATH in a bare environment (CI, sudo).
export PATH := $(PATH):$(HOME)/.cargo/bin

# Debian's python3 by its full path, since another python3 on PATH would not have the installed
# packages (pytest).
PYTHON := /usr/bin/python3

cargo_target := $(or $(CARGO_TARGET_DIR),target)

.PHONY: all test demo bench deb docs clean packages test-packages bench-packages deb-packages docs-packages ready check sanitize

all: packages
	@spdk/provision/env.sh build
	@$(MAKE) -f spdk/apps/build.mk

packages:
	@spdk/provision/packages.sh build
	@command -v cargo >/dev/null || { \
	    echo "dst: error: cargo is not on PATH, nor in ~/.cargo/bin" >&2; \
	    echo "dst:   install Rust with rustup or your distribution's packages, then try again" >&2; \
	    exit 1; }

# Everything that runs SPDK needs hugepages.
ready: all
	@spdk/provision/env.sh build reserve

test-packages: packages
	@spdk/provision/packages.sh test

bench-packages: packages
	@spdk/provision/packages.sh bench

deb-packages: packages
	@spdk/provision/packages.sh deb

# The site needs nothing of what DST is built with.
docs-packages:
	@spdk/provision/packages.sh docs

# pytest runs last, so that its summary line ends the output.
test: test-packages ready check
	@. build/env.sh; $(PYTHON) -m pytest tests

# Everything that needs no SPDK process. fuzz/ and sim/ are separate workspaces, so they need
# separate commands.
check: all
	@. build/env.sh; \
	step() { echo "dst: $$*"; "$$@"; }; \
	step $(PYTHON) check/import_cycles.py; \
	step $(PYTHON) check/links.py; \
	step cargo fmt --all --check; \
	step cargo clippy --quiet --locked --workspace --all-targets -- -D warnings; \
	step cargo test --quiet --locked --workspace; \
	if [ -f fuzz/Cargo.toml ]; then \
	    step cargo fmt --manifest-path fuzz/Cargo.toml --check; \
	    step bash fuzz/run.sh lint; \
	    step bash fuzz/run.sh; \
	fi; \
	if [ -f sim/Cargo.toml ]; then \
	    step cargo fmt --manifest-path sim/Cargo.toml --all --check; \
	    step cargo clippy --quiet --locked --manifest-path sim/Cargo.toml --target-dir $(cargo_target)/sim --release --workspace --all-targets -- -D warnings; \
	    step bash sim/run.sh; \
	fi; \
	if command -v cargo-deny >/dev/null; then \
	    for workspace in . sim fuzz; do \
	        step cargo deny --locked --manifest-path $$workspace/Cargo.toml --config deny.toml check; \
	    done; \
	else echo "dst: note: cargo-deny is not installed, so licences and advisories are not checked"; fi

# Runs the tests of stops in applications whose SPDK is built with an address sanitizer.
sanitize: test-packages ready
	@. build/env.sh; check/sanitize.sh build/asan; \
	ASAN_OPTIONS=detect_leaks=0 DST_TEST_BIN=build/asan DST_STOP_SWEEP=1 $(PYTHON) -m pytest tests/test_stop_races.py

# NET=dpdk: over DPDK's sockets and a memif (docs/dpdk.md).
demo: ready
	@. build/env.sh; $(PYTHON) demo/demo.py $(if $(NET),--net $(NET))

# CASES="…" and PEERS="…" select what to run, PAIRS=n and BENCH_SECONDS=n how often and how long;
# see bench/bench.py --help. NET=1 measures the sockets over DPDK instead, in one process and between
# two (docs/dpdk.md).
# SCALE=1 measures many connections instead; the full benchmark includes that. MIRROR=1 compares a
# mirror with SPDK's raid1 instead (bench/mirror.py).
bench_options = $(if $(QUICK),--quick) $(if $(CASES),--cases "$(CASES)") $(if $(PEERS),--peers "$(PEERS)") \
    $(if $(PAIRS),--pairs $(PAIRS)) $(if $(BENCH_SECONDS),--seconds $(BENCH_SECONDS))

bench: bench-packages ready
	@cargo build --quiet --release --package dst-limit --package dst-clients
	@. build/env.sh; \
	if [ -n "$(NET)" ]; then cargo bench --quiet --locked --package dst-sockets --bench cpu; \
	exec $(PYTHON) bench/net_latency.py $(if $(PAIRS),--pairs $(PAIRS)); fi; \
	if [ -n "$(MIRROR)" ]; then exec $(PYTHON) bench/mirror.py $(if $(PAIRS),--pairs $(PAIRS)); fi; \
	if [ -z "$(SCALE)" ]; then $(PYTHON) bench/bench.py $(bench_options); fi; \
	if [ -z "$(QUICK)$(CASES)$(PEERS)" ]; then $(PYTHON) bench/scale.py $(if $(PAIRS),--pairs $(PAIRS)); fi

# The Debian package, from what `make` has built; see docs/packages.md.
deb: deb-packages all
	@. build/env.sh; packaging/build-deb.sh build/deb

# The documents as a site with a search, which needs no web server. Draws the pictures anew first.
docs: docs-packages
	@$(PYTHON) docs/pictures/draw.py
	@$(PYTHON) -m sphinx -q -E -W --keep-going -c docs/site -d build/docs-cache . build/docs
	@echo "dst: the site begins at build/docs/index.html"

# The SPDK in the cache stays, since it does not belong to this checkout.
clean:
	rm -rf build $(cargo_target)
