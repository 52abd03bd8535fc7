"""Enrollment: a one-time token becomes an identity, kept in the operator's own namespace.

The key pair is written before the token is sent: whatever dies in between, the same token with the
same key is sent again and is answered again. The record outlives the Tenant until the billing API
has ended the instance.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from brinkbyte import __version__
from brinkbyte.client import BillingClient, BillingRefusedError
from brinkbyte.controller.children import secrets
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.identity import (
    CUSTOMER_KEY,
    NAME_KEY,
    NAMESPACE_KEY,
    UID_KEY,
    Identity,
    credential_due,
    proof,
    record_labels,
    record_name,
)
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import SigningKey, verify_key_set
from brinkbyte.license.wire import EnrollmentRequest, InstanceKeyRequest
from brinkbyte.resources import names
from brinkbyte.resources.conditions import Reason
from brinkbyte.resources.tenant import Tenant

_log = get_logger(__name__)


_ENDED_REASONS: Final = frozenset({"InstanceEnded", "Unauthorized", "CredentialRevoked"})
"""Nothing of the instance is left at the billing API, or nothing that this credential could end."""


class EnrollmentError(PermanentError):
    """The Tenant cannot be enrolled as it is; ``reason`` says why."""


async def load_identity(ctx: Context, uid: str) -> Identity | None:
    """Read a Tenant's record, or None."""
    live = await ctx.cluster.get("Secret", ctx.settings.operator_namespace, record_name(uid))
    return Identity.from_data(secrets.decode(live)) if live else None


async def save_identity(ctx: Context, identity: Identity) -> None:
    """Write a record, if it is not so already."""
    await ctx.cluster.ensure(
        secrets.record_secret(
            ctx.settings.operator_namespace,
            identity.record_name,
            {**record_labels(), names.LABEL_CUSTOMER: identity.customer_id},
            identity.to_data(),
        )
    )


def billing_client(ctx: Context, identity: Identity) -> BillingClient:
    """Return the client that speaks for an instance; it follows a rotated credential."""

    def credential() -> str:
        memory = ctx.tenants.get((identity.namespace, identity.name))
        current = memory.identity if memory is not None else None
        if current is not None and current.uid == identity.uid and current.credential:
            return current.credential
        return identity.credential

    return ctx.billing.get(identity.billing_url, identity.ca, credential, identity.uid)


async def read_ca(ctx: Context, tenant: Tenant) -> str:
    """Return the PEM text of the billing API's CA; empty: the system's CAs.

    Raises:
        EnrollmentError: the Secret is not there or has no ``ca.crt``.
    """
    billing = tenant.spec.billing
    if billing is None or billing.ca_secret_ref is None:
        return ""
    name = billing.ca_secret_ref.name
    live = await ctx.cluster.get("Secret", tenant.namespace, name)
    ca = secrets.decode(live).get(names.CA_KEY, "")
    if not ca.strip():
        raise EnrollmentError(
            f"spec.billing.caSecretRef: Secret {name} with the key {names.CA_KEY} is missing; "
            "create it with the CA of the billing API's certificate (PEM)",
            reason=Reason.CA_SECRET_MISSING,
        )
    return ca


async def ensure_identity(
    ctx: Context, tenant: Tenant, memory: TenantMemory, wake: Callable[[], None]
) -> None:
    """See to it that the Tenant has an identity (``memory.identity``) with a fresh credential.

    Args:
        ctx: dependencies.
        tenant: to enroll.
        memory: of the Tenant; gets the identity.
        wake: called when a call that was not waited for has ended.

    Raises:
        EnrollmentError, BillingRefusedError, KeySetError: somebody has to do something.
        StillAskingError: the billing API has not answered yet.
        TemporaryError: it is tried again.
    """
    billing = tenant.spec.billing
    if billing is None:
        raise EnrollmentError("spec.billing is missing", reason=Reason.NOT_SUPPORTED)
    identity = await load_identity(ctx, tenant.metadata.uid)
    if identity is None:
        identity = await recover(ctx, tenant)
    if identity is not None and identity.air_gap:
        # The site has got a line: it enrolls like any other, under the key pair that it has.
        identity = replace(identity, air_gap=False)
    if identity is not None and identity.enrolled:
        # What is known stays in force while the Secret with the CA is missing.
        memory.identity = memory.identity or identity
        ca = await read_ca(ctx, tenant)
        current = replace(identity, billing_url=billing.url, ca=ca, ending=False)
        if current != identity:
            await save_identity(ctx, current)
        memory.identity = current
        if credential_due(current, ctx.now):
            await memory.enrolling.ask(
                lambda: rotate_credential(ctx, memory, current),
                about=("rotate", current.billing_url, current.ca, current.credential),
                wake=wake,
            )
        return
    await memory.enrolling.ask(
        lambda: enroll(ctx, tenant, memory, identity),
        about=("enroll", tenant.metadata.uid, tenant.metadata.generation),
        wake=wake,
    )


