#!/bin/bash
# build-spdk.sh: builds Debian's copy of SPDK once into the cache and prints the built tree's folder.
# Later calls find it there and only print.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=say.sh
. "$here/say.sh"

# glibc 2.36 has its own arc4random, which SPDK 20.07's iSCSI code defines too unless told so.
cflags=-DHAVE_ARC4RANDOM=1
# Tests and examples are off because SPDK has dozens; the ones that DST links or measures against are
# built by name.
configure=(--disable-tests --disable-unit-tests --disable-examples --with-iscsi-initiator --with-virtio)
parts=(test/bdev/bdevperf test/bdev/bdevio examples/nvme/perf)
# DPDK's own unit tests, a good part of its build, are left out.
dpdk_opts="-Denable_docs=false -Denable_kmods=false -Dtests=false -Dmachine=native"

# SPDK and DPDK are compiled with -march=native: a cache carried to another processor or compiler must
# not be used there. The compiler's predefined macros tell both.
key=$({
    grep -E ' [0-9a-f]{64}"$' "$here/get-spdk.sh" # the source, by its SHA-256
    echo "$cflags ${configure[*]} ${parts[*]} $dpdk_opts"
    cc -march=native -dM -E -x c /dev/null
} | sha256sum | cut -c1-12)
tree=$DST_CACHE/spdk-20.07-$key
# Written last. SPDK's configure writes absolute paths into the tree, so it cannot be built elsewhere
# and moved; a tree without this file is an interrupted build and is started over.
complete=$tree/.dst-complete

if [ -e "$complete" ]; then
    echo "$tree"
    exit
fi

mkdir -p "$DST_CACHE"
exec 9>"$DST_CACHE/lock"
if ! flock -n 9; then
    say "another build of SPDK is under way in $DST_CACHE; waiting for it"
    flock 9
fi
if [ -e "$complete" ]; then
    echo "$tree"
    exit
fi

# clean COMMAND...: in an environment of its own. PATH without /usr/local or pyenv and the like:
# Debian's meson needs Debian's python3. No MAKEFLAGS of ours, no CFLAGS of the user's.
clean() {
    env -i HOME="$HOME" PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
}

# Each step says '|| return' because bash ignores 'set -e' in a function whose status is looked at.
build() {
    local part
    cd "$tree" || return
    clean CFLAGS="$cflags" ./configure "${configure[@]}" || return
    clean make -j"$(nproc)" DPDK_OPTS="$dpdk_opts" || return
    for part in "${parts[@]}"; do
        clean make -C "$part" -j"$(nproc)" || return
    done
}

say "SPDK is fetched and built once, into $tree; this takes some minutes"
rm -rf "$tree"
# The lock's descriptor is closed for children: one that lingers must not keep the lock.
"$here/get-spdk.sh" "$tree" 9>&-
long_step "building SPDK 20.07" "$DST_CACHE/logs/build-spdk.log" build 9>&- ||
    die "SPDK did not build" \
        "the whole log is $DST_CACHE/logs/build-spdk.log" \
        "spdk/provision/packages.sh tells whether a package is missing; SPDK_DIR=/path uses your own build instead"
"$here/check-tree.sh" "$tree" || die "the build of SPDK ended without these" "see $DST_CACHE/logs/build-spdk.log"
touch "$complete"
echo "$tree"
