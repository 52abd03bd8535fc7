"""What of a StatefulSet cannot change in place: its volume's size and class, PostgreSQL's major.

:func:`adjust` is pure: it returns what to go on with and what to say about it. Growing is the one
change that is carried out: the claims are patched, then the StatefulSet is made anew around its
running pod.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from brinkbyte.controller.children import common
from brinkbyte.controller.cluster import Cluster, ClusterRefusedError, Object
from brinkbyte.controller.status import Seen
from brinkbyte.resources.conditions import Reason
from brinkbyte.resources.defaults import Component, ResolvedTenant, Volume
from brinkbyte.resources.quantity import parse_quantity

_MAJOR = re.compile(r":v?(\d+)(?:[.\-@]|$)")


@dataclass(frozen=True)
class Adjusted:
    """What to go on with.

    Attributes:
        resolved: with live values where the wanted ones cannot be had.
        notes: what to say, by component.
        grow: components whose volume is to grow, with the wanted size.
    """

    resolved: ResolvedTenant
    notes: Mapping[str, Seen] = field(default_factory=dict)
    grow: Mapping[str, str] = field(default_factory=dict)


def adjust(
    resolved: ResolvedTenant, live: Mapping[str, Object | None], *, running: str | None = None
) -> Adjusted:
    """Compare the wanted components with the live StatefulSets.

    Args:
        resolved: as the spec asks.
        live: StatefulSet by component, None where there is none yet.
        running: PostgreSQL image that was last taken; what stands in the StatefulSet may have been
            put there by somebody else.
    """
    notes: dict[str, Seen] = {}
    grow: dict[str, str] = {}
    for name in (common.POSTGRES, common.REDIS):
        wanted: Component | None = getattr(resolved, name)
        existing = live.get(name)
        if wanted is None or existing is None:
            continue
        current = wanted
        if name == common.POSTGRES:
            current = _major(current, running or _image(existing, name), notes)
        resolved = _with(resolved, name, _volume(name, current, existing, notes, grow))
    return Adjusted(resolved, notes, grow)


def _with(resolved: ResolvedTenant, name: str, component: Component) -> ResolvedTenant:
    if name == common.POSTGRES:
        return replace(resolved, postgres=component)
    return replace(resolved, redis=component)


def major_of(image: str) -> int | None:
    """Return the major version that an image's tag names, or None."""
    found = _MAJOR.search(image.rpartition("/")[2])
    return int(found[1]) if found else None


def _major(wanted: Component, image: str, notes: dict[str, Seen]) -> Component:
    before, after = major_of(image), major_of(wanted.image)
    if before is None or after is None or before == after:
        return wanted
    notes[common.POSTGRES] = Seen(
        True,
        Reason.POSTGRES_MAJOR_CHANGE,
        f"spec.postgres.image: the data is of PostgreSQL {before}, {wanted.image} is {after}; it "
        f"stays on {image}. Move the data by dump and restore, or go back to an image of {before}",
    )
    return replace(wanted, image=image)


def _image(live: Object, container: str) -> str:
    containers = live["spec"]["template"]["spec"]["containers"]
    return str(next((c["image"] for c in containers if c["name"] == container), ""))


def _volume(
    name: str, wanted: Component, live: Object, notes: dict[str, Seen], grow: dict[str, str]
) -> Component:
    templates = live["spec"].get("volumeClaimTemplates", [])
    spec: dict[str, Any] = templates[0]["spec"] if templates else {}
    if not spec:
        return wanted
    size = str(spec["resources"]["requests"]["storage"])
    held = Volume(size, spec.get("storageClassName"))
    if wanted.volume is None:
        return replace(wanted, volume=held)
    kept = held
    if wanted.volume.storage_class_name is None:
        # The cluster's default was taken; the template still has none.
        held = replace(held, storage_class_name=None)
    if wanted.volume.storage_class_name != held.storage_class_name:
        notes[name] = Seen(
            True,
            Reason.STORAGE_CLASS_CHANGED,
            f"spec.{name}.storage.storageClassName cannot change once there is data; it stays "
            f"{kept.storage_class_name or 'the default'}. Set it back",
        )
    before, after = parse_quantity(size), parse_quantity(wanted.volume.size)
    if after < before:
        notes[name] = Seen(
            True,
            Reason.STORAGE_CANNOT_SHRINK,
            f"spec.{name}.storage.size: a volume cannot shrink; it stays {size}. Set it back",
        )
    elif after > before:
        grow[name] = wanted.volume.size
    return replace(wanted, volume=kept)


async def grow_volumes(
    cluster: Cluster, adjusted: Adjusted, live: Mapping[str, Object | None]
) -> Adjusted:
    """Patch the claims of growing volumes and take away the StatefulSets around their pods.

    Returns:
        what to go on with: the wanted size where it was granted.
    """
    notes = dict(adjusted.notes)
    resolved = adjusted.resolved
    for name, size in adjusted.grow.items():
        existing = live[name]
        component: Component | None = getattr(resolved, name)
        if existing is None or component is None or component.volume is None:
            continue
        meta = existing["metadata"]
        claim = f"data-{meta['name']}-0"
        try:
            await cluster.patch(
                "PersistentVolumeClaim",
                meta["namespace"],
                claim,
                {"spec": {"resources": {"requests": {"storage": size}}}},
            )
        except ClusterRefusedError as error:
            notes[name] = Seen(
                True,
                Reason.STORAGE_CANNOT_GROW,
                f"spec.{name}.storage.size: the StorageClass does not let volumes grow "
                f"({error.message[:200]}); it stays {component.volume.size}",
            )
            continue
        await cluster.delete(
            "StatefulSet", meta["namespace"], meta["name"], uid=meta["uid"], orphan=True
        )
        grown = replace(component, volume=replace(component.volume, size=size))
        resolved = _with(resolved, name, grown)
    return Adjusted(resolved, notes, adjusted.grow)
