"""What the vendor's people do to customers, from the command line (role ``brinkbyte_admin``)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

from brinkbyte.billing import audit, operators
from brinkbyte.billing.api_keys import service as api_keys
from brinkbyte.billing.api_keys.schemas import ApiKeyCreate
from brinkbyte.billing.auth import Scope, Secrets, scope_names
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers import service as customer_service
from brinkbyte.billing.customers.lookup import unknown_customer
from brinkbyte.billing.customers.schemas import Customer, CustomerCreate
from brinkbyte.billing.db import Connection, Database, Row
from brinkbyte.billing.instances import repository as instances
from brinkbyte.billing.instances.service import free_instance
from brinkbyte.billing.licenses import repository as license_rows
from brinkbyte.billing.quotas import service as quotas
from brinkbyte.billing.settings import AdminSettings
from brinkbyte.billing.subscriptions import history
from brinkbyte.billing.subscriptions import service as subscription_service
from brinkbyte.billing.subscriptions.schemas import Subscription, SubscriptionSet
from brinkbyte.billing.subscriptions.standing import standing_of
from brinkbyte.billing.usage import repository as ledger
from brinkbyte.billing.usage.quarantine_rows import quarantined as quarantined_of
from brinkbyte.catalog import Catalog, CostLine, load_catalog
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.pools import postgres_pool
from brinkbyte.license.claims import Revocation, TokenKind

ACTOR: Final = "cli"
ALL_NUMBERS: Final = 2**53 - 1
ENROLLMENT_LIFE: Final = timedelta(hours=24)
OPERATOR_LIFE: Final = timedelta(days=365)

T = TypeVar("T")


def _not_revocable(what: str, listing: str) -> PermanentError:
    return PermanentError(
        f"{what} is not known, or revoked already; see `billing admin {listing}`",
        reason="UnknownCredential",
    )


@dataclass(frozen=True)
class Admin:
    """The administration of one database; methods raise PermanentError with what to do."""

    database: Database
    catalog: Catalog
    secrets: Secrets | None
    clock: Callable[[], float] = lambda: datetime.now(UTC).timestamp()

    def _now(self) -> int:
        return int(self.clock())

    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)

    def need_secrets(self) -> Secrets:
        """Return what makes and hashes secrets."""
        if self.secrets is None:
            raise PermanentError(
                "set BRINKBYTE_PEPPER (or BRINKBYTE_PEPPER_FILE) to the server's: secrets are "
                "stored under it",
                reason="PepperMissing",
            )
        return self.secrets

    async def _require(self, connection: Connection, customer_id: str) -> Row:
        row = await customers.lock(connection, customer_id)
        if row is None:
            raise unknown_customer(customer_id)
        return row

    async def create_customer(self, request: CustomerCreate) -> Customer:
        """Create a customer; again with the same name is fine."""
        async with self.database.tenant(request.customer_id) as connection:
            return await customer_service.create_in(
                connection, request, actor=ACTOR, now=self._now()
            )

    async def set_subscription(self, request: SubscriptionSet) -> Subscription:
        """Set what a customer has bought."""
        async with self.database.tenant(request.customer_id) as connection:
            return await subscription_service.set_in(
                connection, self.catalog, request, actor=ACTOR, now=self._now()
            )

    async def create_enrollment(
        self, customer_id: str, *, replace: bool = False, life: timedelta = ENROLLMENT_LIFE
    ) -> tuple[str, datetime]:
        """Make a one-time enrollment token; returns it and its end. It is shown only now."""
        secrets = self.need_secrets()
        token, credential_id = secrets.create("enrollment"), uuid4()
        end = self._moment() + life
        async with self.database.tenant(customer_id) as connection:
            await self._require(connection, customer_id)
            await instances.add_credential(
                connection,
                customer_id,
                credential_id,
                kind="enrollment",
                instance_id=None,
                secret_hash=secrets.hash(token),
                scopes=scope_names([Scope.ENROLL]),
                families=(),
                now=self._moment(),
                expires_at=end,
            )
            await instances.add_enrollment(
                connection, customer_id, credential_id, replace=replace, now=self._moment()
            )
            await audit.record(
                connection,
                customer_id,
                now=self._now(),
                actor=ACTOR,
                action="enrollment.created",
                subject=str(credential_id),
                details={"replace": replace},
            )
        return token, end

    async def create_operator(self, name: str, families: Sequence[str] = ()) -> str:
        """Make a credential of the vendor's own; returns the secret. It is shown only now.

        Args:
            name: who uses it.
            families: product lines whose meters it may report.
        """
        secrets = self.need_secrets()
        unknown = sorted(set(families) - set(self.catalog.families))
        if unknown:
            raise PermanentError(
                f"there is no product line {', '.join(unknown)}; known: "
                f"{', '.join(self.catalog.families)}",
                reason="UnknownFamily",
            )
        secret = secrets.create("operator")
        async with self.database.nobody() as connection:
            credential_id = await operators.add_operator_credential(
                connection,
                name=name,
                secret_hash=secrets.hash(secret),
                scopes=scope_names([Scope.VENDOR]),
                families=families,
                now=self._moment(),
                expires_at=self._moment() + OPERATOR_LIFE,
            )
            await audit.record_own(
                connection,
                now=self._now(),
                actor=ACTOR,
                action="operator.created",
                subject=str(credential_id),
                details={"name": name, "families": list(families)},
            )
        return secret

    async def create_tenant_key(
        self, customer_id: str, scopes: Sequence[str], *, name: str = "cli"
    ) -> str:
        """Make an API key for a customer's own programs; returns the secret, shown only now.

        Args:
            customer_id: whose.
            scopes: of ``billing:read`` and ``billing:write``.
            name: what it is for.
        """
        secrets = self.need_secrets()
        request = ApiKeyCreate.model_validate({"name": name, "scopes": tuple(scopes)})
        async with self.database.tenant(customer_id) as connection:
            made = await api_keys.create_in(
                connection, secrets, customer_id, request, actor=ACTOR, now=self._now()
            )
        return made.secret

    async def list_operators(self) -> list[Row]:
        """Return the vendor's own credentials, newest first."""
        async with self.database.nobody() as connection:
            return await operators.all_credentials(connection)

    async def revoke_operator(self, credential_id: UUID) -> None:
        """Revoke a credential of the vendor's own."""
        async with self.database.nobody() as connection:
            name = await operators.revoke(connection, credential_id, self._moment())
            if name is None:
                raise _not_revocable(f"credential {credential_id}", "operator list")
            await audit.record_own(
                connection,
                now=self._now(),
                actor=ACTOR,
                action="operator.revoked",
                subject=str(credential_id),
                details={"name": name},
            )

    async def list_enrollments(self, customer_id: str) -> list[Row]:
        """Return a customer's enrollment tokens, newest first."""
        async with self.database.tenant(customer_id) as connection:
            await self._require(connection, customer_id)
            return await instances.enrollments(connection, customer_id)

    async def revoke_enrollment(self, customer_id: str, credential_id: UUID) -> None:
        """Revoke an enrollment token; the instance that it made goes on."""
        async with self.database.tenant(customer_id) as connection:
            await self._require(connection, customer_id)
            if not await instances.revoke_enrollment(
                connection, customer_id, credential_id, self._moment()
            ):
                raise _not_revocable(
                    f"enrollment token {credential_id} of {customer_id}", "enrollment list"
                )
            await audit.record(
                connection,
                customer_id,
                now=self._now(),
                actor=ACTOR,
                action="enrollment.revoked",
                subject=str(credential_id),
            )

    async def revoke_credentials(self, instance_id: str) -> int:
        """Revoke an instance's credentials and the token that could make another; it lives on.

        Seats, devices and data stay as they are; the site enrolls again with a new token.

        Returns:
            How many were not revoked yet.
        """
        tenant_id = await self._tenant_of(instance_id)
        async with self.database.tenant(tenant_id) as connection:
            await self._require(connection, tenant_id)
            count = await instances.revoke_credentials(
                connection, tenant_id, instance_id, self._moment()
            )
            await audit.record(
                connection,
                tenant_id,
                now=self._now(),
                actor=ACTOR,
                action="credential.revoked",
                subject=instance_id,
                details={"credentials": count},
            )
        return count

    async def _tenant_of(self, instance_id: str) -> str:
        for row in await self.list_instances():
            if row["instance_id"] == instance_id:
                tenant_id: str = row["tenant_id"]
                return tenant_id
        raise PermanentError(
            f"there is no instance {instance_id}; list them with `billing admin instances list`",
            reason="UnknownInstance",
        )

    async def list_instances(self) -> list[Row]:
        """Return every instance of every customer, newest first."""
        async with self.database.nobody() as connection:
            return await instances.all_instances(connection)

    async def free_instance(self, instance_id: str) -> bool:
        """End an instance that will not come back, and free what it holds."""
        tenant_id = await self._tenant_of(instance_id)
        async with self.database.tenant(tenant_id) as connection:
            ended = await free_instance(
                connection,
                tenant_id,
                instance_id,
                reason="Freed",
                actor=ACTOR,
                now=self._now(),
            )
            await instances.revoke_credentials(connection, tenant_id, instance_id, self._moment())
        return ended

    async def revoke(
        self, customer_id: str, *, camera_id: str | None = None, reason: str, undo: bool = False
    ) -> None:
        """Revoke a customer's license, or one camera's; ``undo`` takes it back."""
        kind = TokenKind.LICENSE if camera_id is None else TokenKind.CAMERA
        subject = camera_id or customer_id
        async with self.database.tenant(customer_id) as connection:
            await self._require(connection, customer_id)
            if undo:
                if not await license_rows.unrevoke(connection, customer_id, kind, subject):
                    raise PermanentError(
                        f"{kind} {subject} is not revoked; nothing to take back",
                        reason="NotRevoked",
                    )
            else:
                await license_rows.revoke(
                    connection,
                    customer_id,
                    Revocation(kind=kind, subject=subject, up_to=ALL_NUMBERS),
                    reason,
                    self._now(),
                )
            await audit.record(
                connection,
                customer_id,
                now=self._now(),
                actor=ACTOR,
                action="revocation.removed" if undo else "revocation.added",
                subject=subject,
                details={"kind": kind.value, "reason": reason},
            )

    async def ledger(self, customer_id: str) -> dict[str, Any]:
        """Return the ledger of a customer: events with their keys, batches, receipts."""
        async with self.database.tenant(customer_id) as connection:
            await self._require(connection, customer_id)
            events = await ledger.events(connection, customer_id)
            batches = await ledger.batches(connection, customer_id)
            quarantined = await quarantined_of(connection, customer_id)
        return {
            "customerId": customer_id,
            "events": [
                {
                    "id": str(row["id"]),
                    "key": row["key"],
                    "meter": row["meter"],
                    "quantity": format(row["quantity"].normalize(), "f"),
                    "occurredAt": row["occurred_at"].isoformat(),
                    "cameraId": row["camera_id"],
                    "hardwareId": row["hardware_id"],
                    "attributes": row["attributes"],
                    "instance": row["instance_id"],
                    "epoch": None if row["epoch"] is None else str(row["epoch"]),
                    "batchNo": row["batch_no"],
                }
                for row in events
            ],
            "batches": [
                {
                    "instance": row["instance_id"],
                    "epoch": str(row["epoch"]),
                    "batchNo": row["batch_no"],
                    "count": row["count"],
                    "inserted": row["inserted"],
                    "quarantined": row["quarantined"],
                    "chainHash": bytes(row["chain_hash"]).hex(),
                    "receipt": row["receipt"],
                    "receivedAt": row["received_at"].isoformat(),
                }
                for row in batches
            ],
            "quarantined": [
                {
                    "eventId": row["event_id"],
                    "reason": row["reason"],
                    "epoch": None if row["epoch"] is None else str(row["epoch"]),
                    "batchNo": row["batch_no"],
                }
                for row in quarantined
            ],
        }

    async def cost(self, customer_id: str) -> tuple[quotas.PeriodUsage, tuple[CostLine, ...]]:
        """Return what a customer used this period and what it costs so far."""
        async with self.database.tenant(customer_id) as connection:
            await self._require(connection, customer_id)
            row = await history.current(connection, self.catalog, customer_id, self._now())
            standing = standing_of(row)
            usage = await quotas.period_usage(
                connection, self.catalog, customer_id, standing, self._now()
            )
        return usage, quotas.cost_so_far(self.catalog, standing, usage)


