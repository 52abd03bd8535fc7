"""Tokens on request, first-generation validation, and what an entitlement question answers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from brinkbyte.billing.auth import InstanceCaller
from brinkbyte.billing.context import Context
from brinkbyte.billing.devices import repository as device_rows
from brinkbyte.billing.licenses import documents, issue, repository, settling
from brinkbyte.billing.licenses.issue import Customer, Issued
from brinkbyte.billing.quotas import entitlements as quotas
from brinkbyte.billing.rollout import service as rollout
from brinkbyte.billing.subscriptions.standing import Standing
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.claims import Revocation, SubscriptionStatus, TokenKind
from brinkbyte.license.modes import FULL_MODES, UPGRADE_URL, LicenseMode
from brinkbyte.license.wire import (
    EntitlementAnswer,
    EntitlementCheck,
    Held,
    Tokens,
    ValidateAnswer,
    ValidateRequest,
)


async def current_tokens(context: Context, caller: InstanceCaller, held: Held) -> Tokens | None:
    """Return what is newer than the caller holds, None when nothing is."""
    async with context.database.tenant(caller.tenant_id) as connection:
        await rollout.note_held(connection, context, caller, held.key_set_number)
    documents_now = await current_documents(context, caller.tenant_id, caller.instance_id, held)
    members = documents.newer(context, documents_now, held)
    if all(member is None for member in members.values()):
        return None
    return Tokens(server_time=context.now(), **members)


async def current_documents(
    context: Context, tenant_id: str, instance_id: str, held: Held
) -> dict[TokenKind, Issued]:
    """Return the newest documents, cut anew where they are stale.

    Seats are decided again first where terms, standing or revocations changed since: what is
    signed is what the customer may hold now, also while no operator sends an inventory.
    """
    # The first look takes no lock: almost always nothing has changed.
    for lock in (False, True):
        async with context.database.tenant(tenant_id) as connection:
            customer = await documents.load_customer(
                connection, context, tenant_id, instance_id, lock=lock
            )
            entries = await repository.revocations(connection, tenant_id)
            settled = settling.is_settled(context, customer, entries)
            if lock and not settled:
                await settling.settle_again(connection, context, customer)
            stored = await repository.issued(connection, tenant_id, instance_id)
            seats, _ = await repository.seats(connection, tenant_id)
            devices = await device_rows.declared(connection, tenant_id)
            stale = documents.stale_documents(
                context,
                customer,
                stored,
                seats=[seat for seat in seats.values() if seat.held_until is None],
                devices=documents.device_order(devices),
                entries=entries,
                held=held,
            )
            if settled and not stale:
                break
            if lock:
                stored = await documents.issue_documents(
                    connection, context, customer, stored, stale
                )
    return stored


async def license_waiting(context: Context, caller: InstanceCaller, held: Held) -> bool:
    """Tell whether a newer license or key set is waiting; cheap, for heartbeats."""
    if context.keyring.number > held.key_set_number:
        return True
    async with context.database.tenant(caller.tenant_id) as connection:
        customer = await documents.load_customer(
            connection, context, caller.tenant_id, caller.instance_id, lock=False
        )
        stored = await repository.issued(connection, caller.tenant_id, caller.instance_id)
        entries = await repository.revocations(connection, caller.tenant_id)
    license_ = stored.get(TokenKind.LICENSE)
    if license_ is not None and license_.token and license_.sequence > held.license_sequence:
        return True
    return bool(
        documents.stale_documents(
            context, customer, stored, seats=None, devices=(), entries=entries, held=held
        )
    )


def license_mode(customer: Customer, *, revoked: bool, now: int) -> LicenseMode:
    """Return the mode that an instance with the newest license is in."""
    return mode_of(customer.standing, revoked=revoked, now=now)


def mode_of(standing: Standing, *, revoked: bool, now: int) -> LicenseMode:
    """Return the mode that a subscription's standing leads to."""
    if revoked:
        return LicenseMode.REVOKED
    if standing.status_at(now) is SubscriptionStatus.SUSPENDED:
        return LicenseMode.SUSPENDED
    if standing.status is SubscriptionStatus.NONE:
        return LicenseMode.UNLICENSED
    if not standing.keeps(now):
        return LicenseMode.EXPIRED
    if not standing.active(now):
        return LicenseMode.GRACE
    return LicenseMode.TRIAL if standing.trialing else LicenseMode.ACTIVE


