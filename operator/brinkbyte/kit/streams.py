"""Files of command lines: ``-`` for stdin and stdout, and no file that is only half there."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

STANDARD: Final = "-"


@contextmanager
def file_or_stdin(name: str) -> Iterator[Path]:
    """Return the file's path; stdin becomes a file, so that it can be read more than once."""
    if name != STANDARD:
        yield Path(name)
        return
    with tempfile.NamedTemporaryFile() as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield Path(file.name)


def write_out(name: str, content: IO[bytes]) -> None:
    """Write a file whole or not at all, or to stdout."""
    if name == STANDARD:
        shutil.copyfileobj(content, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        shutil.copyfileobj(content, file)
    temporary.replace(path)
