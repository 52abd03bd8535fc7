"""kopf, imported without the client libraries that it only asks after.

Where pykube and kubernetes are installed, kopf imports them to know their objects should a handler
hand it one. None of ours does, and with what they bring they are 12 MB of the operator's memory.
The module ``kubernetes`` itself can be imported afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_ASKED_AFTER: Final = ("kubernetes.client", "pykube.objects")


@contextmanager
def _not_installed(*modules: str) -> Iterator[None]:
    hidden = [name for name in modules if name not in sys.modules]
    # What stands for None cannot be imported: the import system's own way of saying so.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _not_installed(*_ASKED_AFTER):
    import kopf

__all__ = ["kopf"]
