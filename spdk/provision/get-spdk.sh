#!/bin/bash
# get-spdk.sh FOLDER: creates FOLDER and unpacks Debian's copy of SPDK into it, with its DPDK and
# ISA-L. Debian's copy is part of the source package 'ceph'; only that part is unpacked.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=say.sh
. "$here/say.sh"
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$here/apt.sh"

# Packages known to contain SPDK 20.07, the preferred one first: suite, upstream version, and
# SHA-256 of the .orig.tar.xz. Debian's revision after the '-' is left out, since it changes with
# every fix of ceph's packaging, and only the tarball is used, which stays identical.
known_copies=(
    "trixie 18.2.7+ds 71c0795fa0d6312ec7b57dee4031559b7e62e086a78e6ae1ad8549e0b351e28f"
    "sid 20.2.4+ds 190b4ca726717069b1d85b613aab99f9976a488129352a66a5ff41ada5d06730"
)

to=${1:?usage: get-spdk.sh FOLDER}
downloads=$DST_CACHE/download
mkdir -p "$downloads"

# matches FILE SHA256
matches() {
    [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]
}

# A download that is interrupted leaves nothing.
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

# fetch SUITE UPSTREAM SHA256: downloads the tarball, or fails with a message if this suite does not
# have it.
fetch() {
    local suite=$1 upstream=$2 sha256=$3 version orig=ceph_$2.orig.tar.xz
    private_apt "$DST_CACHE/apt/$suite-sources" deb-src "$suite" || return 1
    version=$(apt-cache "${private_apt_options[@]}" showsrc ceph |
        awk -v prefix="$upstream-" '$1 == "Version:" && index($2, prefix) == 1 { print $2 }' |
        sort -V | tail -n 1)
    if [ -z "$version" ]; then
        say "  Debian $suite no longer has ceph $upstream"
        return 1
    fi
    work=$(mktemp -d "$downloads/partial.XXXXXX")
    # apt verifies the file against the signed lists. The SHA-256 then ensures that it is the file
    # that was reviewed.
    (cd "$work" && long_step "downloading ceph $version's source from Debian $suite" "$work/log" \
        apt-get -q "${private_apt_options[@]}" source --download-only --tar-only "ceph=$version") || {
        rm -rf "$work"
        return 1
    }
    if ! matches "$work/$orig" "$sha256"; then
        say "  $orig from Debian $suite does not have the SHA-256 that $0 expects, so it is not used"
        rm -rf "$work"
        return 1
    fi
    mv "$work/$orig" "$downloads/$orig"
    rm -rf "$work"
}

tarball=
for copy in "${known_copies[@]}"; do
    read -r _ upstream sha256 <<<"$copy"
    if matches "$downloads/ceph_$upstream.orig.tar.xz" "$sha256"; then
        tarball=$downloads/ceph_$upstream.orig.tar.xz
        say "SPDK's source is already downloaded: $tarball"
        break
    fi
done
if [ -z "$tarball" ]; then
    for copy in "${known_copies[@]}"; do
        read -r suite upstream sha256 <<<"$copy"
        if fetch "$suite" "$upstream" "$sha256"; then
            tarball=$downloads/ceph_$upstream.orig.tar.xz
            break
        fi
    done
fi
[ -n "$tarball" ] || die "none of the Debian suites known to have SPDK could supply it (see above)" \
    "check that this machine reaches its Debian archive ('apt-get update')" \
    "or build SPDK 20.07 or newer yourself and set SPDK_DIR to it" \
    "if Debian has moved on, add the new version and its SHA-256 to known_copies in spdk/provision/get-spdk.sh"

mkdir -p "$to"
# FOLDER/ceph-VERSION/src/spdk/... becomes FOLDER/...
long_step "unpacking SPDK" "$DST_CACHE/logs/unpack.log" \
    tar -xf "$tarball" -C "$to" --strip-components=3 --no-same-owner --wildcards '*/src/spdk' ||
    die "unpacking $tarball failed" "check whether the disk is full ('df -h $to'); otherwise delete the file and try again"
[ -f "$to/include/spdk/version.h" ] || die "$tarball does not contain SPDK" "delete it and try again"
