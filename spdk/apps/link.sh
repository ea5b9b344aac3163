#!/bin/bash
# link.sh APP OUT LIBSPDK_DST_A OBJECT…: links SPDK's application APP (spdk_tgt, bdevperf or bdevio) of the tree SPDK_DIR
# with DST and these objects of ours into OUT. APP dst_check is all ours: it is linked as bdevperf is, without its objects.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
app=$1 out=$(readlink -f "$2") lib=$(readlink -f "$3")
shift 3
objects=$(readlink -f "$@" | tr '\n' ' ')
: "${SPDK_DIR:?}"
# With shared libraries the object shared.o, which is among ours then, does what this does.
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
# MAKEFLAGS is ours and none of SPDK's makefiles' business; SPDK's own linker flags come from its tree.
env -u MAKEFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u CFLAGS -u LDFLAGS -u LIBS \
    make --no-print-directory -C "$SPDK_DIR/$folder" -f "$here/link.mk" \
    OUT="$out" DST_OBJS="$objects" DST_LIB="$lib" DST_WRAPS="$wraps" DST_THEIRS="$theirs" DST_SHARED="$shared" || {
    rm -f "$out"
    echo "dst: error: $app could not be linked with SPDK in $SPDK_DIR" >&2
    echo "dst:   undefined spdk_ or rte_ names: that tree was configured differently after it was built; make it again" >&2
    echo "dst:   undefined names of DST: 'make clean', then 'make'" >&2
    exit 1
}
