"""Runs the command line with a test's own roots: ``metering_launcher ROOTS usage report``.

The program itself has no setting for roots; only a test may bring its own, through this launcher.
"""

from __future__ import annotations

import sys
from pathlib import Path

from brinkbyte.cli.main import main
from brinkbyte.reporter import run
from brinkbyte.trust import TrustRoots, parse_roots


def roots_of_the_test() -> TrustRoots:
    return parse_roots(Path(sys.argv[1]).read_bytes())


if __name__ == "__main__":
    roots = roots_of_the_test()
    run.load_release_roots = lambda: roots
    del sys.argv[1]
    main()