async def recover(ctx: Context, tenant: Tenant) -> Identity | None:
    """Rebuild a lost record from the Tenant's identity Secret, if that is whole."""
    live = await ctx.cluster.get(
        "Secret", tenant.namespace, f"{tenant.name}{names.IDENTITY_SUFFIX}"
    )
    owners = (live or {}).get("metadata", {}).get("ownerReferences", ())
    if not any(owner.get("uid") == tenant.metadata.uid for owner in owners):
        return None
    data = secrets.decode(live)
    data |= {
        UID_KEY: tenant.metadata.uid,
        NAMESPACE_KEY: tenant.namespace,
        NAME_KEY: tenant.name,
        CUSTOMER_KEY: tenant.spec.customer_id,
    }
    identity = Identity.from_data(data)
    if identity is None or not (identity.enrolled or identity.air_gap):
        return None
    _log.warning(
        "enrollment record was lost; rebuilt", namespace=tenant.namespace, name=tenant.name
    )
    await save_identity(ctx, identity)
    return identity


async def _enrollment_token(ctx: Context, tenant: Tenant) -> str:
    billing = tenant.spec.billing
    if billing is None:
        raise EnrollmentError("spec.billing is missing", reason=Reason.NOT_SUPPORTED)
    name = billing.enrollment_secret_ref.name
    live = await ctx.cluster.get("Secret", tenant.namespace, name)
    if live is None:
        raise EnrollmentError(
            f"spec.billing.enrollmentSecretRef: Secret {name} is missing; create it with the "
            f"enrollment token: kubectl create secret generic {name} --type="
            f"{names.ENROLLMENT_SECRET_TYPE} --from-literal={names.ENROLLMENT_TOKEN_KEY}=…",
            reason=Reason.ENROLLMENT_SECRET_MISSING,
        )
    if live.get("type") != names.ENROLLMENT_SECRET_TYPE:
        # Otherwise whoever may write a Tenant could send any Secret of the namespace anywhere.
        raise EnrollmentError(
            f"spec.billing.enrollmentSecretRef: Secret {name} is not of type "
            f"{names.ENROLLMENT_SECRET_TYPE}; delete it and create it with that type",
            reason=Reason.ENROLLMENT_SECRET_WRONG_TYPE,
        )
    token = secrets.decode(live).get(names.ENROLLMENT_TOKEN_KEY, "").strip()
    if not 16 <= len(token) <= 256:
        raise EnrollmentError(
            f"Secret {name} holds no enrollment token under the key {names.ENROLLMENT_TOKEN_KEY}; "
            "put in the token that the vendor gave",
            reason=Reason.ENROLLMENT_SECRET_EMPTY,
        )
    return token


