"""A site without a line: it asks with a file, and a bundle in a Secret is the answer.

The operator signs the request, so nobody else ever needs the private key; whoever carries it out
needs to read one Secret that holds nothing secret. The bundle is verified as if it had come over a
line: whoever wrote the Secret, only what the vendor signed for this key pair counts, a bad or older
one changes nothing, and without the Secret everything goes on that was taken in.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from brinkbyte import __version__
from brinkbyte.controller import enrollment
from brinkbyte.controller.bundle_results import Verified, judge
from brinkbyte.controller.children import secrets
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.documents import Documents, merge_documents
from brinkbyte.controller.identity import Identity, new_id
from brinkbyte.controller.licenses import license_secret
from brinkbyte.controller.member_licenses import wanted_of, write_guarded
from brinkbyte.controller.member_pass import Pass
from brinkbyte.controller.queue import Key
from brinkbyte.controller.roster import Member
from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.kit.errors import BrinkByteError, PermanentError
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.bundle import Bundle, check_for, check_newer, read_bundle
from brinkbyte.license.claims import CameraClaims, TokenKind
from brinkbyte.license.keys import SigningKey
from brinkbyte.license.request import (
    RequestClaims,
    RequestError,
    SiteRequest,
    inventory_bytes,
    read_request,
    sign_request,
)
from brinkbyte.license.tokens import TokenError
from brinkbyte.license.wire import InventoryRequest
from brinkbyte.resources import names
from brinkbyte.resources.bundles import from_secrets, is_bundle, part_names
from brinkbyte.resources.conditions import Reason
from brinkbyte.resources.tenant import Tenant

_log = get_logger(__name__)


def bundle_secret(tenant: Tenant) -> str:
    """Return the name of the Secret with the bundle; empty for a site with a line."""
    if tenant.spec.billing is not None or tenant.spec.license is None:
        return ""
    return tenant.spec.license.bundle_secret_ref.name


# ---- identity ----------------------------------------------------------------------------------


async def ensure_identity(ctx: Context, tenant: Tenant, memory: TenantMemory) -> None:
    """See to it that the Tenant has a key pair, and the identity that its newest bundle gives it.

    Args:
        ctx: dependencies.
        tenant: of a site without a line.
        memory: of the Tenant; gets identity and bundle.

    Raises:
        PermanentError: there is no (good) bundle; what was taken in before stays.
        TemporaryError: the cluster does not answer.
    """
    known = await enrollment.load_identity(ctx, tenant.metadata.uid)
    if known is None:
        known = await enrollment.recover(ctx, tenant)
    identity = known
    if identity is None:
        key = await asyncio.to_thread(SigningKey.generate, [TokenKind.ENROLLMENT])
        identity = Identity(
            uid=tenant.metadata.uid,
            namespace=tenant.namespace,
            name=tenant.name,
            customer_id=tenant.spec.customer_id,
            private_key=key.to_pem().decode(),
        )
    # Of a line that there was nothing is kept that could still speak for the instance.
    identity = replace(
        identity,
        air_gap=True,
        ending=False,
        billing_url="",
        ca="",
        credential="",
        credential_expires_at=0,
        credential_issued_at=0,
        token_hash="",
    )
    problem: PermanentError | None = None
    try:
        memory.bundle = await _read(ctx, tenant, memory, identity)
        identity = replace(
            identity,
            instance_id=memory.bundle.instance_id,
            key_set=memory.bundle.key_set_text,
            bundle_sequence=memory.bundle.claims.bundle_sequence,
        )
    except PermanentError as error:
        problem = error
    if identity != known:
        await enrollment.save_identity(ctx, identity)
    if memory.identity != identity:
        _log.info(
            "identity of a site without a line",
            namespace=tenant.namespace,
            name=tenant.name,
            instance=identity.instance_id,
            bundle=identity.bundle_sequence,
        )
    memory.identity = identity
    if problem is not None:
        raise problem


async def _read(ctx: Context, tenant: Tenant, memory: TenantMemory, identity: Identity) -> Bundle:
    """Return the bundle of the Secret if it is good for this instance and not an older one.

    Raises:
        PermanentError: it is not there, not good, or older than what was taken in.
    """
    name = bundle_secret(tenant)
    live = await ctx.cluster.get("Secret", tenant.namespace, name)
    head = secrets.decode(live)
    version = str(live["metadata"]["resourceVersion"]) if live else ""
    memory.bundle_version = version
    if live is None or not is_bundle(head):
        memory.bundle = None
        raise _missing(tenant, name, identity, there=live is not None)
    taken = memory.bundle
    same_key = taken is not None and taken.claims.cnf.jkt == identity.key.kid
    if taken is not None and same_key and memory.bundle_at == version:
        return taken
    parts = {
        part: secrets.decode(await ctx.cluster.get("Secret", tenant.namespace, part))
        for part in part_names(name, head)
    }
    text = from_secrets(name, head, parts)
    if text is None:
        raise enrollment.EnrollmentError(
            f"parts of the bundle in Secret {name} are missing or another's; import it again with "
            f"`brinkbyte license import FILE -n {tenant.namespace}`",
            reason=Reason.BUNDLE_MISSING,
        )
    bundle = await asyncio.to_thread(
        read_bundle, text, ctx.roots.keys, now=ctx.now, check_expiry=False
    )
    check_for(
        bundle,
        customer_id=tenant.spec.customer_id,
        key_id=identity.key.kid,
        cluster=await ctx.cluster_fingerprint(),
    )
    check_newer(bundle, identity.bundle_sequence)
    memory.bundle_at = version
    return bundle


def _missing(tenant: Tenant, name: str, identity: Identity, *, there: bool) -> BrinkByteError:
    what = f"spec.license.bundleSecretRef: Secret {name} " + (
        f"has no {names.BUNDLE_KEY}" if there else "is missing"
    )
    if identity.instance_id:
        return enrollment.EnrollmentError(
            f"{what}; what was imported stays in force. Import the newest bundle again with "
            f"`brinkbyte license import FILE -n {tenant.namespace}`",
            reason=Reason.BUNDLE_MISSING,
        )
    return enrollment.EnrollmentError(
        f"{what}. Run `brinkbyte license request -n {tenant.namespace} {tenant.name} -o "
        "request.json`, send that file to the vendor, and import the answer with `brinkbyte "
        f"license import FILE -n {tenant.namespace}`",
        reason=Reason.BUNDLE_MISSING,
    )


# ---- request -----------------------------------------------------------------------------------


async def write_request(ctx: Context, run: Pass, *, tenant: Tenant, memory: TenantMemory) -> None:
    """Keep the Secret with the signed request in step with what the cluster has."""
    name = f"{tenant.name}{names.REQUEST_SUFFIX}"
    live = run.secret(name)
    if tenant.spec.billing is not None:
        if live is not None:
            # The site has got a line; what it asks for goes over it.
            await ctx.cluster.delete("Secret", tenant.namespace, name, uid=live["metadata"]["uid"])
        return
    identity = memory.identity
    if identity is None or identity.uid != tenant.metadata.uid:
        identity = await enrollment.load_identity(ctx, tenant.metadata.uid)
    if identity is None:
        return  # the Tenant's own reconcile makes the key pair and wakes this one
    if live is None:
        live = await ctx.cluster.get("Secret", tenant.namespace, name)
    wanted = wanted_of(run)
    inventory = InventoryRequest(
        held=memory.documents.held,
        devices=tuple(wanted.devices.values()),
        cameras=tuple(wanted.cameras.values()),
    )
    data = inventory_bytes(inventory)
    about = (
        sha256_hex(data),
        identity.key.kid,
        tenant.spec.customer_id,
        f"{tenant.namespace}.{tenant.name}",
        await ctx.cluster_fingerprint(),
        __version__,
    )
    signed_for, text = memory.request
    if signed_for != about:
        before = text or secrets.decode(live).get(names.REQUEST_KEY, "")
        text = _request_text(ctx, tenant, identity, about, data=data, before=before)
    secret = secrets.tenant_secret(
        tenant, secrets.REQUEST, names.REQUEST_SUFFIX, {names.REQUEST_KEY: text}
    )
    await write_guarded(ctx, run, memory, secret, live=live)
    memory.request = (about, text)


def _request_text(
    ctx: Context,
    tenant: Tenant,
    identity: Identity,
    about: tuple[str, ...],
    *,
    data: bytes,
    before: str,
) -> str:
    """Return the request as it stands if it is about the same, else a newly signed one."""
    earlier: SiteRequest | None = None
    with suppress(RequestError):
        earlier = read_request(before, now=ctx.now)
    if earlier is not None and about == (
        earlier.claims.inventory_sha256,
        earlier.public_key.kid,
        earlier.claims.sub,
        earlier.claims.name,
        earlier.claims.cluster_fingerprint,
        earlier.claims.version,
    ):
        return before
    # The vendor answers no request that is older than one answered before.
    issued = ctx.now if earlier is None else max(ctx.now, earlier.claims.iat + 1)
    digest, _, customer_id, name, fingerprint, version = about
    claims = RequestClaims(
        sub=customer_id,
        jti=str(new_id()),
        iat=issued,
        name=name,
        uid=tenant.metadata.uid,
        cluster_fingerprint=fingerprint,
        version=version,
        inventory_sha256=digest,
    )
    return sign_request(claims, data, identity.key)


# ---- licenses ----------------------------------------------------------------------------------


async def obtain_licenses(
    ctx: Context,
    run: Pass,
    _todo: Sequence[Member],
    *,
    tenant: Tenant,
    identity: Identity,
    memory: TenantMemory,
    documents: Documents,
    license_live: Object | None,
) -> tuple[set[str], BrinkByteError | None]:
    """Take in what the bundle brings for the Tenant, its devices and its cameras.

    Returns:
        ids of the cameras that it has news of; what is wrong with it.
    """
    if memory.bundle is None:
        with suppress(PermanentError):  # the Tenant's conditions say what is wrong with it
            memory.bundle = await _read(ctx, tenant, memory, identity)
    bundle = memory.bundle
    if bundle is not None and bundle.instance_id != identity.instance_id:
        bundle = None  # the Tenant's reconcile has yet to take its identity from it
    if bundle is not None:
        key_set = json.loads(bundle.key_set_text)
        documents = merge_documents(
            documents,
            bundle.content.model_copy(update={"key_set": key_set}),
            ctx.roots.keys,
            instance=identity.instance_id,
            now=ctx.now,
        )
        memory.inventory.answer = bundle.content
    changed = documents.texts != memory.documents.texts
    memory.documents = documents
    await write_guarded(
        ctx, run, memory, license_secret(tenant, documents, license_live), live=license_live
    )
    news = judge(
        run, memory.inventory, documents, bundle, verified=_claims(ctx, identity, documents)
    )
    problem = next(iter(documents.problems.values()), None)
    memory.inventory.error = problem
    if changed:
        ctx.add(Key("Tenant", tenant.namespace, tenant.name), 0.0)
    return news, problem


def _claims(ctx: Context, identity: Identity, documents: Documents) -> Verified:
    """Return what reads a camera's token; None: it is not the vendor's, or not for us."""

    def verified(token: str) -> CameraClaims | None:
        if documents.key_set is None:
            return None
        with suppress(TokenError):
            return ctx.camera_tokens.verify(
                token, documents.key_set, instance=identity.instance_id, now=ctx.now
            )
        return None

    return verified
