#!/bin/bash
# check-tree.sh FOLDER: whether FOLDER is an SPDK tree that DST can be linked with: new enough, configured and built,
# with the objects of the applications that DST goes into. Prints what is wrong and what to do about it, and returns 1,
# if not.
set -euo pipefail
tree=${1:?usage: check-tree.sh FOLDER}

# The oldest version that is known to work; spdk/sys/build.rs says it to cargo.
oldest=20.07

# refuse WHAT WHAT-TO-DO...
refuse() {
    echo "dst: $tree: $1" >&2
    shift
    printf 'dst:   %s\n' "$@" >&2
    exit 1
}

# configured NAME: the value of an option of ./configure; empty where that version has no such option.
configured() {
    awk -F'[?]=' -v name="CONFIG_$1" '$1 == name { print $2; exit }' "$tree/mk/config.mk"
}

# number NAME: the value of a macro of version.h, without the leading zero that would make it octal.
number() {
    awk -v name="SPDK_VERSION_$1" '$1 == "#define" && $2 == name { print $3 + 0; exit }' "$tree/include/spdk/version.h"
}

[ -f "$tree/include/spdk/bdev.h" ] || refuse "is not the top folder of an SPDK source tree: it has no include/spdk/bdev.h" \
    "give the folder with SPDK's own 'configure' in it; headers and libraries that were installed are not enough," \
    "since spdk_tgt, bdevperf and bdevio are linked from their objects"

# Newer versions have it written by make.
[ -f "$tree/include/spdk/version.h" ] || refuse "is not built: it has no include/spdk/version.h" \
    "in it, run './configure --disable-unit-tests && make' (tests and examples must stay enabled: bdevio and bdevperf are some)"

version=$(printf '%02d.%02d' "$(number MAJOR)" "$(number MINOR)")
[[ ! $version < $oldest ]] || refuse "is SPDK $version, which is too old" "DST needs SPDK $oldest or newer"

[ -f "$tree/mk/config.mk" ] || refuse "is not configured: it has no mk/config.mk" \
    "in it, run './configure --disable-unit-tests && make'"

# is_off OPTION: ./configure was told --disable-…
is_off() {
    [ "$(configured "$1")" = n ]
}

missing=()
advice=("in it, run 'make', to its end")
need() {
    [ -e "$tree/$1" ] || missing+=("$1")
}

need build/lib/libspdk_bdev.a
need build/lib/libspdk_event.a
if [ ! -e "$tree/build/lib/libspdk_env_dpdk.a" ]; then
    missing+=(build/lib/libspdk_env_dpdk.a)
    env=$(configured ENV)
    case ${env##*/} in
        "" | env_dpdk) ;;
        *) advice+=("it is configured --with-env=$env; DST needs DPDK's, the default") ;;
    esac
fi
# Linked last but for tests and examples: where it is, all libraries are.
need build/bin/spdk_tgt
need app/spdk_tgt/spdk_tgt.o
if [ ${#missing[@]} -ne 0 ] && is_off APPS; then
    advice+=("it is configured --disable-apps: without that option spdk_tgt is there")
fi
if [ ! -e "$tree/test/bdev/bdevio/bdevio.o" ]; then
    missing+=(test/bdev/bdevio/bdevio.o)
    ! is_off TESTS || advice+=("it is configured --disable-tests, and bdevio is among them: configure it without that option")
fi
# bdevperf is a test in 20.07 and an example in newer versions.
if [ -d "$tree/examples/bdev/bdevperf" ]; then
    folder=examples/bdev/bdevperf option=EXAMPLES disabled=examples
else
    folder=test/bdev/bdevperf option=TESTS disabled=tests
fi
if [ ! -e "$tree/$folder/bdevperf.o" ]; then
    missing+=("$folder/bdevperf.o")
    ! is_off $option || advice+=("it is configured --disable-$disabled, and bdevperf is among them: configure it without that option")
fi

[ ${#missing[@]} -eq 0 ] || refuse "SPDK $version there is not built, or not all of it; it does not have" \
    "${missing[@]/#/  }" "${advice[@]}"
