"""Settings of the reporter."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from pydantic import Field

from brinkbyte.license.claims import Identifier
from brinkbyte.resources.names import LICENSE_DIR
from brinkbyte.store.database import DatabaseSettings
from brinkbyte.store.identity import IdentitySettings

MAX_START_DELAY: Final = 20.0


class ReporterSettings(DatabaseSettings, IdentitySettings):
    """What one run of the reporter needs to know."""

    customer_id: Identifier | None = Field(
        None, description="the customer whose usage this is; whoever is not named is not compared"
    )
    license_dir: Path = Field(Path(LICENSE_DIR), description="directory with jwks.json")
    report_delay_seed: str = Field(
        "", description="uid of the Tenant: start after 0-20 s that it decides; empty: at once"
    )
    report_deadline_seconds: float = Field(
        100.0, gt=0, le=3600, description="a run ends by then; keep it below the period"
    )
    report_attempts: int = Field(
        4, ge=1, le=20, description="tries while the billing API is unreachable, backing off"
    )
    report_final: bool = Field(
        False,
        description="the last report before the data goes: succeed only if every event has its "
        "receipt; wait for another reporter",
    )

    def start_delay(self) -> float:
        """Return seconds to wait at the start, so that a fleet's reporters do not come at once."""
        if not self.report_delay_seed:
            return 0.0
        digest = hashlib.sha256(self.report_delay_seed.encode()).digest()
        return MAX_START_DELAY * int.from_bytes(digest[:4], "big") / 2**32