def cost_document(
    catalog: Catalog, usage: quotas.PeriodUsage, lines: tuple[CostLine, ...]
) -> dict[str, Any]:
    """Return cost and usage as plain data; money and quantities as decimal text."""
    return {
        "currency": catalog.currency,
        "periodStart": usage.start.isoformat(),
        "periodEnd": usage.end.isoformat(),
        "usage": {
            name: format(value.normalize(), "f") for name, value in sorted(usage.used.items())
        },
        "lines": [
            {
                "line": line.line,
                "kind": line.kind,
                "description": line.description,
                "quantity": format(line.quantity.normalize(), "f"),
                "unitPrice": None if line.unit_price is None else str(line.unit_price),
                "per": line.per,
                "amount": str(line.amount),
            }
            for line in lines
        ],
        "total": str(sum((line.amount for line in lines), Decimal("0.00"))),
    }


def with_admin(settings: AdminSettings, work: Callable[[Admin], Awaitable[T]]) -> T:
    """Run some administration and close everything behind it."""

    async def run() -> T:
        async with postgres_pool(
            settings.admin_database_url.get_secret_value(), max_size=2, name="brinkbyte-admin"
        ) as pool:
            pepper = settings.pepper
            return await work(
                Admin(
                    Database(pool),
                    load_catalog(settings.catalog),
                    None if pepper is None else Secrets(pepper.get_secret_value()),
                )
            )

    return asyncio.run(run())
