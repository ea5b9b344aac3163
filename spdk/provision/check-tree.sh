#!/bin/bash
# check-tree.sh FOLDER: checks that FOLDER is an SPDK tree with which DST can be linked: new enough,
# configured and built, with the objects of the applications that DST is linked into. Otherwise
# prints what is wrong and what to do, and returns 1.
set -euo pipefail
tree=${1:?usage: check-tree.sh FOLDER}

# The oldest version known to work; spdk/sys/build.rs has the same.
oldest=20.07

# refuse WHAT WHAT-TO-DO...
refuse() {
    echo "dst: $tree: $1" >&2
    shift
    printf 'dst:   %s\n' "$@" >&2
    exit 1
}

# configured NAME: prints the value of an option of ./configure, or nothing if that version has no
# such option.
configured() {
    awk -F'[?]=' -v name="CONFIG_$1" '$1 == name { print $2; exit }' "$tree/mk/config.mk"
}

# number NAME: prints the value of a macro of version.h, without the leading zero that would make it
# octal.
number() {
    awk -v name="SPDK_VERSION_$1" '$1 == "#define" && $2 == name { print $3 + 0; exit }' "$tree/include/spdk/version.h"
}

[ -f "$tree/include/spdk/bdev.h" ] || refuse "is not the top folder of an SPDK source tree: it has no include/spdk/bdev.h" \
    "use the folder that contains SPDK's 'configure'; installed headers and libraries are not enough," \
    "since spdk_tgt, bdevperf and bdevio are linked from their objects"

# In newer versions, make writes this file.
[ -f "$tree/include/spdk/version.h" ] || refuse "is not built: it has no include/spdk/version.h" \
    "in it, run './configure --disable-unit-tests && make' (leave tests and examples enabled: they include bdevio and bdevperf)"

version=$(printf '%02d.%02d' "$(number MAJOR)" "$(number MINOR)")
[[ ! $version < $oldest ]] || refuse "is SPDK $version, which is too old" "DST needs SPDK $oldest or newer"

[ -f "$tree/mk/config.mk" ] || refuse "is not configured: it has no mk/config.mk" \
    "in it, run './configure --disable-unit-tests && make'"

# is_off OPTION: returns whether the tree was configured with --disable-…
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
        *) advice+=("it is configured --with-env=$env; DST needs the default, DPDK's environment") ;;
    esac
fi
# The build links these after all libraries, and only tests and examples later.
need build/bin/spdk_tgt
need app/spdk_tgt/spdk_tgt.o
if [ ${#missing[@]} -ne 0 ] && is_off APPS; then
    advice+=("it is configured --disable-apps, so spdk_tgt is missing: configure it without that option")
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

[ ${#missing[@]} -eq 0 ] || refuse "contains SPDK $version, which is not completely built; these are missing:" \
    "${missing[@]/#/  }" "${advice[@]}"
