"""Offline time: a clock that a turned-back wall clock cannot shorten.

``now = max(wall clock, newest signed time held + hours run since it was taken in)``. Turning the
wall clock back gains nothing; a forward jump ends when the clock is right again or a fresher
signed time arrives. Event times never count. No setting shifts time.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, ValidationError

from brinkbyte.kit.model import WireModel
from brinkbyte.license.claims import UnixTime

Seconds = Annotated[int, Field(strict=True, ge=0, le=253_402_300_799)]
"""As far as times go."""


class ClockState(WireModel):
    """What is kept, at least every hour, across restarts.

    Attributes:
        signed_time: newest ``iat`` of any verified document, Unix seconds.
        running_seconds: seconds this instance has run since it took that document in.
    """

    signed_time: UnixTime = 0
    running_seconds: Seconds = 0

    @classmethod
    def read(cls, kept: object) -> Self:
        """Return the state that was kept; what cannot be one counts as nothing kept.

        Members of a later release are passed over. The table it is kept in is the customer's: an
        edited row must neither stop a start nor count backwards.
        """
        try:
            return cls.model_validate(kept, extra="ignore")
        except ValidationError:
            return cls()

    def taken_in(self, signed_time: int) -> Self:
        """Return the state after a verified document of this signing time."""
        if signed_time <= self.signed_time:
            return self
        return self.model_copy(update={"signed_time": signed_time, "running_seconds": 0})

    def ran(self, seconds: int) -> Self:
        """Return the state after running for so many more seconds by a monotonic clock."""
        return self.model_copy(update={"running_seconds": self.running_seconds + max(0, seconds)})

    def now(self, wall: int) -> int:
        """Return the time to judge licenses by, Unix seconds.

        Args:
            wall: the machine's clock, Unix seconds.
        """
        return max(wall, self.signed_time + self.running_seconds)
