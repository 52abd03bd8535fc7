"""What the license, entitlement, usage and state endpoints answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from brinkbyte.catalog import Catalog
from brinkbyte.instance.credentials import Credentials
from brinkbyte.instance.licensing.service import LicenseService
from brinkbyte.instance.schemas import ValidationAnswer
from brinkbyte.instance.triton.loader import ModelLoader
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.pools import Pool
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.modes import UPGRADE_URL
from brinkbyte.license.wire import CloneAlarm, Use
from brinkbyte.metering.events import quantity_text
from brinkbyte.resources.state import InstanceState, LicenseState
from brinkbyte.store import metering_state
from brinkbyte.store.devices import device_changes, mark_offline
from brinkbyte.store.outbox import usage_totals
from brinkbyte.store.policy import CameraDecision, Policy
from brinkbyte.store.state import quarantined_events

ENTITLEMENT_SECONDS = 300
"""Entitlements may be kept by their reader for 5 minutes."""
CAMERA_SEATS = "vision.camera_seats"


class Views:
    """Read-only answers.

    Args:
        pool: the instance's database.
        license_service: the license in force.
        credentials: which devices there are.
        loader: how Triton stands.
        catalog: titles and units of meters.
    """

    def __init__(
        self,
        pool: Pool,
        license_service: LicenseService,
        credentials: Credentials,
        loader: ModelLoader,
        catalog: Catalog,
        *,
        clone_alarm: Callable[[], CloneAlarm | None],
    ) -> None:
        self._pool = pool
        self._license = license_service
        self._credentials = credentials
        self._loader = loader
        self._catalog = catalog
        self._clone_alarm = clone_alarm

    def license(self) -> dict[str, Any]:
        """``GET /api/v1/license``."""
        policy = self._license.policy()
        claims, decision = policy.snapshot.license, policy.decision
        return {
            "plan": policy.plan,
            "mode": decision.mode.value,
            "reason": decision.reason,
            "message": decision.message,
            "upgradeUrl": UPGRADE_URL,
            "customerId": self._license.customer_id,
            "customerName": claims.customer_name if claims else None,
            "usage": {
                "devices": {
                    "current": len(self._credentials.devices),
                    "max": policy.max_devices,
                },
                "cameras": {"current": policy.cameras_used, "max": camera_limit(policy)},
            },
            "trial": {
                "isActive": decision.mode.value == "trial",
                "daysRemaining": policy.trial_days_remaining,
                "endsAt": claims.trial.ends_at if claims else None,
            },
            "features": policy.features.model_dump(mode="json"),
            "limits": policy.limits.model_dump(mode="json"),
            "subscription": claims.subscription.model_dump(mode="json") if claims else None,
            "flags": policy.flags.model_dump(mode="json"),
            "issuedAt": claims.issued_at if claims else None,
            "expiresAt": claims.exp if claims else None,
            "graceEndsAt": claims.exp + claims.grace_seconds if claims else None,
        }

    def license_status(self) -> dict[str, Any]:
        """``GET /api/v1/license/status``."""
        service = self._license
        policy = service.policy()
        total = sum(service.hits.values())
        cached = total - service.hits["billing"] - service.hits["none"]
        error = service.last_refresh_error
        return {
            "mode": policy.decision.mode.value,
            "reason": policy.decision.reason,
            "message": policy.decision.message,
            "upgradeUrl": UPGRADE_URL,
            "sequences": {
                "license": service.snapshot.sequence(TokenKind.LICENSE),
                "seats": service.snapshot.sequence(TokenKind.SEATS),
                "revocations": service.snapshot.sequence(TokenKind.REVOCATIONS),
                "keySet": service.snapshot.sequence(TokenKind.KEY_SET),
            },
            "time": policy.now,
            "refresh": {
                "confirmedAt": service.confirmed_at,
                "stale": service.stale,
                "refreshAfter": service.refresh_after,
                "lastError": (
                    {"reason": error.reason, "message": error.message} if error else None
                ),
            },
            "validations": {
                "total": total,
                "byTier": dict(sorted(service.hits.items())),
                "hitRate": round(cached / total, 4) if total else None,
            },
            "waived": dict(sorted(service.waived.items())),
            "audit": {"waiting": service.audit.waiting, "dropped": service.audit.dropped},
            "refusedDocuments": [
                {
                    "kind": item.kind.value,
                    "reason": item.reason,
                    "message": item.message,
                    "source": item.source,
                    "at": item.at,
                }
                for item in service.refused
            ],
        }

    def entitlements(self, decision: CameraDecision | None) -> dict[str, Any]:
        """``GET /api/v1/entitlements``: of the whole tenant, or of one camera."""
        policy = self._license.policy()
        claims = policy.snapshot.license if policy.decision.full else None
        grant = policy.tenant_grant if decision is None else decision.grant
        packs = claims.tenant_packs if claims else ()
        answer: dict[str, Any] = {
            "allowed": policy.decision.full if decision is None else decision.allowed,
            "mode": policy.decision.mode.value,
            "reason": policy.decision.reason if decision is None else decision.reason,
            "message": policy.decision.message if decision is None else decision.message,
            "upgradeUrl": UPGRADE_URL,
            "validForSeconds": ENTITLEMENT_SECONDS,
            "models": list(grant.models),
            "analytics": list(grant.analytics),
            "outputs": list(grant.outputs),
            "tenantPacks": list(packs),
            "llm": sorted(
                {
                    name
                    for ref in self._catalog.pack_refs()
                    if ref.name in packs
                    for name in ref.adds.llm
                }
            ),
            "quotas": dict(claims.quotas) if claims else {},
            "features": policy.features.model_dump(mode="json"),
        }
        if decision is not None:
            answer |= {
                "cameraId": decision.camera_id,
                "hardwareId": decision.hardware_id,
                "growthPacks": list(decision.packs),
                "validUntil": decision.valid_until,
            }
        return answer

    async def usage(self, since: datetime | None, until: datetime | None) -> dict[str, Any]:
        """``GET /api/v1/usage/summary``: by default of this calendar month, UTC.

        Raises:
            InvalidInputError: an empty or reversed span.
        """
        now = datetime.now(UTC)
        start = since or now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        end = until or now
        if start >= end:
            raise InvalidInputError("since must be before until", reason="InvalidSpan")
        async with self._pool.connection() as connection:
            totals = await usage_totals(connection, start, end)
            metering = await metering_state(connection)
            quarantined = await quarantined_events(connection)
        policy = self._license.policy()
        claims = policy.snapshot.license if policy.decision.full else None
        quotas = claims.quotas if claims else {}
        used = {total.meter: total for total in totals}
        meters = []
        for name in sorted({*used, *quotas}):
            meter, total = self._catalog.meters.get(name), used.get(name)
            included = quotas.get(name)
            meters.append(
                {
                    "meter": name,
                    "title": meter.title if meter else name,
                    "unit": meter.unit if meter else "",
                    "events": total.events if total else 0,
                    "used": quantity_text(total.quantity if total else 0),
                    "included": included,
                    "limited": name in quotas and included is not None,
                }
            )
        return {
            "since": start.isoformat(),
            "until": end.isoformat(),
            "meters": meters,
            "devices": {"current": len(self._credentials.devices), "max": policy.max_devices},
            "cameras": {"current": policy.cameras_used, "max": camera_limit(policy)},
            "metering": {**metering.model_dump(mode="json"), "quarantined": quarantined},
        }

    async def state(self, since: int) -> InstanceState:
        """``GET /internal/v1/state``."""
        tenant = self._license.customer_id
        async with self._pool.connection() as connection:
            await mark_offline(connection, tenant)
        async with self._pool.connection() as connection:
            changes = await device_changes(connection, tenant, since=since)
            metering = await metering_state(connection)
        policy = self._license.policy()
        claims = policy.snapshot.license
        return InstanceState(
            revision=changes.revision,
            license=LicenseState(
                mode=policy.decision.mode,
                reason=policy.decision.reason,
                message=policy.decision.message,
                plan=policy.plan,
                expires_at=claims.exp if claims else None,
                sequence=policy.snapshot.sequence(TokenKind.LICENSE),
                seats_sequence=policy.snapshot.sequence(TokenKind.SEATS),
                key_set_number=policy.snapshot.sequence(TokenKind.KEY_SET),
            ),
            devices=changes.devices,
            device_use=Use(used=len(self._credentials.devices), limit=policy.max_devices),
            camera_use=Use(used=policy.cameras_used, limit=camera_limit(policy)),
            metering=metering,
            triton=self._loader.state,
            clone_alarm=self._clone_alarm(),
        )


def camera_limit(policy: Policy) -> int | None:
    """Return how many cameras may have a seat; None: the license sets no number."""
    claims = policy.snapshot.license
    if not policy.decision.full or claims is None:
        return None
    return claims.quotas.get(CAMERA_SEATS)


def validation_answer(decision: CameraDecision, tier: str) -> ValidationAnswer:
    """Return a decision as the validation endpoint answers it."""
    return ValidationAnswer(
        camera_id=decision.camera_id,
        valid=decision.allowed,
        mode=decision.mode,
        reason=decision.reason,
        message=decision.message,
        waived=decision.waived or None,
        tier=tier,
        hardware_id=decision.hardware_id,
        growth_packs=decision.packs,
        models=decision.grant.models,
        analytics=decision.grant.analytics,
        outputs=decision.grant.outputs,
        valid_until=decision.valid_until,
        upgrade_url=None if decision.allowed else UPGRADE_URL,
    )
