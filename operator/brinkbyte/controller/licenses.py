"""The Tenant's license Secret: read, verified, put right, never emptied."""

from __future__ import annotations

from dataclasses import replace

from brinkbyte.controller.children import secrets
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.documents import Documents, read_documents
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.queue import Key
from brinkbyte.kit.logging import get_logger
from brinkbyte.resources import names
from brinkbyte.resources.tenant import Tenant

_log = get_logger(__name__)

DRIFT_SECONDS = 10.0
"""How long a condition shows that a license Secret was changed, after it is right again."""


async def ensure_documents(
    ctx: Context,
    tenant: Tenant,
    identity: Identity,
    memory: TenantMemory,
    live: Object | None,
) -> Documents:
    """Return the newest verified documents: of the Secret, of memory, of the enrollment.

    A document in the Secret that does not verify, or that is older than what was held, was put
    there by somebody else: ``memory.drift`` says so until it is put right.
    """
    texts = secrets.decode(live)
    if names.KEY_SET_KEY not in texts and identity.key_set:
        texts[names.KEY_SET_KEY] = identity.key_set
    kept = memory.documents
    if kept.instance == identity.instance_id and kept.texts == texts:
        found = replace(kept, problems={})
    else:
        found = read_documents(texts, ctx.roots.keys, instance=identity.instance_id, now=ctx.now)
    if not found.problems:
        memory.told.pop(f"{tenant.name}{names.LICENSE_SUFFIX}", None)
    else:
        key, error = next(iter(found.problems.items()))
        told = memory.newly_told(f"{tenant.name}{names.LICENSE_SUFFIX}", texts.get(key, ""))
        if live is not None and error.reason != "WrongAudience" and told:
            # Documents of a former enrollment are nobody's doing; they are simply replaced.
            memory.drift = error
            memory.drift_until = ctx.monotonic() + DRIFT_SECONDS
            ctx.add(Key("Tenant", tenant.namespace, tenant.name), 0.0)
            _log.warning("license Secret was changed", tenant=tenant.name, key=key)
            ctx.events.emit(
                _about(tenant),
                "Warning",
                "LicenseValid",
                error.reason,
                f"{key} in Secret {tenant.name}{names.LICENSE_SUFFIX}: {error.message}",
            )
        if key == names.KEY_SET_KEY and identity.key_set:
            texts[names.KEY_SET_KEY] = identity.key_set
            found = read_documents(
                texts, ctx.roots.keys, instance=identity.instance_id, now=ctx.now
            )
    if kept.complete and kept.license and kept.license.aud == identity.instance_id:
        texts = dict(found.texts)
        for key, ours, theirs in _numbers(kept, found):
            if key in kept.texts and ours > theirs:
                texts[key] = kept.texts[key]
        if texts != found.texts:
            found = read_documents(
                texts, ctx.roots.keys, instance=identity.instance_id, now=ctx.now
            )
    found = replace(found, problems={})
    memory.documents = found
    return found


def _numbers(kept: Documents, found: Documents) -> list[tuple[str, int, int]]:
    ours, theirs = kept.held, found.held
    return [
        (names.KEY_SET_KEY, ours.key_set_number, theirs.key_set_number),
        (names.LICENSE_KEY, ours.license_sequence, theirs.license_sequence),
        (names.SEATS_KEY, ours.seats_sequence, theirs.seats_sequence),
        (names.REVOCATIONS_KEY, ours.revocation_sequence, theirs.revocation_sequence),
    ]


def license_secret(tenant: Tenant, documents: Documents, live: Object | None) -> Object | None:
    """Return the license Secret with what is held; what nothing better is held of stays in it."""
    if not documents.texts:
        return None
    texts = {**secrets.decode(live), **documents.texts}
    known = {
        names.LICENSE_KEY,
        names.SEATS_KEY,
        names.REVOCATIONS_KEY,
        names.KEY_SET_KEY,
    }
    return secrets.tenant_secret(
        tenant,
        secrets.LICENSE,
        names.LICENSE_SUFFIX,
        {key: text for key, text in texts.items() if key in known},
    )


def _about(tenant: Tenant) -> Object:
    return {
        "apiVersion": tenant.api_version,
        "kind": tenant.KIND,
        "metadata": {
            "name": tenant.name,
            "namespace": tenant.namespace,
            "uid": tenant.metadata.uid,
            "resourceVersion": tenant.metadata.resource_version,
        },
    }
