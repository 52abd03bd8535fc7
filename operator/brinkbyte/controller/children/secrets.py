"""Secrets: generated values are validated and reused; one that was edited is made anew.

A hash of the values stands as an annotation beside them, so an edit is seen even where it looks
like a value of ours. The random source is an argument: these functions stay pure.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from brinkbyte.controller.children import common
from brinkbyte.controller.children.common import Object, Plan
from brinkbyte.kit.canonical import canonical_json, sha256_hex
from brinkbyte.resources import names
from brinkbyte.resources.camera_license import CameraLicense
from brinkbyte.resources.edge_device import EdgeDevice
from brinkbyte.resources.state import DeviceCredential
from brinkbyte.resources.tenant import Tenant

LICENSE: Final = "license"
IDENTITY: Final = "identity"
ACCESS: Final = "access"
DEVICES: Final = "devices"
REQUEST: Final = "request"
DEVICE_TOKEN: Final = "device-token"  # noqa: S105 - the name of a component
CAMERA_LICENSE: Final = "camera-license"

_TOKEN_BYTES: Final = 32
RETAINED: Final = frozenset({common.POSTGRES, ACCESS})
"""Credentials without an owner: they belong to data that outlives the Tenant."""


def random_token() -> str:
    """Return a new secret value: 256 random bits as base64url."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


@dataclass(frozen=True)
class Generated:
    """A credential Secret as it is to be.

    Attributes:
        data: values by key.
        renewed: the values are new, because there were none or somebody had changed them.
    """

    data: Mapping[str, str]
    renewed: bool

    @property
    def hash(self) -> str:
        """Hash of the values, for annotations."""
        return data_hash(self.data)


def as_it_is(live: Mapping[str, Any]) -> Generated:
    """Return what a credential Secret holds, whoever put it there."""
    return Generated(decode(live), renewed=False)


def data_hash(data: Mapping[str, str]) -> str:
    """Return a short hash of a Secret's values."""
    return sha256_hex(canonical_json(dict(data)))[:32]


