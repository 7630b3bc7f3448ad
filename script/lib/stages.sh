# Sourced by script/test and .ci/run: runs stages, adds up what they report, prints the one last line.
#
# A stage is any command whose last line of output is "N passed, N failed" or "N passed, N failed, N skipped". One that
# dies without such a line, or says "0 failed" and exits otherwise, counts as one failure: nothing is silently zero.
passed=0 failed=0 skipped=0
failures=()

stage() { # stage NAME COMMAND [ARG ...]
    local name=$1 out status=0 line began=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    out=$(mktemp)
    set +e
    "$@" 2>&1 | tee "$out"
    status=${PIPESTATUS[0]}
    set -e
    line=$(tail -n 1 "$out")
    rm -f "$out"
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)?$ ]]; then
        local f=${BASH_REMATCH[2]} p=${BASH_REMATCH[1]} s=${BASH_REMATCH[4]:-0}
        if [ "$status" != 0 ] && [ "$f" = 0 ]; then
            printf '%s reported no failure, and yet ended with status %s\n' "$name" "$status"
            f=1
        fi
    else
        local p=0 f=1 s=0
        printf '%s ended with status %s and without its count\n' "$name" "$status"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    [ "$f" = 0 ] || failures+=("$name ($f)")
    printf -- '-- %s: %s s\n' "$name" "$((SECONDS - began))"
}

# counted COMMAND...: a stage of one case, for a command that only knows success and failure.
counted() {
    if "$@"; then echo "1 passed, 0 failed"; else echo "0 passed, 1 failed"; return 1; fi
}

finish() {
    [ ${#failures[@]} = 0 ] || printf '\nfailed: %s\n' "$(IFS=';'; echo "${failures[*]}")"
    local line="$passed passed, $failed failed"
    [ "$skipped" = 0 ] || line="$line, $skipped skipped"
    printf '\n%s\n' "$line"
    [ "$failed" = 0 ]
}
