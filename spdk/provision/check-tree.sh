#!/bin/bash
# check-tree.sh FOLDER: whether FOLDER is an SPDK tree that DST can be linked with: built, from source,
# with the objects of the applications that DST goes into. Prints what is missing and returns 1 if not.
set -euo pipefail
tree=${1:?usage: check-tree.sh FOLDER}

missing=()
for file in \
    include/spdk/version.h mk/config.mk \
    build/lib/libspdk_bdev.a build/lib/libspdk_event.a build/lib/libspdk_env_dpdk.a \
    app/spdk_tgt/spdk_tgt.o; do
    [ -e "$tree/$file" ] || missing+=("$file")
done
# bdevperf is a test in 20.07 and an example in newer versions.
[ -e "$tree/test/bdev/bdevperf/bdevperf.o" ] || [ -e "$tree/examples/bdev/bdevperf/bdevperf.o" ] ||
    missing+=("bdevperf.o in test/bdev/bdevperf or examples/bdev/bdevperf")
[ -e "$tree/test/bdev/bdevio/bdevio.o" ] || missing+=(test/bdev/bdevio/bdevio.o)

if [ ${#missing[@]} -ne 0 ]; then
    echo "dst: not in $tree:" >&2
    printf 'dst:   %s\n' "${missing[@]}" >&2
    exit 1
fi
