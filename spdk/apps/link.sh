#!/bin/bash
# link.sh APP OUT LIBSPDK_DST_A OBJECT…: links application APP (spdk_tgt, bdevperf or bdevio) of the
# SPDK tree SPDK_DIR with DST and the given objects into OUT. APP dst_check is DST's own: it is
# linked with bdevperf's libraries, without bdevperf's objects.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
app=$1 out=$(readlink -f "$2") lib=$(readlink -f "$3")
shift 3
objects=$(readlink -f "$@" | tr '\n' ' ')
: "${SPDK_DIR:?}"
# With shared libraries, the object shared.o, which is then among the given ones, replaces this
# option.
wraps=-Wl,--wrap=rte_eal_init
shared=
! grep -qx 'CONFIG_SHARED?=y' "$SPDK_DIR/mk/config.mk" || shared=1 wraps=
[ "$app" != bdevperf ] || wraps+=" -Wl,--wrap=spdk_bdev_read_blocks"

like=$app theirs=1
[ "$app" != dst_check ] || like=bdevperf theirs=
# bdevperf is a test in 20.07 and an example in newer versions.
for folder in "app/$like" "test/bdev/$like" "examples/bdev/$like"; do
    [ -f "$SPDK_DIR/$folder/Makefile" ] && break
done

rm -f "$out"
# DST's MAKEFLAGS must not reach SPDK's makefiles; SPDK's linker flags come from its own tree.
env -u MAKEFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u CFLAGS -u LDFLAGS -u LIBS \
    make --no-print-directory -C "$SPDK_DIR/$folder" -f "$here/link.mk" \
    OUT="$out" DST_OBJS="$objects" DST_LIB="$lib" DST_WRAPS="$wraps" DST_THEIRS="$theirs" DST_SHARED="$shared" \
    DST_PORTS="${DST_PORTS-}" DST_NET_DRIVERS="${DST_NET_DRIVERS-}" || {
    rm -f "$out"
    echo "dst: error: $app could not be linked with SPDK in $SPDK_DIR" >&2
    echo "dst:   if spdk_ or rte_ names are undefined: that tree was configured differently after it was built; run make in it again" >&2
    echo "dst:   if names of DST are undefined: run 'make clean', then 'make'" >&2
    exit 1
}
