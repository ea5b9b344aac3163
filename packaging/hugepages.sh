#!/bin/sh
# Run by dst-hugepages.service: reserves hugepages until there are DST_HUGEPAGES_MIB in all, and
# mounts a file system for them that belongs to the services' user.
set -eu
mount=/run/dst-hugepages

fail() {
    echo "dst-hugepages: $1" >&2
    exit 1
}

case ${DST_HUGEPAGES_MIB:-} in
    '' | *[!0-9]* | 0*) fail "DST_HUGEPAGES_MIB is '${DST_HUGEPAGES_MIB:-}': set it to a number of MiB in /etc/default/dst-hugepages" ;;
esac
page_kib=$(awk '$1 == "Hugepagesize:" { print $2 }' /proc/meminfo)
[ -n "$page_kib" ] || fail "this kernel has no hugepages: leave DST_NO_HUGE=1 in /etc/default, and disable this unit"

pages=$(((DST_HUGEPAGES_MIB * 1024 + page_kib - 1) / page_kib))
if [ "$(cat /proc/sys/vm/nr_hugepages)" -lt "$pages" ]; then
    # Compaction makes room; without it the kernel may find fewer pages.
    echo 1 >/proc/sys/vm/compact_memory || true
    echo "$pages" >/proc/sys/vm/nr_hugepages
fi
# The kernel reserves as many as it finds room for, and reports no error.
reserved=$(cat /proc/sys/vm/nr_hugepages)
[ "$reserved" -ge "$pages" ] || fail "only $reserved of $pages hugepages of $page_kib KiB could be reserved: \
reboot with this unit enabled, or lower DST_HUGEPAGES_MIB"

if ! mountpoint -q "$mount"; then
    mkdir -p "$mount"
    mount -t hugetlbfs -o uid=dst,gid=dst,mode=0700 hugetlbfs "$mount"
fi
