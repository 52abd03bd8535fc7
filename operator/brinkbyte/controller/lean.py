"""Libraries without what the operator never uses: it has to fit on a small node, for years.

Import this before anything else; :mod:`brinkbyte.controller` does. What is left out here is a tenth
of the operator's memory.
"""

from __future__ import annotations

import asyncio.sslproto
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_TLS_BUFFER_BYTES: Final = 32 * 1024
"""Two TLS records; asyncio's own 256 KiB for each of forty connections are 10 MB."""


@contextmanager
def not_installed(*modules: str) -> Iterator[None]:
    """Hide modules from those who would load them if they were there.

    What has been loaded already stays; afterwards all of them can be imported as ever.
    """
    hidden = [name for name in modules if name not in sys.modules]
    # What stands for None cannot be imported: the import system's own way of saying so.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


# Tracebacks in colour, and httpx's own command line with what it draws: 4 MB.
with not_installed("httpx._main", "rich"):
    import httpx
    import structlog

asyncio.sslproto.SSLProtocol.max_size = _TLS_BUFFER_BYTES

__all__ = ["httpx", "not_installed", "structlog"]
