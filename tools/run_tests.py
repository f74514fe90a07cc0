"""Runs the whole suite, as `make test` does: first what waits most of its time, side by side; then the rest by itself.

Tests against servers and between processes leave the processors idle for most of the time, and each brings servers and
names of its own: two at once take half as long. What looks at the load of the machine, or makes much of it, has the
machine to itself.
"""

import subprocess
import sys
from collections.abc import Sequence

SIDE_BY_SIDE = ("tests/conformance", "tests/contexts", "tests/cuts", "tests/integration", "tests/model")
# What other packages get wrong, they get wrong by a hair: beside other work it may happen not to show.
CONTROLS = "tests/conformance/test_controls.py"
BY_THEMSELVES = ("tests/unit", "tests/faults", "tests/docs", "tests/acceptance", "benchmarks/selftest", CONTROLS)
# A file stays together: its tests share servers.
AT_ONCE = ("-n", "2", "--dist", "loadfile")
NOTHING_COLLECTED = 5  # pytest's exit status


def main(options: Sequence[str]) -> int:
    """Run both parts with these options for pytest, and return the first exit status that is not zero."""
    side_by_side = (*AT_ONCE, *options, f"--ignore={CONTROLS}", *SIDE_BY_SIDE)
    statuses = [_pytest(*side_by_side), _pytest(*options, *BY_THEMSELVES)]
    found_any = [status for status in statuses if status != NOTHING_COLLECTED]
    # Options such as -k may leave one part without tests, but not both.
    return next((status for status in found_any if status), 0) if found_any else NOTHING_COLLECTED


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
