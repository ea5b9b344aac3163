#!/bin/bash
# prometheus.sh: prints the folder with Debian's prometheus and promtool. The package is unpacked
# into the cache and not installed, because installing it would start a server on this machine.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=say.sh
. "$here/say.sh"
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$here/apt.sh"

if found=$(command -v promtool) && command -v prometheus >/dev/null; then
    dirname "$found"
    exit
fi

# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-trixie}")
folder=$DST_CACHE/prometheus-$codename

answer() {
    echo "$folder/usr/bin"
}

if [ -d "$folder" ]; then
    answer
    exit
fi

mkdir -p "$DST_CACHE"
exec 9>"$DST_CACHE/lock-prometheus"
flock 9
if [ -d "$folder" ]; then
    answer
    exit
fi

private_apt "$DST_CACHE/apt/$codename-prometheus" deb "$codename" 9>&- ||
    die "Debian $codename's package lists could not be read" "check that this machine reaches its Debian archive ('apt-get update')"

work=$(mktemp -d "$DST_CACHE/prometheus.partial.XXXXXX")
trap 'rm -rf "$work"' EXIT
fetch_and_unpack() {
    cd "$work" || return
    apt-get -q "${private_apt_options[@]}" download prometheus || return
    dpkg-deb -x ./*.deb tree
}
long_step "fetching prometheus for the test of metrics" "$DST_CACHE/logs/prometheus.log" fetch_and_unpack 9>&- ||
    die "prometheus could not be fetched and unpacked" "see $DST_CACHE/logs/prometheus.log"
mv "$work/tree" "$folder"
answer
