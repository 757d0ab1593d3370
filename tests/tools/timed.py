#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Runs targets of make one after the other, and prints at the end how long each took.

    python3 tests/tools/timed.py MAKE TARGET...

After a failed target the later ones still run. The exit status is then a failure.
"""

import subprocess
import sys
import time


def main():
    make, *targets = sys.argv[1:]
    results = []
    for target in targets:
        print(f"== {target}", flush=True)
        started = time.monotonic()
        code = subprocess.run([make, "--no-print-directory", target], stdin=subprocess.DEVNULL).returncode
        results.append((target, time.monotonic() - started, code == 0))

    print("== what took how long")
    for target, seconds, passed in results:
        print(f"{target:<10} {seconds:7.1f} s  {'ok' if passed else 'FAILED'}")
    print(f"{'all':<10} {sum(seconds for _, seconds, _ in results):7.1f} s")
    sys.exit(not all(passed for _, _, passed in results))


if __name__ == "__main__":
    main()
