#!/bin/bash
# vm-kernel.sh: prints the path of a Linux kernel for the tests' virtual machine and, on a second
# line, that of its modules (with modules.dep). The kernel is Debian's cloud kernel. It is unpacked
# into the cache and not installed, so this machine's boot files stay untouched.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=say.sh
. "$here/say.sh"
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$here/apt.sh"

arch=$(dpkg --print-architecture)
case $arch in
    amd64 | arm64) meta=linux-image-cloud-$arch ;;
    *) die "Debian has no cloud kernel for $arch" "the virtual machine test can be skipped" ;;
esac
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-trixie}")
folder=$DST_CACHE/vm-kernel-$codename

answer() {
    local images=("$folder"/boot/vmlinuz-*) modules=("$folder"/lib/modules/*)
    echo "${images[0]}"
    echo "${modules[0]}"
}

if [ -d "$folder" ]; then
    answer
    exit
fi

mkdir -p "$DST_CACHE"
exec 9>"$DST_CACHE/lock-vm-kernel"
flock 9
if [ -d "$folder" ]; then
    answer
    exit
fi

private_apt "$DST_CACHE/apt/$codename-kernel" deb "$codename" 9>&- ||
    die "Debian $codename's package lists could not be read" "check that this machine reaches its Debian archive ('apt-get update')"
# The package named above is empty and depends on the package of the current kernel.
image=$(apt-cache "${private_apt_options[@]}" depends "$meta" |
    awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }')
[ -n "$image" ] || die "Debian $codename has no $meta"

work=$(mktemp -d "$DST_CACHE/vm-kernel.partial.XXXXXX")
trap 'rm -rf "$work"' EXIT
fetch_and_unpack() {
    cd "$work" || return
    apt-get -q "${private_apt_options[@]}" download "$image" || return
    dpkg-deb -x ./*.deb tree || return
    # Debian 13 and newer have the modules under /usr.
    if [ ! -d tree/lib/modules ]; then
        mkdir -p tree/lib && mv tree/usr/lib/modules tree/lib/modules || return
    fi
    # The package's install script would run depmod; without it, modprobe finds no modules.
    PATH=$PATH:/usr/sbin:/sbin depmod -b "$work/tree" "$(basename tree/lib/modules/*)"
}
long_step "fetching $image for the virtual machine test" "$DST_CACHE/logs/vm-kernel.log" fetch_and_unpack 9>&- ||
    die "$image could not be fetched and unpacked" "see $DST_CACHE/logs/vm-kernel.log"
mv "$work/tree" "$folder"
answer
