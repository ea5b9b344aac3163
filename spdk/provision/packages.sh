#!/bin/bash
# packages.sh build|test|bench|deb|docs: installs the missing Debian packages that building needs, or
# that the tests, the benchmark or `make deb` need in addition, or that `make docs` needs. If none is
# missing, it uses neither apt nor the network.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=say.sh
. "$here/say.sh"
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$here/apt.sh"

# For building SPDK 20.07 and its DPDK; libclang-dev is for bindgen.
build=(
    gcc g++ make pkg-config python3 procps xz-utils debian-archive-keyring
    uuid-dev libaio-dev libnuma-dev libssl-dev libncurses-dev libcunit1-dev libiscsi-dev
    nasm meson ninja-build python3-pyelftools autoconf automake libtool libclang-dev
)
# For the tests: git, from whose history the last release is built, real clients (a kernel filesystem,
# a virtual machine, fio), Python's cryptography, venv for the newest `spdk` from Python's package
# index, valgrind to count instructions, tmux, the terminal in which dstctl top is driven, and what
# builds, checks and installs DST's own package.
test=(
    git python3-pytest python3-cryptography python3-venv xfsprogs e2fsprogs fuse3 fio busybox-static cpio kmod
    iproute2
    qemu-utils qemu-block-extra qemu-system-x86 valgrind tmux
    debhelper lintian mmdebstrap
)
# For the benchmark: the NBD servers and their client.
bench=(fio iproute2 qemu-utils nbdkit)
deb=(debhelper)
# The generator of the site, its reader of Markdown, and its theme: 14 MB, with what they depend on.
docs=(python3-sphinx python3-myst-parser furo)

case ${1:-} in
    build) wanted=("${build[@]}") ;;
    test) wanted=("${test[@]}") ;;
    bench) wanted=("${bench[@]}") ;;
    deb) wanted=("${deb[@]}") ;;
    docs) wanted=("${docs[@]}") ;;
    *) die "usage: packages.sh build|test|bench|deb|docs" ;;
esac

[ "${DST_PACKAGES:-}" != skip ] || exit 0
command -v dpkg-query >/dev/null || die "this is not a Debian machine (no dpkg-query)" \
    "install the equivalents of these packages: ${wanted[*]}" \
    "then set DST_PACKAGES=skip to skip this check"

# missing_of PACKAGE...: prints the packages that are not installed, one a line.
missing_of() {
    # An installed alternative may have another name (pkgconf provides pkg-config on newer Debian),
    # so what other packages provide counts, too.
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
        say "  continuing with the existing lists"
fi

# --no-remove here and above ensures that no installed package is removed for DST's tests.
if ! apt-get -qq -s --no-remove --no-install-recommends install "${missing[@]}" >/dev/null 2>&1; then
    # This happens if one of QEMU's packages was installed from backports and apt no longer has that
    # source, because all of them must have the same version. Backports are in the same Debian
    # archive.
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ -n "$codename" ] || die "these packages cannot be installed together" "see: apt-get -s install ${missing[*]}"
    say "they cannot be installed from this machine's apt sources alone; trying $codename-backports, too"
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
