#!/bin/bash
# env.sh BUILD_FOLDER [reserve]: finds SPDK, or builds it on first use, and writes the settings for
# tests, demo and benchmarks to BUILD_FOLDER/env.sh. With 'reserve', it reserves hugepages first.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=say.sh
. "$here/say.sh"
build=$(readlink -m "$1")

spdk_dir=$("$here/locate.sh")

# Newer versions have --no-huge.
newer=
! grep -q no_huge "$spdk_dir/include/spdk/env.h" || newer=1
pages=$("$here/hugepages.sh" "${2:-status}")

# number NAME: prints the value of a macro of version.h, without the leading zero that would make it
# octal.
number() {
    awk -v name="SPDK_VERSION_$1" '$1 == "#define" && $2 == name { print $3 + 0; exit }' \
        "$spdk_dir/include/spdk/version.h"
}
version=$(printf '%02d.%02d' "$(number MAJOR)" "$(number MINOR)")

# SPDK's NVMe perf tool, whose place depends on the version.
perf=
for file in build/examples/perf build/bin/spdk_nvme_perf; do
    [ ! -x "$spdk_dir/$file" ] || perf=$spdk_dir/$file
done

args="-s 512"
no_huge=0
if [ "$pages" = none ]; then
    # Without hugepages the iSCSI target's pools need more.
    args="-s 1024"
    # An SPDK that has --no-huge also prepares for it; in older versions, spdk/apps/lcores.c passes
    # the option to DPDK.
    if [ -n "$newer" ]; then
        args="--no-huge -s 1024"
    else
        no_huge=1
    fi
fi

mkdir -p "$build"
cat >"$build/env.sh.new" <<END
# Written by spdk/provision/env.sh: the environment for every SPDK process.
export SPDK_DIR='$spdk_dir'
export SPDK_VERSION='$version'
export SPDK_NVME_PERF='$perf'
export DST_CACHE='$DST_CACHE'
export DST_BUILD='$build'
# 'reserved' if hugepages can be used, otherwise 'none'.
export DST_HUGEPAGES='$pages'
# Options for each SPDK application: the memory, and --no-huge if there are no hugepages.
export DST_SPDK_ARGS='$args'
# For the applications in build/bin: replaces --no-huge in an SPDK that does not have it.
export DST_NO_HUGE='$no_huge'
END

# Replaces a file only if its content has changed, because a newer file makes everything that
# depends on it rebuild.
keep() {
    if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}
keep "$build/env.sh"
echo "$spdk_dir" >"$build/spdk-dir.new"
keep "$build/spdk-dir"
