"""Rules of enrollment, credentials, key pairs and the end of an instance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import jwt

from brinkbyte.billing import audit
from brinkbyte.billing.auth import (
    INSTANCE_FAMILIES,
    INSTANCE_SCOPES,
    Credential,
    InstanceCaller,
    Scope,
    find_credential,
    scope_names,
)
from brinkbyte.billing.clones import repository as clone_rows
from brinkbyte.billing.context import Context
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.devices import repository as device_rows
from brinkbyte.billing.instances import repository
from brinkbyte.billing.licenses import repository as license_rows
from brinkbyte.billing.licenses.holdings import SeatChange
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import PublicJwk
from brinkbyte.license.wire import (
    CredentialRotation,
    Enrollment,
    EnrollmentRequest,
    InstanceKeyRequest,
)

CREDENTIAL_LIFE: Final = timedelta(days=90)
OVERLAP: Final = timedelta(hours=24)
_PROOF_LEEWAY: Final = 300
_MAX_PROOF_LIFE: Final = 86_400


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def check_key(key: PublicJwk) -> None:
    """Refuse a public key that is weak or not what its id says.

    Raises:
        ProblemError: 422 ``WeakKey`` or ``MalformedKey``.
    """
    try:
        key.public_key  # noqa: B018 - building the key is the check
    except PermanentError as error:
        raise ProblemError(422, error.message, reason=error.reason) from None
    except ValueError:
        raise ProblemError(
            422, "publicKey is not an RSA key; make a new key pair", reason="MalformedKey"
        ) from None


def proof_id(proof: str, key: PublicJwk, subject: str, now: int) -> str | None:
    """Return the id of a proof made now, for this subject, by the owner of the key; else None."""
    try:
        header = jwt.get_unverified_header(proof)
        if header.get("typ") != TokenKind.ENROLLMENT.typ or header.get("alg") != "RS256":
            return None
        claims: Mapping[str, Any] = jwt.decode(
            proof,
            key.public_key,
            algorithms=["RS256"],
            options={
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_aud": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    issued, end, jti = claims.get("iat"), claims.get("exp"), claims.get("jti")
    if not isinstance(issued, int) or not isinstance(end, int) or claims.get("sub") != subject:
        return None
    in_time = issued <= now + _PROOF_LEEWAY and now - _PROOF_LEEWAY < end
    if not in_time or end - issued > _MAX_PROOF_LIFE:
        return None
    return jti if isinstance(jti, str) and jti else None


async def enroll(context: Context, request: EnrollmentRequest) -> Enrollment:
    """Exchange a one-time token for an instance and its credential.

    The credential is a function of token and proof: the same request again, after a lost answer,
    gets the same one, and a proof that somebody else sends again makes nothing new.

    Raises:
        ProblemError: see :class:`EnrollmentRequest`.
    """
    now = context.now()
    async with context.database.nobody() as connection:
        found = await find_credential(connection, context.secrets.hash(request.token))
    tenant_id, credential_id = _check_token(found, request, now)
    check_key(request.public_key)
    subject = hashlib.sha256(request.token.encode()).hexdigest()
    proof = proof_id(request.proof, request.public_key, subject, now)
    if proof is None:
        raise ProblemError(
            401,
            "the proof is not by this key, not for this token, or its time is off; check the "
            "clock and enroll again",
            reason="EnrollmentInvalid",
        )
    context.keyring.refresh()
    async with context.database.tenant(tenant_id) as connection:
        await customers.lock(connection, tenant_id)
        secret = context.secrets.derive("instance", request.token, proof)
        instance_id, expires_at = await _redeem(
            connection, context, tenant_id, credential_id, request, secret
        )
        failpoint("enroll.before_commit")
    failpoint("enroll.committed")
    return Enrollment(
        instance_id=instance_id,
        customer_id=tenant_id,
        credential=secret,
        credential_expires_at=int(expires_at.timestamp()),
        key_set=context.keyring.document,
    )


def _check_token(
    found: Credential | None, request: EnrollmentRequest, now: int
) -> tuple[str, UUID]:
    if (
        found is None
        or found.tenant_id is None
        or Scope.ENROLL not in found.scopes
        or found.revoked_at is not None
    ):
        raise ProblemError(
            401,
            "the enrollment token is not known; make a new one in the portal and put it into the "
            "enrollment Secret",
            reason="EnrollmentInvalid",
        )
    if found.tenant_id != request.customer_id:
        raise ProblemError(
            403,
            f"the enrollment token is not for customer {request.customer_id}; correct "
            "spec.customerId or use that customer's token",
            reason="CustomerMismatch",
        )
    if found.expires_at <= _at(now):
        raise ProblemError(
            410,
            "the enrollment token has ended; make a new one and put it into the enrollment Secret",
            reason="EnrollmentExpired",
        )
    return found.tenant_id, found.credential_id


async def _redeem(  # noqa: PLR0917 - private, called once
    connection: Connection,
    context: Context,
    tenant_id: str,
    credential_id: UUID,
    request: EnrollmentRequest,
    secret: str,
) -> tuple[str, datetime]:
    """Return the instance that the token makes, or made before for the same key.

    Returns:
        The instance id and when the credential ends.
    """
    now = _at(context.now())
    enrollment = await repository.lock_enrollment(connection, tenant_id, credential_id)
    live = await repository.live(connection, tenant_id)
    if enrollment is None:
        raise AssertionError("an enrollment credential without its enrollment")
    if enrollment["used_at"] is not None:
        instance_id: str = enrollment["instance_id"]
        same = enrollment["used_key_id"] == request.public_key.kid
        if same and live is not None and live["instance_id"] == instance_id:
            return instance_id, await _repeat(
                connection, context, tenant_id, credential_id, instance_id, secret
            )
        raise ProblemError(
            409,
            "the enrollment token was used already; make a new one and put it into the "
            "enrollment Secret",
            reason="EnrollmentUsed",
        )
    if live is not None:
        _check_replaceable(live, enrollment, request)
        await repository.end(connection, tenant_id, live["instance_id"], "EnrolledAgain", now)
        await repository.limit_credentials(
            connection, tenant_id, live["instance_id"], expires_at=now + OVERLAP
        )
    instance_id = f"inst-{uuid4()}"
    await repository.insert(connection, tenant_id, instance_id, request, now)
    await clone_rows.see_cluster(
        connection, tenant_id, instance_id, request.cluster_fingerprint, now
    )
    await repository.use_enrollment(
        connection,
        tenant_id,
        credential_id,
        key_id=request.public_key.kid,
        instance_id=instance_id,
        now=now,
    )
    await audit.record(
        connection,
        tenant_id,
        now=context.now(),
        actor=f"enrollment:{credential_id}",
        action="instance.enrolled",
        subject=instance_id,
        details={
            "name": request.name,
            "keyId": request.public_key.kid,
            "replaces": None if live is None else live["instance_id"],
        },
    )
    return instance_id, await _add_credential(connection, context, tenant_id, instance_id, secret)


async def _repeat(  # noqa: PLR0917 - private, called once
    connection: Connection,
    context: Context,
    tenant_id: str,
    credential_id: UUID,
    instance_id: str,
    secret: str,
) -> datetime:
    """Return the end of the credential of a repeated enrollment; a new proof makes a new one.

    Those of before then end within the overlap, as in a rotation.
    """
    known = await repository.credential_end(connection, tenant_id, context.secrets.hash(secret))
    if known is not None:
        return known
    await repository.limit_credentials(
        connection, tenant_id, instance_id, expires_at=_at(context.now()) + OVERLAP
    )
    await audit.record(
        connection,
        tenant_id,
        now=context.now(),
        actor=f"enrollment:{credential_id}",
        action="enrollment.repeated",
        subject=instance_id,
    )
    return await _add_credential(connection, context, tenant_id, instance_id, secret)


def _check_replaceable(live: Row, enrollment: Row, request: EnrollmentRequest) -> None:
    same_cluster = live["cluster_fingerprint"] == request.cluster_fingerprint
    same_tenant = live["uid"] == request.uid or live["name"] == request.name
    if not enrollment["replace"] and not (same_cluster and same_tenant):
        raise ProblemError(
            409,
            f"customer {request.customer_id} has a live instance {live['instance_id']} "
            f"({live['name']}); delete that Tenant first, or make the token with --replace",
            reason="InstanceExists",
            instance=live["instance_id"],
            name=live["name"],
        )


async def _add_credential(
    connection: Connection, context: Context, tenant_id: str, instance_id: str, secret: str
) -> datetime:
    now = _at(context.now())
    await repository.add_credential(
        connection,
        tenant_id,
        uuid4(),
        kind="instance",
        instance_id=instance_id,
        secret_hash=context.secrets.hash(secret),
        scopes=scope_names(INSTANCE_SCOPES),
        families=INSTANCE_FAMILIES,
        now=now,
        expires_at=now + CREDENTIAL_LIFE,
    )
    return now + CREDENTIAL_LIFE


async def rotate_credential(context: Context, caller: InstanceCaller) -> CredentialRotation:
    """Make a new credential; those of before are good for 24 hours more."""
    now = context.now()
    async with context.database.tenant(caller.tenant_id) as connection:
        await customers.lock(connection, caller.tenant_id)
        await repository.limit_credentials(
            connection, caller.tenant_id, caller.instance_id, expires_at=_at(now) + OVERLAP
        )
        secret = context.secrets.create("instance")
        expires_at = await _add_credential(
            connection, context, caller.tenant_id, caller.instance_id, secret
        )
        await audit.record(
            connection,
            caller.tenant_id,
            now=now,
            actor=caller.actor,
            action="credential.rotated",
            subject=caller.instance_id,
        )
    return CredentialRotation(credential=secret, credential_expires_at=int(expires_at.timestamp()))


async def register_key(
    context: Context, caller: InstanceCaller, request: InstanceKeyRequest
) -> None:
    """Register a new instance key pair; tokens are cut for it from now on.

    Raises:
        ProblemError: 401 ``ProofInvalid``; 422 for a key that is weak or malformed.
    """
    now = context.now()
    check_key(request.public_key)
    if proof_id(request.proof, request.public_key, caller.instance_id, now) is None:
        raise ProblemError(
            401,
            "the proof is not by this key, not for this instance, or its time is off; check the "
            "clock and register the key again",
            reason="ProofInvalid",
        )
    async with context.database.tenant(caller.tenant_id) as connection:
        await customers.lock(connection, caller.tenant_id)
        known = await repository.keys(connection, caller.tenant_id, caller.instance_id)
        await repository.add_key(
            connection, caller.tenant_id, caller.instance_id, request.public_key, _at(now)
        )
        if request.public_key.kid not in known:
            await audit.record(
                connection,
                caller.tenant_id,
                now=now,
                actor=caller.actor,
                action="instance.key_registered",
                subject=caller.instance_id,
                details={"keyId": request.public_key.kid},
            )


async def end_instance(context: Context, caller: InstanceCaller) -> None:
    """Free everything of an instance and end it; the same call again changes nothing."""
    now = context.now()
    async with context.database.tenant(caller.tenant_id) as connection:
        await free_instance(
            connection,
            caller.tenant_id,
            caller.instance_id,
            reason="Deleted",
            actor=caller.actor,
            now=now,
        )


async def free_instance(
    connection: Connection,
    tenant_id: str,
    instance_id: str,
    *,
    reason: str,
    actor: str,
    now: int,
) -> bool:
    """End an instance: devices forgotten, seats free at once; False if it had ended."""
    await customers.lock(connection, tenant_id)
    if not await repository.end(connection, tenant_id, instance_id, reason, _at(now)):
        return False
    await repository.limit_credentials(
        connection, tenant_id, instance_id, expires_at=_at(now) + OVERLAP
    )
    seats, _ = await license_rows.seats(connection, tenant_id)
    await license_rows.add_history(
        connection,
        tenant_id,
        [SeatChange("freed", s, reason) for s in seats.values() if s.held_until is None],
        actor=actor,
        now=now,
    )
    await license_rows.remove_seats(connection, tenant_id, seats)
    cameras = await license_rows.declared_cameras(connection, tenant_id)
    await license_rows.remove_cameras(connection, tenant_id, [c.name for c in cameras])
    devices = await device_rows.declared(connection, tenant_id)
    await device_rows.remove(connection, tenant_id, [d.name for d in devices])
    await audit.record(
        connection,
        tenant_id,
        now=now,
        actor=actor,
        action="instance.ended",
        subject=instance_id,
        details={"reason": reason, "seats": len(seats), "devices": len(devices)},
    )
    return True
