#!/bin/bash
# packages.sh build|test|bench: makes sure that the Debian packages are there which building needs, or
# which the tests or the benchmark need beyond that. Touches neither apt nor the network when they are.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=say.sh
. "$here/say.sh"
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$here/apt.sh"

# What SPDK 20.07 and its DPDK build with; libclang-dev is bindgen's.
build=(
    gcc g++ make pkg-config python3 procps xz-utils debian-archive-keyring
    uuid-dev libaio-dev libnuma-dev libssl-dev libncurses-dev libcunit1-dev libiscsi-dev
    nasm meson ninja-build python3-pyelftools autoconf automake libtool libclang-dev
)
# The real clients of the tests: a kernel filesystem, a virtual machine, fio; what their scripts encrypt with; where the
# newest `spdk` of Python's package index goes; what counts instructions.
test=(
    python3-pytest python3-cryptography python3-venv xfsprogs e2fsprogs fuse3 fio busybox-static cpio kmod iproute2
    qemu-utils qemu-block-extra qemu-system-x86 valgrind
)
# NBD's servers and its client.
bench=(fio iproute2 qemu-utils nbdkit)

case ${1:-} in
    build) wanted=("${build[@]}") ;;
    test) wanted=("${test[@]}") ;;
    bench) wanted=("${bench[@]}") ;;
    *) die "usage: packages.sh build|test|bench" ;;
esac

[ "${DST_PACKAGES:-}" != skip ] || exit 0
command -v dpkg-query >/dev/null || die "this is not a Debian machine (no dpkg-query)" \
    "install by hand what corresponds to: ${wanted[*]}" \
    "then set DST_PACKAGES=skip, which leaves packages to you"

# missing_of PACKAGE...: those that are not installed, one a line.
missing_of() {
    # An alternative that is installed may go by another name (pkg-config is pkgconf's on newer
    # Debian), so what others provide counts too.
    # shellcheck disable=SC2016  # dpkg-query's variables, not the shell's
    dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' 2>/dev/null |
        awk -v wanted="$*" '
            $1 == "installed" { gsub(/\([^)]*\)|,/, " "); for (i = 2; i <= NF; i++) have[$i] = 1 }
            END { n = split(wanted, w, " "); for (i = 1; i <= n; i++) if (!(w[i] in have)) print w[i] }'
}

# install OPTION... PACKAGE...
install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends --no-remove \
        -o DPkg::Lock::Timeout=300 install "$@"
}

mapfile -t missing < <(missing_of "${wanted[@]}")
[ ${#missing[@]} -gt 0 ] || exit 0

say "missing Debian packages: ${missing[*]}"
by_hand="apt-get update && apt-get install --no-install-recommends ${missing[*]}"
as_root true || die "these packages are needed, and this user may not install them" "run as root: $by_hand"

log=$DST_CACHE/logs/packages-$1.log
if ! apt_lists_present || ! apt-cache show "${missing[@]}" >/dev/null 2>&1; then
    long_step "updating apt's package lists" "$DST_CACHE/logs/apt-update.log" apt_refresh_machine_lists ||
        say "  going on with the lists that are there"
fi

# --no-remove here and above: nothing that somebody installed is taken away for our tests.
if ! apt-get -qq -s --no-remove --no-install-recommends install "${missing[@]}" >/dev/null 2>&1; then
    # Happens when one of QEMU's packages is installed from backports while apt has no such source:
    # the others must be of the very same version. Backports come from the same Debian archive.
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ -n "$codename" ] || die "these packages cannot be installed together" "see: apt-get -s install ${missing[*]}"
    say "they cannot be installed from this machine's apt sources alone; looking into $codename-backports too"
    private_apt "$DST_CACHE/apt/$codename-backports" deb "$codename" "$codename-backports" ||
        die "$codename-backports could not be read" "run as root: $by_hand"
    qemu=()
    others=()
    for package in "${missing[@]}"; do
        case $package in
            qemu-*) qemu+=("$package") ;;
            *) others+=("$package") ;;
        esac
    done
    if [ ${#qemu[@]} -gt 0 ]; then
        long_step "installing ${qemu[*]}" "$log" \
            install "${private_apt_options[@]}" -t "$codename-backports" "${qemu[@]}" ||
            die "apt-get could not install ${qemu[*]}" "run as root: $by_hand"
    fi
    missing=("${others[@]}")
fi
if [ ${#missing[@]} -gt 0 ]; then
    long_step "installing ${missing[*]}" "$log" install "${missing[@]}" ||
        die "apt-get could not install the packages" "see $log" "or run as root: $by_hand"
fi

mapfile -t missing < <(missing_of "${wanted[@]}")
[ ${#missing[@]} -eq 0 ] || die "still missing after installing: ${missing[*]}" "run as root: $by_hand"
