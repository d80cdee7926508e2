# Sourced by the ci scripts: runs named steps to the end, whatever happens, then says which failed and how long each took.
steps_failed=0
steps_summary=

step() { # NAME COMMAND...
    name=$1
    shift
    echo
    echo "#### $name: $*"
    started=$(date +%s)
    if "$@"; then result=passed; else result=FAILED steps_failed=1; fi
    steps_summary="$steps_summary
$(printf '%-24s %-7s %5d s' "$name" "$result" $(($(date +%s) - started)))"
    echo "#### $name: $result"
}

steps_end() { # prints the summary; its status is that of all steps
    echo
    echo "#### $(basename "$0"):$steps_summary"
    return "$steps_failed"
}
