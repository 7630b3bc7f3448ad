"""Runs a suite whose cases are functions named case_WHAT_HOLDS, in the order in which they stand in their file."""
import sys
import time
import traceback


def run(functions, names):
    """`functions`: globals() of the suite; `names`: parts of names, none for all. Prints a line for each.
    Returns the exit code: nothing that ran is a failure, too."""
    passed = failed = 0
    for name, case in list(functions.items()):
        if not name.startswith("case_") or (names and not any(n in name for n in names)):
            continue
        began = time.monotonic()
        try:
            case()
            passed += 1
            print("ok   %s (%.1f s)" % (name[5:].replace("_", " "), time.monotonic() - began))
        except Exception:  # noqa: BLE001 - whatever it was, it is this case's failure
            failed += 1
            print("FAIL %s\n%s" % (name[5:].replace("_", " "), traceback.format_exc()))
        sys.stdout.flush()
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0
