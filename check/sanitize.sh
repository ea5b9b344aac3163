#!/bin/bash
# sanitize.sh FOLDER: links spdk_tgt with DST and with an SPDK that is built with an address
# sanitizer, into FOLDER. That build is a copy of the tree SPDK_DIR, which has to be one that DST has
# built itself (SPDK 20.07), in a folder beside it; it takes some minutes once. DPDK is shared with
# SPDK_DIR. DST's own code is not instrumented: what is looked for is its use of SPDK's memory, of
# which the sanitizer sees all that SPDK allocates, frees and touches.
set -euo pipefail
out=$1
root=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source-path=SCRIPTDIR source=../spdk/provision/say.sh
. "$root/spdk/provision/say.sh"
: "${SPDK_DIR:?}" "${DST_CACHE:?}"

[ -e "$SPDK_DIR/.dst-complete" ] || die "SPDK_DIR=$SPDK_DIR was not built by DST" \
    "leave SPDK_DIR unset for this"
tree=$SPDK_DIR-asan
complete=$tree/.dst-complete

# clean COMMAND...: runs COMMAND in a clean environment, as build-spdk.sh does.
clean() {
    env -i HOME="$HOME" PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 CFLAGS=-DHAVE_ARC4RANDOM=1 "$@"
}

build() {
    rm -rf "$tree" && mkdir -p "$tree/build/lib" "$tree/build/bin" || return
    (cd "$SPDK_DIR" && tar cf - --anchored --exclude=./dpdk --exclude=./build \
        --no-anchored --exclude='*.[oad]' --exclude=.dst-complete .) | tar xf - -C "$tree" || return
    # ISA-L is not SPDK's own.
    cp -r "$SPDK_DIR/isa-l/.libs" "$tree/isa-l/" || return
    sed -i -e 's/^CONFIG_ASAN?=.*/CONFIG_ASAN?=y/' -e "s#^CONFIG_ENV?=.*#CONFIG_ENV?=$tree/lib/env_dpdk#" \
        "$tree/mk/config.mk" || return
    for part in lib lib/env_dpdk module app/spdk_tgt; do
        clean make -C "$tree/$part" -j"$(nproc)" || return
    done
}

if [ ! -e "$complete" ]; then
    long_step "building SPDK with an address sanitizer" "$DST_CACHE/logs/build-spdk-asan.log" build ||
        die "SPDK did not build" "see $DST_CACHE/logs/build-spdk-asan.log"
    touch "$complete"
fi
mkdir -p "$out"
SPDK_DIR=$tree "$root/spdk/apps/link.sh" spdk_tgt "$out/spdk_tgt" "$root/build/lib/libspdk_dst.a" \
    "$root/build/obj/lcores.o"
