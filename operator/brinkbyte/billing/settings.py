"""Settings of the billing programs: ``BRINKBYTE_…`` variables, secrets also from files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, SecretStr

from brinkbyte.kit.settings import Settings, SettingsError

_MIN_PEPPER_LENGTH = 16


class SecretSettings(Settings):
    """Settings whose secrets may stand in a file named by a ``…_FILE`` variable.

    Attributes:
        may_lack: secrets that stay unset when their file is not there.
    """

    may_lack: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment, then ``…_FILE`` variables; arguments that are not None win.

        Raises:
            SettingsError: names each wrong variable or file that cannot be read.
        """
        prefix = cls.model_config.get("env_prefix", "")
        given = dict(overrides)
        for name, field in cls.model_fields.items():
            path = os.environ.get(f"{prefix}{name.upper()}_FILE")
            if path and given.get(name) is None and "SecretStr" in str(field.annotation):
                if name in cls.may_lack and not Path(path).exists():
                    continue
                try:
                    given[name] = Path(path).read_text().strip()
                except (OSError, UnicodeDecodeError) as error:
                    raise SettingsError(
                        f"{prefix}{name.upper()}_FILE: cannot read {path}: {error}"
                    ) from None
        return super().load(**given)


class ServerSettings(SecretSettings):
    """What ``brinkbyte billing serve`` needs.

    Attributes:
        database_url: DSN of the role ``brinkbyte_api``.
        admin_database_url: DSN of the role ``brinkbyte_admin``, for the endpoints and metrics of
            the administration that look across customers; without it they are not served.
        pepper: key of the HMAC under which API secrets are stored; at least 16 characters.
        signing_keys_dir: ``<kind>.pem`` of each kind and the root-signed ``jwks.json``.
        catalog: version of the price list; the newest if unset.
        pool_size: database connections at most.
        redis_url: of a Redis that servers share for rate limits; each counts alone without it.
        rate_limit: calls a second of one credential (bursts of ten times as many); an address has
            five times as many; 0 limits nothing.
        listen_host: address to listen on.
        listen_port: port to listen on.
        tls_cert: PEM certificate chain; HTTPS when set.
        tls_key: PEM private key of the certificate.
        log_level: debug, info, warning or error.
    """

    may_lack: ClassVar[frozenset[str]] = frozenset({"admin_database_url", "redis_url"})

    database_url: SecretStr
    admin_database_url: SecretStr | None = None
    pepper: Annotated[SecretStr, Field(min_length=_MIN_PEPPER_LENGTH)]
    signing_keys_dir: Path
    catalog: str | None = None
    pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    redis_url: SecretStr | None = None
    rate_limit: Annotated[float, Field(ge=0, le=100_000)] = 200
    listen_host: str = "127.0.0.1"
    listen_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    tls_cert: Path | None = None
    tls_key: Path | None = None
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"


class AdminSettings(SecretSettings):
    """What the vendor's administration needs.

    Attributes:
        admin_database_url: DSN of the role ``brinkbyte_admin``.
        pepper: as in :class:`ServerSettings`; only for commands that make secrets.
        signing_keys_dir: as there, of which ``keys status`` reads the public files alone.
        catalog: version of the price list; the newest if unset.
    """

    admin_database_url: SecretStr
    signing_keys_dir: Path | None = None
    pepper: Annotated[SecretStr, Field(min_length=_MIN_PEPPER_LENGTH)] | None = None
    catalog: str | None = None


class BundleSettings(AdminSettings):
    """What making bundles needs.

    Attributes:
        signing_keys_dir: as in :class:`ServerSettings`.
    """

    signing_keys_dir: Path


class MigrationSettings(SecretSettings):
    """What ``brinkbyte billing migrate`` needs.

    Attributes:
        migration_database_url: DSN of a role that may create roles and tables.
        api_password: password of ``brinkbyte_api``; unset leaves the role as it is.
        worker_password: password of ``brinkbyte_worker``.
        admin_password: password of ``brinkbyte_admin``.
    """

    # A chart mounts whichever of them the database's Secret has.
    may_lack: ClassVar[frozenset[str]] = frozenset(
        {"api_password", "worker_password", "admin_password"}
    )

    migration_database_url: SecretStr
    api_password: SecretStr | None = None
    worker_password: SecretStr | None = None
    admin_password: SecretStr | None = None
