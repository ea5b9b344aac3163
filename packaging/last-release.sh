#!/bin/bash
# last-release.sh: prints the folder with the applications of the last release, as packaging/last-release
# names it. They are built once from the repository's history, into the cache, with the SPDK of
# build/env.sh. Exits with 3 if this is no clone that has the release's commit.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
top=$(dirname "$here")
# shellcheck source-path=SCRIPTDIR source=../spdk/provision/say.sh
. "$top/spdk/provision/say.sh"

read -r version commit < <(grep -v '^#' "$here/last-release")
: "${SPDK_DIR:?source build/env.sh first}"

# Applications depend on SPDK's tree, too.
key=$(printf '%s %s\n' "$SPDK_DIR" "${SPDK_VERSION:-}" | sha256sum)
folder=$DST_CACHE/release-$version-${commit:0:12}-${key:0:12}
answer() {
    echo "$folder/bin"
    exit
}
[ ! -d "$folder" ] || answer

if ! why=$(git -C "$top" cat-file -e "$commit^{commit}" 2>&1); then
    say "this is no clone that has commit $commit of release $version (${why:-git says nothing});" \
        "'git fetch --unshallow' completes a shallow one"
    exit 3
fi

mkdir -p "$DST_CACHE/logs"
exec 9>"$DST_CACHE/lock-release"
flock 9
[ ! -d "$folder" ] || answer

# What an attempt that was killed has left is removed.
work=$folder.partial
rm -rf "$work"
mkdir -p "$work/tree/build"
trap 'rm -rf "$work"' EXIT
# `-m`: the files are newer than all that has been built. Cargo takes the crates of two checkouts for
# the same ones, and goes by the times of their files.
git -C "$top" archive "$commit" | tar -xm -C "$work/tree"
printf '%s\n' "$SPDK_DIR" >"$work/tree/build/spdk-dir"

# Others' crates that this checkout has built are not built again, for which a copy of its target folder
# is used. `-o cargo`: not the release's tool, which the tests do not need.
build() {
    local built=${CARGO_TARGET_DIR:-$top/target}/release
    mkdir "$work/target" || return
    [ ! -d "$built" ] || cp -a "$built" "$work/target/" || return
    cd "$work/tree" || return
    export CARGO_TARGET_DIR=$work/target
    # When `make test` has started this, its settings are not meant for the release's makefiles.
    unset MAKEFLAGS MFLAGS MAKELEVEL CARGO_BUILD_BUILD_DIR
    cargo build --release --locked --package dst || return
    make -o cargo -f spdk/apps/build.mk build/bin/spdk_tgt build/bin/dst_check
}
long_step "building release $version for the tests of two versions" "$DST_CACHE/logs/release-$version.log" build 9>&- ||
    die "release $version could not be built" "see $DST_CACHE/logs/release-$version.log"
mkdir "$work/done"
mv "$work/tree/build/bin" "$work/done/bin"
mv "$work/done" "$folder"
answer
