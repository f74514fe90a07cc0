"""The benchmark's own package is beside its scripts, not installed."""

import sys
from pathlib import Path

BENCHMARKS = str(Path(__file__).parent.parent)
if BENCHMARKS not in sys.path:
    sys.path.insert(0, BENCHMARKS)
