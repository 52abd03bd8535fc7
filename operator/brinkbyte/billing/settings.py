"""Settings of the billing programs: ``BRINKBYTE_…`` variables, secrets also from files."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from brinkbyte.kit.settings import Settings, SettingsError

_MIN_PEPPER_LENGTH = 16
STRIPE_API_BASE: Final = "https://api.stripe.com"
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


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


class ProviderSettings(SecretSettings):
    """Who collects what invoices say.

    Attributes:
        billing_provider: ``local``: no account is needed, the vendor records payments; ``stripe``.
        stripe_api_key: secret or restricted key; only the worker needs it.
        stripe_webhook_secrets: signing secrets of the webhook endpoint, separated by spaces, commas
            or lines; two of them while one is rolled. Only the server needs them.
        stripe_api_base: base URL; any but Stripe's own must be on loopback.
        stripe_automatic_tax: let Stripe work out the tax.
    """

    may_lack: ClassVar[frozenset[str]] = frozenset({"stripe_api_key", "stripe_webhook_secrets"})

    billing_provider: Literal["local", "stripe"] = "local"
    stripe_api_key: SecretStr | None = None
    stripe_webhook_secrets: SecretStr | None = None
    stripe_api_base: str = STRIPE_API_BASE
    stripe_automatic_tax: bool = False

    @field_validator("stripe_api_base")
    @classmethod
    def _only_stripe(cls, value: str) -> str:
        base = value.rstrip("/")
        if base == STRIPE_API_BASE:
            return base
        try:
            parts = urlsplit(base)
            loopback = parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
        except ValueError:
            loopback = False
        if not loopback or parts.scheme not in {"http", "https"} or parts.username is not None:
            raise ValueError(f"use {STRIPE_API_BASE}, or an address on loopback")
        return base

    @field_validator("stripe_webhook_secrets")
    @classmethod
    def _one_or_two(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not 1 <= len(_listed(value)) <= 2:
            raise ValueError("give one signing secret, or two while one is rolled")
        return value

    def webhook_secrets(self) -> tuple[str, ...]:
        """Return the signing secrets of the webhook endpoint."""
        held = self.stripe_webhook_secrets
        return () if held is None else _listed(held)


def _listed(secrets: SecretStr) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[\s,]+", secrets.get_secret_value()) if part)


class ServerSettings(ProviderSettings):
    """What ``brinkbyte billing serve`` needs.

    Attributes:
        database_url: DSN of the role ``brinkbyte_api``.
        admin_database_url: DSN of the role ``brinkbyte_admin``, for the endpoints and metrics of
            the administration that look across customers; without it they are not served.
        pepper: key of the HMAC under which API secrets are stored; at least 16 characters.
        signing_keys_dir: ``<kind>.pem`` of each kind and the root-signed ``jwks.json``.
        catalog: version of the price list; the newest if unset.
        pool_size: database connections at most.
        redis_url: of a Redis for the quota cache and for rate limits that servers share; without
            it each look is a query, and each server counts alone.
        rate_limit: calls a second of one credential (bursts of ten times as many); an address has
            five times as many; 0 limits nothing.
        listen_host: address to listen on.
        listen_port: port to listen on.
        gateway_meter: what a gateway's request uses when it names no meter.
        gateway_meter_header: header in which a gateway names the meter.
        gateway_quantity_header: header in which it says how much; 1 without it.
        gateway_customer_header: header in which an emitter of the vendor's names the customer.
        webhook_allow_private: customers' webhooks may be loopback, private or plain HTTP.
        tls_cert: PEM certificate chain; HTTPS when set.
        tls_key: PEM private key of the certificate.
        log_level: debug, info, warning or error.
    """

    may_lack: ClassVar[frozenset[str]] = ProviderSettings.may_lack | {
        "admin_database_url",
        "redis_url",
    }

    database_url: SecretStr
    admin_database_url: SecretStr | None = None
    pepper: Annotated[SecretStr, Field(min_length=_MIN_PEPPER_LENGTH)]
    signing_keys_dir: Path
    catalog: str | None = None
    pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    redis_url: SecretStr | None = None
    gateway_meter: str = "platform.api_calls"
    gateway_meter_header: HeaderName = "X-BrinkByte-Meter"
    gateway_quantity_header: HeaderName = "X-BrinkByte-Quantity"
    gateway_customer_header: HeaderName = "X-BrinkByte-Customer"
    webhook_allow_private: bool = False
    rate_limit: Annotated[float, Field(ge=0, le=100_000)] = 200
    listen_host: str = "127.0.0.1"
    listen_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    tls_cert: Path | None = None
    tls_key: Path | None = None
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"


class WorkerSettings(SecretSettings):
    """What ``brinkbyte billing worker`` needs beside :class:`InvoiceSettings`.

    Attributes:
        worker_database_url: DSN of the role ``brinkbyte_worker``.
        catalog: version of the price list; the newest if unset.
        pool_size: database connections at most; jobs that work on four customers at a time keep one
            more beside them, so no fewer than six.
        redis_url: of the servers' Redis, to drop what they remember of quotas that changed; without
            it that ends by itself some seconds later.
        worker_host: address on which ``/health`` and ``/metrics`` are served.
        worker_port: port of them.
        log_level: debug, info, warning or error.
    """

    may_lack: ClassVar[frozenset[str]] = frozenset({"redis_url"})

    worker_database_url: SecretStr
    catalog: str | None = None
    pool_size: Annotated[int, Field(ge=6, le=200)] = 10
    redis_url: SecretStr | None = None
    worker_host: str = "127.0.0.1"
    worker_port: Annotated[int, Field(ge=0, le=65535)] = 9090
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


class ImportSettings(SecretSettings):
    """What taking in usage from a file needs; all of it as in :class:`ServerSettings`."""

    database_url: SecretStr
    signing_keys_dir: Path
    catalog: str | None = None


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
