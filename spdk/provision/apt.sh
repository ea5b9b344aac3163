# shellcheck shell=bash
# Sourced after say.sh. Runs apt with a separate state (lists, downloads, sources), so that using
# another suite than the machine's never touches the machine's own apt configuration. apt still
# verifies all downloads against Debian's keyring.

debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# as_root COMMAND...: runs COMMAND as root, or returns 126 if that is not permitted.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 126
    fi
}

# Returns whether the machine has package lists. In a fresh container there are none, and apt knows
# no archive and no package.
apt_lists_present() {
    # shellcheck disable=SC2016  # apt's variable, not the shell's
    [ -n "$(apt-get indextargets --format '$(FILENAME)' 'Created-By: Packages' 2>/dev/null)" ]
}

apt_refresh_machine_lists() {
    as_root apt-get -q update
}

# Prints the address of the Debian archive that this machine uses.
debian_archive() {
    local found
    if [ -n "${DST_DEBIAN_ARCHIVE:-}" ]; then
        echo "$DST_DEBIAN_ARCHIVE"
        return
    fi
    if ! apt_lists_present; then
        long_step "apt's package lists are empty, updating them" "$DST_CACHE/logs/apt-update.log" \
            apt_refresh_machine_lists ||
            die "apt's package lists are empty and could not be updated" \
                "run 'apt-get update' as root, then try again" \
                "or set DST_DEBIAN_ARCHIVE to the address of a Debian archive"
    fi
    # Both origin and label must match, because a machine has other sources, too: those of third
    # parties, and the security archive, whose label is 'Debian-Security' and which has no complete
    # suites.
    # shellcheck disable=SC2016  # apt's variables, not the shell's
    found=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
        awk -F'|' '$1 == "Debian" && $2 == "Debian" { print $3; exit }')
    [ -n "$found" ] || die "none of this machine's apt sources is a Debian archive" \
        "set DST_DEBIAN_ARCHIVE to the address of one, as it would stand in sources.list" \
        "or set SPDK_DIR to a built SPDK tree"
    echo "$found"
}

# private_apt STATE TYPE SUITE...: creates the apt state in folder STATE for these suites and
# updates it. TYPE is deb or deb-src. Sets the array private_apt_options for later calls of apt.
# Each script uses a folder of its own, so that they share no lock.
private_apt() {
    local state=$1 type=$2 archive suite
    shift 2
    [ -r "$debian_keyring" ] || die "$debian_keyring is missing, so nothing from Debian could be verified" \
        "install the package debian-archive-keyring"
    archive=$(debian_archive) || exit 1
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    for suite in "$@"; do
        echo "$type [signed-by=$debian_keyring] $archive $suite main"
    done >"$state/sources.list"
    private_apt_options=(
        -o "Dir::Etc::sourcelist=$state/sources.list"
        -o "Dir::Etc::sourceparts=/dev/null"
        -o "Dir::State::Lists=$state/lists"
        -o "Dir::Cache=$state/cache"
        # apt's sandbox user often has no access to root's cache folder; without this option apt
        # warns.
        -o "APT::Sandbox::User=$(id -un)"
        -o "Acquire::Retries=3"
        -o "APT::Update::Error-Mode=any"
    )
    long_step "reading Debian's $* package lists" "$state/update.log" \
        apt-get -q "${private_apt_options[@]}" update
}
