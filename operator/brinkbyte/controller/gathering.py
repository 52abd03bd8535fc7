"""When the next pass over a crowd begins.

What a pass costs for all cameras of a Tenant (the billing API decides their seats together, and
lists them in one document) is shared by those it looks at. So while newcomers arrive one after the
other, a pass waits the longer the more cameras there are: not for each of them, and no longer than
they keep coming.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from brinkbyte.controller.roster import Crew

_SECONDS: Final = 0.0003
"""For each camera of the Tenant, from the start of a pass to that of the next."""
_QUIET_SECONDS: Final = 0.25
"""After which nobody is taken to be coming any more."""


@dataclass
class Gathering:
    """The pause between two passes of one Tenant.

    Attributes:
        until: monotonic seconds.
    """

    until: float = 0.0
    _heard: int = 0
    _heard_at: float = 0.0

    def begin(self, cameras: int, *, begun: float) -> None:
        """Note that a pass over a Tenant of so many, begun at a monotonic time, has left news."""
        self.until = begun + cameras * _SECONDS

    def seconds(self, crew: Crew, now: float) -> float:
        """Return how long the next pass is to wait; whose Secret was tampered with does not."""
        if crew.tampered:
            return 0.0
        if crew.heard != self._heard:
            self._heard, self._heard_at = crew.heard, now
        return max(0.0, min(self.until, self._heard_at + _QUIET_SECONDS) - now)
