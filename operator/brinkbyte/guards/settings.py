"""Settings of a service that uses the guards."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from brinkbyte.guards.tracker import BATCH_SIZE, FLUSH_SECONDS, MAX_EVENTS
from brinkbyte.license.claims import Identifier
from brinkbyte.resources.names import LICENSE_DIR
from brinkbyte.store.database import DatabaseSettings
from brinkbyte.store.identity import IdentitySettings


class GuardSettings(DatabaseSettings, IdentitySettings):
    """``BRINKBYTE_…`` variables, the same as the instance's beside which the service runs."""

    customer_id: Identifier = Field(description="the customer whose instance this is")
    license_dir: Path = Field(Path(LICENSE_DIR), description="directory of signed documents")
    service_name: Identifier = Field("guarded", description="keeps keys of services apart")
    meter_family: str = Field(
        "vision", pattern="^[a-z][a-z0-9_]*$", description="whose meters short names mean"
    )
    watch_seconds: float = Field(
        2.0, ge=0.05, le=60, description="how often the license directory is looked at"
    )
    database_seconds: float = Field(
        15.0, ge=0.05, le=60, description="how often newer documents are read from the database"
    )
    tracker_buffered: bool = Field(
        False, description="usage is written in batches; a kill loses what waits"
    )
    tracker_batch_size: int = Field(
        BATCH_SIZE, ge=1, le=10_000, description="buffered events that are worth a write"
    )
    tracker_flush_seconds: float = Field(
        FLUSH_SECONDS, ge=0.05, le=300, description="no buffered event waits longer for its write"
    )
    tracker_max_events: int = Field(
        MAX_EVENTS, ge=10_000, le=5_000_000, description="so many events wait at most"
    )
