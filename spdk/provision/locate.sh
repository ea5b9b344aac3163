#!/bin/bash
# locate.sh: prints the folder of the built SPDK tree to use: the user's SPDK_DIR, else an SPDK that
# pkg-config finds, else Debian's copy (downloaded and built on first use).
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=say.sh
. "$here/say.sh"

if [ -n "${SPDK_DIR:-}" ]; then
    [ -d "$SPDK_DIR" ] || die "SPDK_DIR=$SPDK_DIR is not a folder" \
        "set it to the top folder of an SPDK source tree that has been built, or leave it unset"
    tree=$(readlink -f "$SPDK_DIR")
    case $tree in
        *[[:space:]]*) die "SPDK_DIR=$tree has a space in it, which SPDK's makefiles cannot handle" "move the tree" ;;
    esac
    "$here/check-tree.sh" "$tree" || die "SPDK_DIR=$tree cannot be used, see above" \
        "or leave SPDK_DIR unset to download and build Debian's copy"
    echo "$tree"
    exit
fi

if command -v pkg-config >/dev/null && pkg-config --exists spdk_event; then
    pc=$(pkg-config --variable=pcfiledir spdk_event)
    # A tree's own pkg-config files are in its build/lib/pkgconfig.
    tree=${pc%/build/lib/pkgconfig}
    if [ "$tree" != "$pc" ] && "$here/check-tree.sh" "$tree"; then
        say "using the SPDK that pkg-config finds in $tree"
        echo "$tree"
        exit
    fi
    say "pkg-config finds an SPDK ($pc), but an installed SPDK does not have the objects of its applications,"
    say "which DST needs; Debian's copy is used instead. Set SPDK_DIR to the tree in which that SPDK was built to use it."
fi

exec "$here/build-spdk.sh"