def decode(live: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the values of a live Secret; what is not text is left out."""
    values = {}
    for key, value in ((live or {}).get("data") or {}).items():
        try:
            values[key] = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError, TypeError):
            continue
    return values


def _intact(live: Mapping[str, Any] | None, keys: Iterable[str]) -> dict[str, str] | None:
    """Return the values under the keys if nobody has changed one since they were made."""
    if live is None:
        return None
    found = decode(live)
    values = {key: found.get(key, "") for key in keys}
    annotations = live["metadata"].get("annotations", {})
    if all(values.values()) and annotations.get(names.ANNOTATION_CREDENTIALS) == data_hash(values):
        return values
    return None


def _generated(
    live: Mapping[str, Any] | None, make: Callable[[], Mapping[str, str]], *, stale: bool = False
) -> Generated:
    fresh = make()
    kept = _intact(live, fresh)
    if kept is not None and not stale:
        return Generated(kept, renewed=False)
    return Generated(fresh, renewed=True)


def postgres_credential(
    live: Mapping[str, Any] | None, plan: Plan, token: Callable[[], str] = random_token
) -> Generated:
    """Return password and DSN of the instance's role."""

    def make() -> Mapping[str, str]:
        password = token()
        return {
            names.POSTGRES_PASSWORD_KEY: password,
            names.POSTGRES_DSN_KEY: (
                f"postgresql://{names.POSTGRES_ROLE}:{password}@{plan.host(common.POSTGRES)}:"
                f"{names.POSTGRES_PORT}/{names.POSTGRES_DATABASE}"
            ),
        }

    return _generated(live, make)


def redis_credential(
    live: Mapping[str, Any] | None, plan: Plan, token: Callable[[], str] = random_token
) -> Generated:
    """Return password and URL of Redis."""

    def make() -> Mapping[str, str]:
        password = token()
        return {
            names.REDIS_PASSWORD_KEY: password,
            names.REDIS_URL_KEY: (
                f"redis://:{password}@{plan.host(common.REDIS)}:{names.REDIS_PORT}/0"
            ),
        }

    return _generated(live, make)


def triton_credential(
    live: Mapping[str, Any] | None, token: Callable[[], str] = random_token
) -> Generated:
    """Return the key that loads and unloads models."""
    return _generated(live, lambda: {names.TRITON_CONTROL_KEY: token()})


def access_credential(
    live: Mapping[str, Any] | None, token: Callable[[], str] = random_token
) -> Generated:
    """Return the tokens that open the instance API."""
    return _generated(
        live, lambda: {names.SERVICE_TOKEN_KEY: token(), names.OPERATOR_TOKEN_KEY: token()}
    )


def device_credential(
    live: Mapping[str, Any] | None, token: Callable[[], str] = random_token
) -> Generated:
    """Return the token that every call of a device carries."""
    return _generated(live, lambda: {names.DEVICE_TOKEN_KEY: token()})


def _encoded(data: Mapping[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}


def tenant_secret(
    tenant: Tenant, component: str, suffix: str, data: Mapping[str, str], *, hashed: bool = False
) -> Object:
    """Return a Secret of a Tenant.

    Args:
        tenant: owner, unless the component is one of :data:`RETAINED`.
        component: what it is for.
        suffix: of its name.
        data: values as text.
        hashed: whether a hash stands beside generated values.
    """
    metadata: Object = {
        "name": f"{tenant.name}{suffix}",
        "namespace": tenant.namespace,
        "labels": common.labels(tenant, component),
    }
    if component not in RETAINED:
        metadata["ownerReferences"] = [tenant.owner_reference()]
    if hashed:
        metadata["annotations"] = {names.ANNOTATION_CREDENTIALS: data_hash(data)}
    return _secret(metadata, data)


def member_secret(
    owner: EdgeDevice | CameraLicense,
    component: str,
    name: str,
    data: Mapping[str, str],
    *,
    hashed: bool = False,
) -> Object:
    """Return a Secret of a device or a camera."""
    metadata: Object = {
        "name": name,
        "namespace": owner.namespace,
        "labels": {
            names.LABEL_MANAGED_BY: names.MANAGED_BY,
            names.LABEL_COMPONENT: component,
            names.LABEL_OWNER_KIND: owner.KIND,
            names.LABEL_OWNER_NAME: owner.name,
            names.LABEL_TENANT: owner.spec.tenant_ref.name,
        },
        "ownerReferences": [owner.owner_reference()],
    }
    if hashed:
        metadata["annotations"] = {names.ANNOTATION_CREDENTIALS: data_hash(data)}
    return _secret(metadata, data)


def _secret(metadata: Object, data: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": _encoded(data),
    }


def record_secret(
    namespace: str, name: str, labels: Mapping[str, str], data: Mapping[str, str]
) -> Object:
    """Return an enrollment record: a Secret of the operator's own namespace without an owner."""
    return _secret({"name": name, "namespace": namespace, "labels": dict(labels)}, data)


def devices_document(
    devices: Iterable[tuple[EdgeDevice, str]], *, kept: str = "", keep: Set[str] = frozenset()
) -> str:
    """Return ``devices.json``: each device with the hash of its token, by hardware id.

    Args:
        devices: with their tokens.
        kept: the document as it is.
        keep: hardware ids whose entry stays as it is: their token is not known right now.
    """
    entries = [
        DeviceCredential(
            hardware_id=device.spec.hardware_id,
            name=device.name,
            management_tier=device.spec.management_tier.value,
            token_sha256=sha256_hex(token.encode()),
            created_at=int(device.metadata.creation_timestamp.timestamp())
            if device.metadata.creation_timestamp
            else 0,
        ).model_dump(mode="json")
        for device, token in devices
    ]
    with suppress(ValueError):
        entries += [each for each in json.loads(kept or "[]") if each["hardwareId"] in keep]
    entries.sort(key=lambda entry: str(entry["hardwareId"]))
    return json.dumps(entries, separators=(",", ":"))
