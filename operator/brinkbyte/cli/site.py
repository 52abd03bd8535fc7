"""What the commands for a site without a line do in its cluster, with the user's own rights.

Reading the request needs ``get`` on one Secret that holds nothing secret. Importing needs ``get``
on the Tenant and that Secret, and ``get, create, patch, delete`` on the bundle's Secrets; a bundle
of another Tenant, a bad or an older one changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brinkbyte.controller.cluster import Cluster, Object
from brinkbyte.controller.connection import load_connection
from brinkbyte.controller.metrics import Metrics
from brinkbyte.kit.errors import InvalidInputError, PermanentError
from brinkbyte.license.bundle import Bundle, check_cameras, check_for, check_newer, read_bundle
from brinkbyte.license.keys import PublicJwk
from brinkbyte.license.request import RequestError, SiteRequest, read_request
from brinkbyte.resources import names
from brinkbyte.resources.bundles import (
    BundleSecrets,
    from_secrets,
    is_bundle,
    part_names,
    to_secrets,
)
from brinkbyte.resources.tenant import Tenant


class SiteError(PermanentError):
    """The cluster is not as the command needs it; ``reason`` says why."""


@asynccontextmanager
async def open_cluster(kubeconfig: Path | None) -> AsyncIterator[Cluster]:
    """Open the cluster of a kubeconfig; the user's by default."""
    cluster = Cluster(await load_connection(kubeconfig), Metrics())
    try:
        yield cluster
    finally:
        await cluster.close()


