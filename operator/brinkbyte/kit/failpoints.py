"""Named points at which a test may kill the process, to prove that a rerun finishes the work.

``BRINKBYTE_FAILPOINT=seal.committed:3`` sends SIGKILL to the process itself the third time it
passes the point ``seal.committed``. Unset (always, outside tests) a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_target, _, _count = os.environ.get("BRINKBYTE_FAILPOINT", "").partition(":")
_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Die here, as a power cut would have it, when the environment asks for it."""
    if name != _target:
        return
    _passed[name] += 1
    if _passed[name] >= int(_count or "1"):
        os.kill(os.getpid(), signal.SIGKILL)
