#!/bin/bash
# hugepages.sh reserve|status: prints 'reserved' if SPDK can use hugepages, otherwise 'none'. With
# 'reserve', it first reserves and mounts missing hugepages if this user may. DST_HUGEPAGES_MIB is
# their size; the default of 4096 suffices for four SPDK processes of the tests.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=say.sh
. "$here/say.sh"

wanted_mib=${DST_HUGEPAGES_MIB:-4096}
# What a target and a client need together; with less, nothing useful runs.
least_mib=1024

meminfo() {
    awk -v name="$1:" '$1 == name { print $2 }' /proc/meminfo
}

# Only root can read physical addresses, which DPDK needs for hugepages on a machine without an
# IOMMU.
if [ "$(id -u)" -ne 0 ]; then
    if [ "$1" = reserve ]; then
        say "warning: not root, so no hugepages; SPDK runs on ordinary pages, somewhat slower"
        say "  SPDK still locks some memory: if it reports 'Could not mlock', raise the limit ('ulimit -l unlimited')"
    fi
    echo none
    exit
fi

page_kib=$(meminfo Hugepagesize)
total_mib() {
    echo $(($(meminfo HugePages_Total) * ${page_kib:-0} / 1024))
}
mounted() {
    awk '$3 == "hugetlbfs" { found = 1 } END { exit !found }' /proc/mounts
}

if [ -z "$page_kib" ]; then
    [ "$1" = status ] || say "warning: this kernel has no hugepages; SPDK runs on ordinary pages, somewhat slower"
    echo none
    exit
fi

if [ "$1" = reserve ]; then
    if [ "$(total_mib)" -lt "$wanted_mib" ]; then
        say "reserving $wanted_mib MiB of hugepages"
        # The kernel reserves as many pages as it finds room for; compaction makes room.
        # shellcheck disable=SC2016  # expanded by the inner shell
        sh -c 'echo 1 >/proc/sys/vm/compact_memory; echo "$1" >/proc/sys/vm/nr_hugepages' \
            sh $((wanted_mib * 1024 / page_kib)) 2>/dev/null || true
    fi
    if ! mounted; then
        say "mounting /dev/hugepages"
        sh -c 'mkdir -p /dev/hugepages && mount -t hugetlbfs nodev /dev/hugepages' 2>/dev/null || true
    fi
fi

if [ "$(total_mib)" -ge "$least_mib" ] && mounted; then
    echo reserved
    exit
fi
if [ "$1" = reserve ]; then
    say "warning: no hugepages ($(total_mib) MiB reserved, $(mounted && echo mounted || echo not mounted)):" \
        "SPDK runs on ordinary pages, somewhat slower"
    say "  to reserve them, run as root: echo $((wanted_mib * 1024 / page_kib)) >/proc/sys/vm/nr_hugepages;" \
        "mkdir -p /dev/hugepages; mount -t hugetlbfs nodev /dev/hugepages"
fi
echo none