async def validate(
    context: Context, caller: InstanceCaller, request: ValidateRequest
) -> ValidateAnswer:
    """Answer the first generation's question: may this camera run on this device?

    Raises:
        ProblemError: 403 ``CustomerMismatch`` for another customer's name.
    """
    if request.tenant_id != caller.tenant_id:
        raise ProblemError(
            403,
            "the credential is another customer's; use the tenant_id it was made for",
            reason="CustomerMismatch",
        )
    now = context.now()
    async with context.database.tenant(caller.tenant_id) as connection:
        customer = await documents.load_customer(
            connection, context, caller.tenant_id, caller.instance_id, lock=False
        )
        seat = await repository.seat_of(connection, caller.tenant_id, request.camera_id)
        entries = await repository.revocations(connection, caller.tenant_id)
    ended = any(entry.kind is TokenKind.LICENSE for entry in entries)
    mode = license_mode(customer, revoked=ended, now=now)
    entitled = customer.entitlements
    reason = message = ""
    if mode not in FULL_MODES:
        reason = "LicenseRevoked" if ended else customer.standing.refusal(now)[0]
        message = f"the license is {mode}; see {UPGRADE_URL}"
    elif _camera_revoked(entries, request.camera_id):
        reason, message = "Revoked", f"{_REVOKED}; contact support"
    elif seat is None:
        reason, message = "NoSeat", "this camera has no seat; create its CameraLicense"
    elif seat.hardware_id != request.device_id:
        reason, message = "OtherDevice", "the seat of this camera is on another device"
    elif seat.until is not None and seat.until <= now:
        reason, message = "TrialEnded", f"the camera trial has ended; see {UPGRADE_URL}"
    valid = not reason and seat is not None
    end = None
    if valid and seat is not None:
        end = issue.camera_end(customer, seat.until, now)
        if mode is LicenseMode.GRACE:
            end += customer.standing.grace_seconds
    packs = sorted({*seat.packs, *entitled.tenant_packs}) if valid and seat is not None else []
    return ValidateAnswer(
        is_valid=valid,
        license_mode=mode.value,
        enabled_growth_packs=tuple(packs),
        valid_until=None if end is None else datetime.fromtimestamp(end, UTC).isoformat(),
        cameras_allowed=entitled.base_seats + entitled.trial_seats,
        reason=reason,
        message=message,
    )


async def check_entitlement(
    context: Context, caller: InstanceCaller, check: EntitlementCheck
) -> EntitlementAnswer:
    """Answer whether a model, analytic or output is enabled, or a meter's quota is left."""
    now = context.now()
    async with context.database.tenant(caller.tenant_id) as connection:
        customer = await documents.load_customer(
            connection, context, caller.tenant_id, caller.instance_id, lock=False
        )
        entries = await repository.revocations(connection, caller.tenant_id)
        seat = (
            None
            if check.camera_id is None
            else await repository.seat_of(connection, caller.tenant_id, check.camera_id)
        )
        counted = (
            await quotas.check_in(connection, context, caller.tenant_id, check)
            if check.kind == "meter"
            else None
        )
    ended = any(entry.kind is TokenKind.LICENSE for entry in entries)
    mode = license_mode(customer, revoked=ended, now=now)
    if mode not in FULL_MODES:
        reason = "LicenseRevoked" if ended else customer.standing.refusal(now)[0]
        return _refused(reason, f"the license is {mode}")
    if counted is not None:
        return counted
    if check.camera_id is not None:
        if _camera_revoked(entries, check.camera_id):
            return _refused("Revoked", _REVOKED)
        if seat is None:
            return _refused("NoSeat", "this camera has no seat; create its CameraLicense")
        if seat.until is not None and seat.until <= now:
            return _refused("TrialEnded", "the camera trial has ended")
    tenant_packs = customer.entitlements.tenant_packs
    packs = {*tenant_packs, *(seat.packs if seat is not None else ())}
    entitled = customer.entitlements
    base = seat is not None or entitled.base_seats + entitled.trial_seats > 0
    grant = issue.grant_of(context.catalog, sorted(packs), base=base)
    names = {"model": grant.models, "analytic": grant.analytics, "output": grant.outputs}
    if check.name in names[check.kind]:
        return EntitlementAnswer(allowed=True)
    return _refused(
        "NotLicensed", f"{check.kind} {check.name!r} is not in this license; add the growth pack"
    )


_REVOKED = "the vendor revoked the license of this camera"


def _camera_revoked(entries: Iterable[Revocation], camera_id: str) -> bool:
    return any(e.kind is TokenKind.CAMERA and e.subject == camera_id for e in entries)


def _refused(reason: str, message: str) -> EntitlementAnswer:
    return EntitlementAnswer(
        allowed=False,
        reason=reason,
        message=f"{message}. See {UPGRADE_URL}",
        upgrade_url=UPGRADE_URL,
    )
