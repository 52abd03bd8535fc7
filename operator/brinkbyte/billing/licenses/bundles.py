"""Bundles: what a site without a line gets in answer to the request that somebody carried here.

The inventory is decided by the same code as one that came over the line. What differs is the term:
documents go on until the contract ends, at most 400 days, as nobody can renew them before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import jwt

from brinkbyte.billing import audit
from brinkbyte.billing.context import Context
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.lookup import unknown_customer
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.instances import repository as instances
from brinkbyte.billing.licenses import bundle_rows, documents, issue
from brinkbyte.billing.licenses.inventory import answer_inventory
from brinkbyte.billing.rollout import repository as rollout
from brinkbyte.billing.subscriptions import history
from brinkbyte.billing.subscriptions.standing import Standing, standing_of
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.license.bundle import (
    AskedCamera,
    AskedDevice,
    BundleContent,
    content_bytes,
    write_bundle,
)
from brinkbyte.license.claims import ISSUER, BundleClaims, Confirmation
from brinkbyte.license.request import SiteRequest
from brinkbyte.license.wire import InventoryAnswer

_DAYS: Final = issue.BUNDLE_SECONDS // issue.DAY


class BundleRefusedError(PermanentError):
    """No bundle can be made of a request as things are; ``reason`` says why."""


@dataclass(frozen=True)
class MadeBundle:
    """A bundle for a site.

    Attributes:
        text: of the file.
        new: False: the same request had been answered before, this is the same answer.
    """

    text: str
    claims: BundleClaims
    content: BundleContent
    new: bool


async def make_bundle(
    context: Context,
    request: SiteRequest,
    *,
    actor: str,
    until: int | None = None,
    replace_instance: bool = False,
) -> MadeBundle:
    """Answer a verified request.

    Args:
        context: dependencies; the database as the administration's role.
        request: see :func:`~brinkbyte.license.request.read_request`.
        actor: for the audit log.
        until: Unix seconds; the end of the last day, before the contract's end.
        replace_instance: may end a live instance elsewhere.

    Raises:
        BundleRefusedError: reason ``NoContractEnd``, ``UntilInvalid``, ``InstanceExists``,
            ``RequestOutdated``, ``OfflineModeOff``, or why the customer gets no license.
        ProblemError: reason ``UnknownCustomer``, or what an inventory is refused for.
    """
    now, tenant_id = context.now(), request.claims.sub
    context.keyring.refresh()
    async with context.database.tenant(tenant_id) as connection:
        row = await customers.lock(connection, tenant_id)
        if row is None:
            raise unknown_customer(tenant_id)
        if row["flags"].get("offline_mode") is False:
            raise BundleRefusedError(
                f"offline use is switched off for customer {tenant_id}, and a bundle is nothing "
                "else; switch it on with `billing admin flags set offline_mode=true`",
                reason="OfflineModeOff",
            )
        standing = standing_of(await history.current(connection, context.catalog, tenant_id, now))
        term = issue.bundle_term(_end(standing, until, now))
        instance = await _instance(
            connection, context, request, replace_instance=replace_instance, actor=actor
        )
        customer = documents.customer_of(context, row, instance, standing)
        customer = replace(customer, instance=replace(customer.instance, term=term))
        answer = await answer_inventory(
            connection, context, customer, request.inventory, actor=actor, whole=True
        )
        made = await _bundle(connection, context, request, answer, instance)
        await rollout.note_bundle(
            connection,
            tenant_id,
            made.claims.aud,
            number=made.claims.key_set_number,
            key_ids=_signers(answer),
            expires_at=_at(made.claims.exp),
        )
        if made.new:
            await audit.record(
                connection,
                tenant_id,
                now=now,
                actor=actor,
                action="bundle.made",
                subject=made.claims.aud,
                details={
                    "requestId": request.claims.jti,
                    "sequence": made.claims.bundle_sequence,
                    "until": made.claims.exp,
                    "refused": len(_refused(answer)),
                },
            )
        failpoint("bundle.before_commit")
    return made


def _end(standing: Standing, until: int | None, now: int) -> int:
    """Return when the documents of a bundle end at the latest, Unix seconds."""
    if not standing.active(now):
        reason, message = standing.refusal(now)
        raise BundleRefusedError(f"{message}; then make the bundle", reason=reason)
    contract = standing.ends_at
    if until is None:
        if contract is None:
            raise BundleRefusedError(
                "the contract of this customer renews and has no end that a bundle could end "
                "with; give --until DATE (the end of what is paid), or set a fixed term with "
                "`billing admin subscription set --hard-end`",
                reason="NoContractEnd",
            )
        return contract
    if until <= now:
        raise BundleRefusedError(
            "--until has passed; give a date in the future", reason="UntilInvalid"
        )
    # A day is given; what ends within it ends when it ends.
    if contract is not None and until - issue.DAY >= contract:
        raise BundleRefusedError(
            f"--until lies beyond the end of the contract, {_day(contract)}; give an earlier date, "
            "or leave it out",
            reason="UntilInvalid",
        )
    if until - issue.DAY > now + issue.BUNDLE_SECONDS:
        raise BundleRefusedError(
            f"a bundle is good for at most {_DAYS} days; give --until "
            f"{_day(now + issue.BUNDLE_SECONDS)} or earlier",
            reason="UntilInvalid",
        )
    return until if contract is None else min(until, contract)


async def _instance(
    connection: Connection,
    context: Context,
    request: SiteRequest,
    *,
    replace_instance: bool,
    actor: str,
) -> Row:
    """Return the instance of the site: found again by its key, or made."""
    tenant_id, now = request.claims.sub, _at(context.now())
    live = await instances.live(connection, tenant_id)
    at = _at(request.claims.iat)
    if live is not None:
        _check(live, request, replace_instance=replace_instance, at=at)
        if _same_site(live, request):
            if not live["air_gapped"]:
                # Whoever has no line uses no credential; one in use would shorten the licenses.
                await instances.limit_credentials(
                    connection, tenant_id, live["instance_id"], expires_at=now
                )
            await bundle_rows.requested(connection, tenant_id, live["instance_id"], request, at)
            return live
        await instances.end(connection, tenant_id, live["instance_id"], "RequestedAgain", now)
        await instances.limit_credentials(
            connection, tenant_id, live["instance_id"], expires_at=now
        )
    instance_id = f"inst-{uuid4()}"
    await bundle_rows.insert_instance(connection, tenant_id, instance_id, request, now)
    await bundle_rows.requested(connection, tenant_id, instance_id, request, at)
    await audit.record(
        connection,
        tenant_id,
        now=context.now(),
        actor=actor,
        action="instance.requested",
        subject=instance_id,
        details={
            "name": request.claims.name,
            "keyId": request.public_key.kid,
            "replaces": None if live is None else live["instance_id"],
        },
    )
    made = await instances.find(connection, tenant_id, instance_id)
    if made is None:
        raise AssertionError("an instance that was just made is not there")
    return made


def _same_cluster(live: Row, request: SiteRequest) -> bool:
    same: bool = live["cluster_fingerprint"] == request.claims.cluster_fingerprint
    return same


def _same_site(live: Row, request: SiteRequest) -> bool:
    return bool(live["key_id"] == request.public_key.kid and _same_cluster(live, request))


def _check(live: Row, request: SiteRequest, *, replace_instance: bool, at: datetime) -> None:
    """Refuse a request that may not take the place of the live instance, or that is a former one.

    Raises:
        BundleRefusedError: reason ``InstanceExists`` or ``RequestOutdated``.
    """
    if replace_instance:
        return
    claims = request.claims
    same_tenant = live["uid"] == claims.uid or live["name"] == claims.name
    if not _same_site(live, request) and not (_same_cluster(live, request) and same_tenant):
        raise BundleRefusedError(
            f"customer {claims.sub} has a live instance {live['instance_id']} ({live['name']}) "
            "elsewhere; delete that Tenant first and free it with `billing admin instances free`, "
            "or make the bundle with --replace",
            reason="InstanceExists",
            instance=live["instance_id"],
            name=live["name"],
        )
    if live["requested_at"] is not None and at < live["requested_at"]:
        raise BundleRefusedError(
            "a newer request of this site was answered before; ask for the newest one, or, if the "
            "clock of the site was ahead then, make the bundle with --replace",
            reason="RequestOutdated",
        )


async def _bundle(
    connection: Connection,
    context: Context,
    request: SiteRequest,
    answer: InventoryAnswer,
    instance: Row,
) -> MadeBundle:
    tenant_id, instance_id, now = request.claims.sub, instance["instance_id"], context.now()
    if answer.license is None:
        raise AssertionError("a customer in good standing without a license")
    license_: dict[str, Any] = jwt.decode(answer.license, options={"verify_signature": False})
    content = _content(request, answer, at=license_["iat"])
    data = content_bytes(content)
    number = context.keyring.number
    same_as = hashlib.sha256(f"{number}:{instance['key_id']}:".encode() + data).digest()
    last = await bundle_rows.newest(connection, tenant_id, instance_id)
    new = last is None or bytes(last["content_hash"]) != same_as
    sequence, issued, request_id = (
        issue.next_sequence(last["sequence"] if last else 0, context.clock()),
        now,
        request.claims.jti,
    )
    if last is not None and not new:
        sequence, issued = last["sequence"], int(last["issued_at"].timestamp())
        request_id = last["request_id"]
    claims = BundleClaims(
        iss=ISSUER,
        sub=tenant_id,
        aud=instance_id,
        jti=f"bundle-{sequence}",
        iat=issued,
        nbf=issued,
        exp=license_["exp"],
        cnf=Confirmation(jkt=request.public_key.kid),
        customer_id=tenant_id,
        bundle_sequence=sequence,
        request_id=request_id,
        key_set_number=number,
        content_sha256=hashlib.sha256(data).hexdigest(),
    )
    if new:
        await bundle_rows.insert(
            connection,
            tenant_id,
            instance_id,
            sequence=sequence,
            request_id=request_id,
            content_hash=same_as,
            issued_at=_at(now),
            expires_at=_at(claims.exp),
        )
    # The signature is a function of key and claims, so the same claims are the same bundle.
    (manifest,) = await documents.sign_all(context, [claims])
    return MadeBundle(write_bundle(manifest, data, context.keyring.document), claims, content, new)


def _content(request: SiteRequest, answer: InventoryAnswer, *, at: int) -> BundleContent:
    """Return the answer with what was asked; nothing in it depends on when it is made."""
    refused = {each.camera_id for each in answer.cameras if each.status == "refused"}
    members = {name: getattr(answer, name) for name in InventoryAnswer.model_fields}
    return BundleContent.model_validate(
        {
            **members,
            "server_time": at,
            "key_set": None,
            "asked_devices": [
                AskedDevice(hardware_id=each.hardware_id, management_tier=each.management_tier)
                for each in request.inventory.devices
            ],
            "asked_cameras": [
                AskedCamera(
                    camera_id=each.camera_id,
                    hardware_id=each.hardware_id,
                    mode=each.mode,
                    growth_packs=each.growth_packs,
                )
                for each in request.inventory.cameras
                if each.camera_id in refused
            ],
        }
    )


def _signers(answer: InventoryAnswer) -> set[str]:
    """Return the ids of the keys that signed what a bundle holds."""
    tokens = [answer.license, answer.seats, answer.revocations]
    tokens += [each.token for each in answer.cameras]
    return {str(jwt.get_unverified_header(token)["kid"]) for token in tokens if token}


def _refused(answer: InventoryAnswer) -> list[str]:
    named: Iterable[tuple[str, str]] = (
        *((each.hardware_id, each.status) for each in answer.devices),
        *((each.camera_id, each.status) for each in answer.cameras),
    )
    return [name for name, status in named if status == "refused"]


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _day(seconds: int) -> str:
    return _at(seconds).strftime("%Y-%m-%d")
