# Sourced by the scripts. build_in DIR [MESON OPTION ...]: configures DIR once, then builds what has changed.
# The compiler's output is shown only when it fails, or as Ninja's one line on a terminal. Under CI a warning is an error;
# elsewhere a newer compiler's new warning must not keep anybody from building.
build_in() {
    local dir=$1 log strict=false
    shift
    [ -z "${CI:-}" ] || strict=true
    [ -f "$dir/build.ninja" ] || {
        log=$(meson setup "$dir" -Dwerror=$strict "$@" 2>&1) || {
            printf '%s\n' "$log" | tail -n 20 >&2
            echo "meson could not configure $dir: if it is from an older tree, remove it and try again" >&2
            return 1
        }
    }
    if [ -t 2 ]; then
        ninja -C "$dir" >&2
    else
        log=$(ninja -C "$dir" 2>&1) || {
            printf '%s\n' "$log" | tail -n 60 >&2
            return 1
        }
    fi
}
