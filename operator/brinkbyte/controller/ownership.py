"""Whose is an object? What belongs to another controller is never touched. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brinkbyte.kit.errors import PermanentError, TemporaryError
from brinkbyte.resources.names import (
    CAMERA_LICENSE_SUFFIX,
    DEVICE_TOKEN_SUFFIX,
    FIELD_MANAGER,
    LABEL_MANAGED_BY,
    LABEL_OWNER_KIND,
    LABEL_OWNER_NAME,
    MANAGED_BY,
)


class NameConflictError(PermanentError):
    """An object of the name that a child should have belongs to somebody else."""


def controller_of(live: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the owner reference of an object's controller, or None."""
    owners = live["metadata"].get("ownerReferences", ())
    return next((owner for owner in owners if owner.get("controller")), None)


def is_ours(live: Mapping[str, Any]) -> bool:
    """Tell whether an object without a controller was made by us: by its label or its manager."""
    meta = live["metadata"]
    if meta.get("labels", {}).get(LABEL_MANAGED_BY) == MANAGED_BY:
        return True
    return any(
        entry.get("manager") == FIELD_MANAGER and _made(entry)
        for entry in meta.get("managedFields", ())
    )


def _made(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry of ``managedFields`` is that of who made the object.

    A Secret's type is its creator's and never changes; who only wrote into it does not own it.
    """
    return entry.get("operation") == "Apply" or "f:type" in entry.get("fieldsV1", {})


_OWN_SUFFIXES: Final[Mapping[str, str]] = {
    "EdgeDevice": DEVICE_TOKEN_SUFFIX,
    "CameraLicense": CAMERA_LICENSE_SUFFIX,
}


def _may_adopt(desired: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Tell whether an object without a controller is the desired one.

    Most names are the operator's own. That of a license Secret may be the user's choice: an object
    of that name that is of ours, but of something else (a kept database password, say), is no less
    somebody else's.
    """
    if not is_ours(live):
        return False
    meta = desired["metadata"]
    wanted, found = meta.get("labels", {}), live["metadata"].get("labels", {})
    kind, owner = wanted.get(LABEL_OWNER_KIND, ""), wanted.get(LABEL_OWNER_NAME, "")
    if kind == "Tenant" or meta["name"] == f"{owner}{_OWN_SUFFIXES.get(kind, '')}":
        return True
    return bool(found.get(LABEL_OWNER_KIND) == kind and found.get(LABEL_OWNER_NAME) == owner)


def check_owner(desired: Mapping[str, Any], live: Mapping[str, Any]) -> None:
    """Refuse to touch what belongs to somebody else.

    Raises:
        NameConflictError: another controller owns it, or it is not ours at all.
        TemporaryError: it belongs to a former owner of the same name and is about to go.
    """
    theirs, ours = controller_of(live), controller_of(desired)
    kind, name = desired["kind"], desired["metadata"]["name"]
    if theirs is None:
        if not _may_adopt(desired, live):
            raise NameConflictError(
                f"{kind} {name} exists and is not the operator's; rename or delete it, or choose "
                "another name",
                reason="NameConflict",
            )
        return
    if ours is not None and theirs.get("uid") == ours.get("uid"):
        return
    if ours is not None and all(theirs.get(key) == ours.get(key) for key in ("kind", "name")):
        raise TemporaryError(
            f"{kind} {name} of the former {ours['kind']} {ours['name']} is still being removed",
            reason="Pending",
            retry_after=1.0,
        )
    raise NameConflictError(
        f"{kind} {name} belongs to {theirs.get('kind')} {theirs.get('name')}; choose another name",
        reason="NameConflict",
    )
