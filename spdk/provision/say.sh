# shellcheck shell=bash
# Sourced by the other scripts in this folder: messages, and the cache. Messages go to stderr,
# because a script's stdout is its result (mostly a path).

# The folder for everything downloaded or built that outlives a checkout.
DST_CACHE=${DST_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set; set it, or DST_CACHE}/.cache}/dst}
case $DST_CACHE in
    *[[:space:]]*)
        echo "dst: error: DST_CACHE=$DST_CACHE has a space in it, which SPDK's makefiles cannot handle; set DST_CACHE to another folder" >&2
        exit 1
        ;;
    /*) ;;
    *) DST_CACHE=$PWD/$DST_CACHE ;;
esac

say() {
    printf 'dst: %s\n' "$*" >&2
}

# die WHAT WHAT-TO-DO...: prints what is wrong and what to do about it, and exits.
die() {
    printf 'dst: error: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf 'dst:   %s\n' "$@" >&2
    exit 1
}

# long_step WHAT LOG COMMAND...: runs COMMAND with its output in LOG. Prints a line every 15 s, so
# that the step does not seem to hang, and the end of LOG if COMMAND fails.
long_step() {
    local what=$1 log=$2 start=$SECONDS pid status=0 waited=0 outer_trap
    shift 2
    mkdir -p "$(dirname "$log")"
    say "$what (log: $log)"
    # The step has its own process group, so that Ctrl-C, which ends this script, ends the whole
    # step, too. stdin is /dev/null, because a step that asks a question would otherwise hang in CI.
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    set +m
    # A subshell does not run its parent's trap, but is told of it, so it must not install it.
    outer_trap=
    [ "$BASHPID" != "$$" ] || outer_trap=$(trap -p EXIT)
    # shellcheck disable=SC2064  # the id is wanted as it is now
    trap "kill -- -$pid 2>/dev/null || true; ${outer_trap:+$(eval "set -- $outer_trap" && echo "$3")}" EXIT
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.5
        waited=$((waited + 1))
        [ $((waited % 30)) -ne 0 ] || say "  $what: $((SECONDS - start)) s ..."
    done
    wait "$pid" || status=$?
    eval "${outer_trap:-trap - EXIT}"
    if [ "$status" -ne 0 ]; then
        say "  $what: failed with status $status; the end of $log:"
        tail -n 25 "$log" >&2
        return "$status"
    fi
    say "  $what: done in $((SECONDS - start)) s"
}
