#!/bin/bash
# build-deb.sh FOLDER: packs what `make` has built into a Debian package in FOLDER, and prints the
# paths of the packages, one a line. build/env.sh has to be sourced before. It needs no network and
# not root.
set -euo pipefail
root=$(readlink -f "$(dirname "$(readlink -f "$0")")/..")
# shellcheck source-path=SCRIPTDIR source=../spdk/provision/say.sh
. "$root/spdk/provision/say.sh"

[ $# -eq 1 ] || die "usage: build-deb.sh FOLDER"
[ -n "${SPDK_DIR:-}" ] || die "SPDK_DIR is not set" "run: . build/env.sh, or use make deb"
command -v dh >/dev/null || die "debhelper is not installed" "run as root: apt-get install debhelper"
for file in spdk_tgt bdevperf bdevio dstctl; do
    [ -x "$root/build/bin/$file" ] || die "build/bin/$file is missing" "run make first"
done

# The version is that of the workspace; dstctl says the one that it was built with.
version=$("$root/build/bin/dstctl" --version | cut -d' ' -f2)
grep -qx "version = \"$version\"" "$root/Cargo.toml" ||
    die "build/bin/dstctl has version $version, and Cargo.toml has another" "run make first"
# The entries of the version, each in one line.
entries=$(awk -v version="$version" '
    /^## / { inside = ($2 == version) }
    !inside { next }
    /^- / { printf "%s%s", more, substr($0, 3); more = "\n" }
    /^  [^ ]/ { printf " %s", substr($0, 3) }' "$root/CHANGELOG.md")
[ -n "$entries" ] || die "CHANGELOG.md has no changes under '## $version'" "write what is new in it"

mkdir -p "$1"
out=$(readlink -f "$1")
rm -rf "$out/dst" "$out"/dst_*.deb "$out"/dst-dbgsym_*.deb
mkdir "$out/dst"
cp -a "$root/packaging/debian" "$out/dst/debian"
# The date of the last change, so that the same tree gives the same package.
date=$(git -C "$root" log -1 --format=%ct 2>/dev/null || stat -c %Y "$root/CHANGELOG.md")
maintainer=$(sed -n 's/^Maintainer: //p' "$root/packaging/debian/control")
{
    printf 'dst (%s) unstable; urgency=medium\n\n' "$version"
    while read -r entry; do
        fold -s -w 74 <<<"$entry" | sed 's/ *$//; 1s/^/  * /; 1!s/^/    /'
    done <<<"$entries"
    printf '\n -- %s  %s\n' "$maintainer" "$(date -R -u -d "@$date")"
} >"$out/dst/debian/changelog"

no_huge=
! grep -q no_huge "$SPDK_DIR/include/spdk/env.h" || no_huge=--no-huge
(
    cd "$out/dst"
    # DST's make must not reach debhelper's.
    env -u MAKEFLAGS -u MAKELEVEL -u MAKEOVERRIDES \
        DST="$root" SPDK_DIR="$SPDK_DIR" NO_HUGE="$no_huge" SOURCE_DATE_EPOCH="$date" \
        dpkg-buildpackage --build=binary --no-sign --no-pre-clean
) >"$out/build.log" 2>&1 || {
    tail -n 25 "$out/build.log" >&2
    die "the package could not be built" "see $out/build.log"
}
rm -rf "$out/dst"
find "$out" -maxdepth 1 -name '*.deb'
