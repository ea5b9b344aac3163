#!/bin/bash
# build-spdk.sh: builds Debian's copy of SPDK into the cache, unless it is there, and prints the
# folder of the built tree.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=say.sh
. "$here/say.sh"

# glibc 2.36 has its own arc4random, which SPDK 20.07's iSCSI code defines too unless told so.
cflags=-DHAVE_ARC4RANDOM=1
# Tests and examples are disabled because SPDK has dozens. Those that DST links or measures against
# are built by name.
configure=(--disable-tests --disable-unit-tests --disable-examples --with-iscsi-initiator --with-virtio)
parts=(test/bdev/bdevperf test/bdev/bdevio examples/nvme/perf)
# DPDK's own unit tests, a good part of its build, are left out.
dpdk_opts="-Denable_docs=false -Denable_kmods=false -Dtests=false -Dmachine=native"

# SPDK and DPDK are compiled with -march=native, so a cache that is copied to a machine with another
# processor or compiler must not be used there. The compiler's predefined macros identify both.
key=$({
    grep -E ' [0-9a-f]{64}"$' "$here/get-spdk.sh" # the source, by its SHA-256
    echo "$cflags ${configure[*]} ${parts[*]} $dpdk_opts"
    cc -march=native -dM -E -x c /dev/null
} | sha256sum | cut -c1-12)
tree=$DST_CACHE/spdk-20.07-$key
# This file is written last. A tree without it is an interrupted build, which is started again.
# (Building elsewhere and moving the tree is impossible, since SPDK's configure writes absolute
# paths.)
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

# clean COMMAND...: runs COMMAND in a clean environment, without the MAKEFLAGS of DST and the CFLAGS
# of the user. PATH has only the system's folders, because Debian's meson needs Debian's python3.
clean() {
    env -i HOME="$HOME" PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
}

# Each step ends with '|| return' because bash ignores 'set -e' in a function whose status is
# tested.
build() {
    local part
    cd "$tree" || return
    clean CFLAGS="$cflags" ./configure "${configure[@]}" || return
    clean make -j"$(nproc)" DPDK_OPTS="$dpdk_opts" || return
    for part in "${parts[@]}"; do
        clean make -C "$part" -j"$(nproc)" || return
    done
}

say "SPDK is downloaded and built once, into $tree; this takes some minutes"
rm -rf "$tree"
# The lock's descriptor is closed for children, so that a lingering child does not hold the lock.
"$here/get-spdk.sh" "$tree" 9>&-
long_step "building SPDK 20.07" "$DST_CACHE/logs/build-spdk.log" build 9>&- ||
    die "SPDK did not build" \
        "see $DST_CACHE/logs/build-spdk.log" \
        "run 'spdk/provision/packages.sh build' to check for missing packages, or set SPDK_DIR to your own build"
"$here/check-tree.sh" "$tree" || die "the build of SPDK is incomplete, see above" "see $DST_CACHE/logs/build-spdk.log"
touch "$complete"
echo "$tree"
