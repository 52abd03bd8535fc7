"""Runs the command line with a test's own roots: ``metering_launcher ROOTS usage report``.

The program itself has no setting for roots; only a test may bring its own, through this launcher.
So it is with the size of batches: ``TEST_BATCH_EVENTS`` makes them small, and a few events many.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from brinkbyte.cli.main import main
from brinkbyte.reporter import run
from brinkbyte.store import sealing
from brinkbyte.trust import TrustRoots, parse_roots


def roots_of_the_test() -> TrustRoots:
    return parse_roots(Path(sys.argv[1]).read_bytes())


if __name__ == "__main__":
    roots = roots_of_the_test()
    run.load_release_roots = lambda: roots
    sealing.MAX_EVENTS = int(os.environ.get("TEST_BATCH_EVENTS", sealing.MAX_EVENTS))  # type: ignore[misc]  # a test's own
    del sys.argv[1]
    main()
