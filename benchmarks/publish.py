#!/usr/bin/env python3
"""Put the figures of a run into the documentation: `python benchmarks/publish.py RESULT.json` (of `run.py --json`).

Its summary is kept in benchmarks/results/published.json, the plots in docs/explanation/plots, and the tables between
the markers of README.md and docs/explanation/performance.md. Without a file, the pages are filled from the summary that
is kept. `--check` changes nothing, and exits with 1 if a page has other figures than the summary.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from trunkbench.pages import PAGES, PLOTS, RESULT, ROOT, filled
from trunkbench.summary import Summary


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", nargs="?", type=Path, help="what run.py --json wrote")
    parser.add_argument(
        "--check", action="store_true", help="only say whether the pages have the figures that are kept"
    )
    options = parser.parse_args()
    if options.check and options.result:
        parser.error("--check compares with the summary that is kept, and takes no file")
    return options


def keep(result: Path) -> None:
    """Store the summary and draw its plots."""
    from trunkbench.plots import draw_all

    summary = Summary.of(json.loads(result.read_text()))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(summary.as_text(), encoding="utf-8")
    for stale in [*PLOTS.glob("*.svg"), *PLOTS.glob("*.png")]:
        stale.unlink()
    for path in draw_all(summary, PLOTS):
        print(f"drawn: {path.relative_to(ROOT)}")


def main() -> int:
    """Fill the pages, or compare them."""
    options = parse()
    if options.result:
        keep(options.result)
    summary = Summary.load(json.loads(RESULT.read_text(encoding="utf-8")))
    stale = []
    for page in PAGES:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        if (wanted := filled(text, summary, folder=path.parent, plots=PLOTS)) != text:
            stale.append(page)
            if not options.check:
                path.write_text(wanted, encoding="utf-8")
    for page in stale:
        print(f"{page}: {'has other figures than the summary' if options.check else 'filled'}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
