"""Settings of the customer-instance API."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from brinkbyte.license.claims import Identifier
from brinkbyte.resources.names import (
    ACCESS_DIR,
    DEVICES_DIR,
    INSTANCE_PORT,
    LICENSE_DIR,
    REDIS_DIR,
    REDIS_URL_KEY,
    TRITON_DIR,
    TRITON_HTTP_PORT,
)
from brinkbyte.store.database import DatabaseSettings
from brinkbyte.store.directories import read_text
from brinkbyte.store.identity import IdentitySettings


class InstanceSettings(DatabaseSettings, IdentitySettings):
    """``BRINKBYTE_…`` variables, or flags of ``brinkbyte instance serve``."""

    customer_id: Identifier = Field(description="the customer whose instance this is")
    license_dir: Path = Field(Path(LICENSE_DIR), description="directory of signed documents")
    access_dir: Path = Field(Path(ACCESS_DIR), description="directory of the callers' tokens")
    devices_dir: Path = Field(Path(DEVICES_DIR), description="directory with devices.json")
    redis_url: SecretStr | None = Field(None, description="redis:// URL")
    redis_dir: Path = Field(Path(REDIS_DIR), description="directory with the file url")
    triton_dir: Path = Field(Path(TRITON_DIR), description="directory with the control key")
    triton_host: str = Field("127.0.0.1", description="name that resolves to every Triton pod")
    triton_port: int = Field(TRITON_HTTP_PORT, ge=1, le=65535)
    retention_days: int | None = Field(
        None, ge=1, le=36_500, description="days telemetry is kept, capped by the license"
    )
    host: str = Field("0.0.0.0", description="address to listen on")  # noqa: S104 - a pod's port
    port: int = Field(INSTANCE_PORT, ge=0, le=65535)
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    database_pool_size: int = Field(16, ge=2, le=100, description="connections at most")
    watch_seconds: float = Field(
        2.0, ge=0.05, le=60, description="how often mounted directories are looked at"
    )
    triton_seconds: float = Field(
        10.0, ge=0.05, le=60, description="how often the loaded models are compared"
    )
    heartbeat_seconds: float = Field(
        300.0, ge=0.05, le=300, description="how often the billing API hears from us"
    )

    def redis(self) -> str | None:
        """Return the URL of Redis as it is now; None: there is none, only speed is lost."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        return read_text(self.redis_dir / REDIS_URL_KEY)