async def enroll(
    ctx: Context, tenant: Tenant, memory: TenantMemory, known: Identity | None
) -> Identity:
    """Exchange the enrollment token for an identity.

    Args:
        ctx: dependencies.
        tenant: to enroll.
        memory: of the Tenant; gets the identity.
        known: record with the key pair, if one was written already.
    """
    billing = tenant.spec.billing
    if billing is None:
        raise EnrollmentError("spec.billing is missing", reason=Reason.NOT_SUPPORTED)
    token = await _enrollment_token(ctx, tenant)
    ca = await read_ca(ctx, tenant)
    if known is None:
        key = await asyncio.to_thread(SigningKey.generate, [TokenKind.ENROLLMENT])
        known = Identity(
            uid=tenant.metadata.uid,
            namespace=tenant.namespace,
            name=tenant.name,
            customer_id=tenant.spec.customer_id,
            private_key=key.to_pem().decode(),
        )
    known = replace(known, billing_url=billing.url, ca=ca)
    await save_identity(ctx, known)
    failpoint("enroll.key_stored")
    client = ctx.billing.get(billing.url, ca, None, tenant.metadata.uid)
    # Whoever answers there proves to be the vendor's before the token is sent.
    document = json.dumps(await _counted(ctx, "keys", client.keys()))
    verify_key_set(document, ctx.roots.keys, now=ctx.now)
    answer = await _counted(
        ctx,
        "enroll",
        client.enroll(
            EnrollmentRequest(
                token=token,
                customer_id=tenant.spec.customer_id,
                public_key=known.key.jwk,
                proof=proof(known.key, hashlib.sha256(token.encode()).hexdigest(), now=ctx.now),
                name=f"{tenant.namespace}.{tenant.name}",
                uid=tenant.metadata.uid,
                cluster_fingerprint=await ctx.cluster_fingerprint(),
                version=__version__,
            )
        ),
    )
    failpoint("enroll.answered")
    key_set = json.dumps(answer.key_set, separators=(",", ":"), sort_keys=True)
    verify_key_set(key_set, ctx.roots.keys, now=ctx.now)
    if answer.customer_id != tenant.spec.customer_id:
        raise EnrollmentError(
            f"the enrollment token is of customer {answer.customer_id}; correct spec.customerId "
            "(create the Tenant anew) or ask for a token of this customer",
            reason=Reason.CUSTOMER_MISMATCH,
        )
    identity = replace(
        known,
        instance_id=answer.instance_id,
        credential=answer.credential,
        credential_expires_at=answer.credential_expires_at,
        credential_issued_at=ctx.now,
        token_hash=hashlib.sha256(token.encode()).hexdigest(),
        key_set=key_set,
    )
    await save_identity(ctx, identity)
    memory.identity = identity
    _log.info(
        "enrolled",
        namespace=tenant.namespace,
        name=tenant.name,
        instance=identity.instance_id,
    )
    return identity


async def reenroll_if_renewed(
    ctx: Context, tenant: Tenant, memory: TenantMemory, identity: Identity
) -> bool:
    """Enroll again when the credential is refused and a new enrollment token was put in.

    Returns:
        whether there is a new identity.
    """
    token = await _enrollment_token(ctx, tenant)
    if hashlib.sha256(token.encode()).hexdigest() == identity.token_hash:
        return False
    await enroll(ctx, tenant, memory, identity)
    return True


async def rotate_credential(ctx: Context, memory: TenantMemory, identity: Identity) -> Identity:
    """Exchange the credential; the old one stays good for a day, so a kill here is harmless."""
    answer = await _counted(
        ctx, "rotate_credential", billing_client(ctx, identity).rotate_credential()
    )
    renewed = replace(
        identity,
        credential=answer.credential,
        credential_expires_at=answer.credential_expires_at,
        credential_issued_at=ctx.now,
    )
    await save_identity(ctx, renewed)
    memory.identity = renewed
    return renewed


async def register_key(ctx: Context, identity: Identity) -> None:
    """Tell the billing API that the instance has another key pair; tokens are cut anew for it."""
    request = InstanceKeyRequest(
        public_key=identity.key.jwk, proof=proof(identity.key, identity.instance_id, now=ctx.now)
    )
    await _counted(ctx, "register_key", billing_client(ctx, identity).register_key(request))


async def end_instance(ctx: Context, identity: Identity) -> None:
    """Tell the billing API that the instance is gone, then drop the record.

    Without a line nobody can be told: the vendor frees such an instance by hand.

    Raises:
        TemporaryError: it is tried again; the record stays.
    """
    if identity.enrolled and not identity.air_gap:
        try:
            await _counted(ctx, "end_instance", billing_client(ctx, identity).end_instance())
        except BillingRefusedError as error:
            # A proxy in between refuses too: only the billing API can say that it has ended.
            if error.reason not in _ENDED_REASONS:
                raise
            # It does not know this instance (any more): nothing is left to free.
            _log.info("instance had ended already", instance=identity.instance_id)
    await ctx.cluster.delete("Secret", ctx.settings.operator_namespace, identity.record_name)


async def _counted(ctx: Context, operation: str, call: Any) -> Any:
    try:
        answer = await call
    except Exception:
        ctx.metrics.billing_calls.labels(operation, "error").inc()
        raise
    ctx.metrics.billing_calls.labels(operation, "ok").inc()
    return answer