def values(live: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the values of a Secret that are text."""
    found = {}
    for key, value in ((live or {}).get("data") or {}).items():
        with suppress(binascii.Error, UnicodeDecodeError, TypeError):
            found[key] = base64.b64decode(value, validate=True).decode("utf-8")
    return found


async def site_request(cluster: Cluster, namespace: str, tenant: str) -> tuple[str, SiteRequest]:
    """Return the request that the operator keeps for a Tenant.

    Raises:
        SiteError: there is none.
        RequestError: somebody changed it; the operator makes it anew within seconds.
    """
    name = f"{tenant}{names.REQUEST_SUFFIX}"
    live = await cluster.get("Secret", namespace, name)
    text = values(live).get(names.REQUEST_KEY)
    if text is None:
        raise SiteError(
            f"there is no request for Tenant {tenant} in namespace {namespace} (Secret {name}). "
            "The operator writes it for a Tenant with spec.license.bundleSecretRef and without "
            f"spec.billing: see kubectl get btn -n {namespace}, and that the operator runs",
            reason="NoRequest",
        )
    return text, read_request(text, now=int(time.time()))


@dataclass(frozen=True)
class Import:
    """What importing a bundle into a Tenant means.

    Attributes:
        secret: name of the Secret that the Tenant names.
        wanted: values of the Secrets.
        live: that Secret as it is.
        former: names of the Secrets with parts of the bundle before.
        cameras: number of the tokens.
        same: the bundle is there already.
    """

    tenant: str
    namespace: str
    secret: str
    bundle: Bundle
    wanted: BundleSecrets
    live: Object | None
    former: tuple[str, ...]
    cameras: int
    same: bool


async def plan_import(
    cluster: Cluster,
    text: str,
    roots: Mapping[str, PublicJwk],
    *,
    namespace: str,
    tenant: str | None,
) -> Import:
    """Verify a bundle and find the Tenant that it is for; nothing is changed.

    Args:
        cluster: of the site.
        text: of the file.
        roots: root public keys of the release.
        namespace: of the Tenant.
        tenant: its name; None: the one of the bundle's customer.

    Raises:
        PermanentError: the bundle is bad, older, or for another Tenant.
    """
    now = int(time.time())
    bundle = read_bundle(text, roots, now=now)
    cameras = check_cameras(bundle, now=now)
    found = await _tenant(cluster, namespace, tenant, bundle)
    if found.spec.license is None or found.spec.billing is not None:
        raise SiteError(
            f"Tenant {found.name} gets its licenses from spec.billing; a bundle is for a Tenant "
            "with spec.license.bundleSecretRef and without spec.billing",
            reason="NotAirGapped",
        )
    key_id = cluster_id = None
    with suppress(SiteError, RequestError):
        _, request = await site_request(cluster, namespace, found.name)
        key_id, cluster_id = request.public_key.kid, request.claims.cluster_fingerprint
    check_for(bundle, customer_id=found.spec.customer_id, key_id=key_id, cluster=cluster_id)
    name = found.spec.license.bundle_secret_ref.name
    live = await cluster.get("Secret", namespace, name)
    head = values(live)
    if live is not None and head and not is_bundle(head):
        raise SiteError(
            f"Secret {name}, which spec.license.bundleSecretRef names, holds something else; "
            "name another Secret there, one that does not exist yet",
            reason="SecretNameTaken",
        )
    before = await _before(cluster, namespace, name, head, roots)
    same = before is not None and not check_newer(bundle, before.claims.bundle_sequence)
    return Import(
        tenant=found.name,
        namespace=namespace,
        secret=name,
        bundle=bundle,
        wanted=to_secrets(name, text),
        live=live,
        former=part_names(name, head),
        cameras=cameras,
        same=same,
    )


async def _tenant(cluster: Cluster, namespace: str, name: str | None, bundle: Bundle) -> Tenant:
    if name is not None:
        live = await cluster.get("Tenant", namespace, name)
        if live is None:
            raise SiteError(
                f"there is no Tenant {name} in namespace {namespace}; see kubectl get btn -A",
                reason="TenantNotFound",
            )
        return Tenant.parse(live)
    customer = bundle.claims.customer_id
    found = []
    for live in await cluster.list("Tenant", namespace):
        with suppress(InvalidInputError):
            found.append(Tenant.parse(live))
    named = [each for each in found if each.spec.customer_id == customer]
    if len(named) != 1:
        what = "several Tenants" if named else "no Tenant"
        raise SiteError(
            f"namespace {namespace} has {what} of customer {customer}, whom the bundle is for; "
            "give the right namespace with -n, and the Tenant with --tenant",
            reason="TenantNotFound" if not named else "TenantNotClear",
        )
    return named[0]


async def _before(
    cluster: Cluster,
    namespace: str,
    name: str,
    head: Mapping[str, str],
    roots: Mapping[str, PublicJwk],
) -> Bundle | None:
    """Return the bundle that is there, None when there is none or it is broken."""
    parts = {
        part: values(await cluster.get("Secret", namespace, part))
        for part in part_names(name, head)
    }
    text = from_secrets(name, head, parts)
    if text is None:
        return None
    try:
        return read_bundle(text, roots, now=int(time.time()), check_expiry=False)
    except PermanentError:
        return None


async def carry_out(cluster: Cluster, planned: Import) -> None:
    """Write the Secrets: parts first, then the one that the Tenant names, then the former go."""
    namespace = planned.namespace
    for name, data in planned.wanted.parts.items():
        live = await cluster.get("Secret", namespace, name)
        if live is None:
            await cluster.create(_secret(namespace, name, data))
        elif values(live) != dict(data):
            await _replace(cluster, live, data)
    if planned.live is None:
        await cluster.create(_secret(namespace, planned.secret, planned.wanted.head))
    else:
        await _replace(cluster, planned.live, planned.wanted.head)
    for name in planned.former:
        if name not in planned.wanted.parts:
            await cluster.delete("Secret", namespace, name)


async def _replace(cluster: Cluster, live: Object, data: Mapping[str, str]) -> None:
    """Give a Secret these values and no others, unless somebody else changed it meanwhile."""
    meta = live["metadata"]
    gone = dict.fromkeys(set(live.get("data") or {}) - set(data), None)
    await cluster.patch(
        "Secret",
        meta["namespace"],
        meta["name"],
        {
            "metadata": {"resourceVersion": meta["resourceVersion"]},
            "data": {**gone, **_encoded(data)},
        },
        missing_ok=False,
    )


def _secret(namespace: str, name: str, data: Mapping[str, str]) -> Object:
    """Return a Secret that the user owns: it carries no label of ours."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": names.BUNDLE_SECRET_TYPE,
        "metadata": {"name": name, "namespace": namespace},
        "data": _encoded(data),
    }


def _encoded(data: Mapping[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}


def facts(planned: Import) -> dict[str, Any]:
    """Return what a program wants to know of an import."""
    content = planned.bundle.content
    refused = [
        {"id": each.hardware_id, "kind": "device", "reason": each.reason, "message": each.message}
        for each in content.devices
        if each.status == "refused"
    ] + [
        {"id": each.camera_id, "kind": "camera", "reason": each.reason, "message": each.message}
        for each in content.cameras
        if each.status == "refused"
    ]
    return {
        "tenant": planned.tenant,
        "namespace": planned.namespace,
        "secret": planned.secret,
        "parts": len(planned.wanted.parts),
        "instance": planned.bundle.instance_id,
        "sequence": planned.bundle.claims.bundle_sequence,
        "expiresAt": planned.bundle.claims.exp,
        "cameras": planned.cameras,
        "refused": refused,
        "changed": not planned.same,
    }
