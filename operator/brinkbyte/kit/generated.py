"""Pages that are written from the code: written, or only compared, so that none goes stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def write_page(
    text: str, module: str, description: str | None, argv: Sequence[str] | None = None
) -> int:
    """Write a page to the path on the command line, or with ``--check`` compare it.

    Args:
        text: what the page must say.
        module: name of the module that is run, for messages.
        description: help text.
        argv: arguments; by default those of the process.

    Returns:
        The exit code: 1 when the page is stale.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("path", type=Path, help="the Markdown file, in docs/")
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when stale")
    arguments = parser.parse_args(argv)
    path: Path = arguments.path
    if not arguments.check:
        path.write_text(text, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{path} is stale; run: python -m {module} {path}\n")
    return 1
