"""Settings of a service that uses the guards."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

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
