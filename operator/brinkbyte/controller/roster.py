"""Who is there: every camera license and every Secret of ours, as the watches tell, packed small.

A pass over ten thousand cameras must not list them for one that came, nor keep ten thousand Python
objects in memory. The roster keeps of each camera what cameras are judged by, its whole object as
deflated JSON, and who has news. Writes of our own are put in with their answer, so their events
are no news. What it says is as fresh as the watch: something new may be missing, nothing that is
there is.
"""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self, TypeAlias

from brinkbyte.controller.cluster import Object
from brinkbyte.license.claims import CameraClaims, CameraMode
from brinkbyte.license.wire import InventoryRequest
from brinkbyte.resources import names

Packed: TypeAlias = tuple[bytes, bytes]
"""Dictionary and deflated JSON."""
KINDS: Final = frozenset({"CameraLicense", "Secret"})
_DICTIONARY_BYTES: Final = 8192


@dataclass(frozen=True, slots=True)
class HeldToken:
    """What a verified camera token says that a pass asks of it."""

    camera_id: str
    hardware_id: str
    mode: CameraMode
    growth_packs: tuple[str, ...]
    camera_sequence: int

    @classmethod
    def of(cls, claims: CameraClaims) -> Self:
        """Return what is kept of verified claims."""
        return cls(
            claims.camera_id,
            claims.hardware_id,
            claims.mode,
            claims.growth_packs,
            claims.camera_sequence,
        )


@dataclass(slots=True)
class Member:
    """A camera license.

    Attributes:
        created_at: Unix seconds.
        generation: of the spec that this was read from.
        written: its status says that its Secret was written before.
        version: of the object, as far as we have seen or written it.
        held: the verified token in its Secret; None: there is none.
        unread: the Secret is another than when ``held`` was read from it.
        busy: a pass is writing: events may be its own echo.
        late: versions of what came meanwhile.
    """

    name: str
    namespace: str
    uid: str
    tenant: str
    camera_id: str
    device: str
    mode: CameraMode
    growth_packs: tuple[str, ...]
    secret_name: str
    created_at: int
    generation: int
    written: bool
    version: int
    packed: Packed
    held: HeldToken | None = None
    unread: bool = True
    busy: bool = False
    late: tuple[int, ...] = ()

    def become(self, newer: Member) -> None:
        """Take over what a newer version of the same object says."""
        self.unread = self.unread or self.secret_name != newer.secret_name
        for name in _OF_THE_OBJECT:
            setattr(self, name, getattr(newer, name))


_OF_THE_OBJECT: Final = (
    "camera_id", "device", "mode", "growth_packs", "secret_name", "generation", "written",
    "version", "packed",
)  # fmt: skip


@dataclass(slots=True)
class _Kept:
    version: int
    uid: str
    owner: str
    packed: Packed


@dataclass(slots=True)
class Crew:
    """The camera licenses of one Tenant that are to stay.

    Attributes:
        members: by name.
        news: names of those that a pass has to look at.
        heard: how often the watches had news.
        tampered: names of those whose Secret somebody has changed or taken away.
        gone: camera ids of which something went.
    """

    members: dict[str, Member] = field(default_factory=dict)
    news: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    heard: int = 0
    tampered: set[str] = field(default_factory=set)
    _by_id: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def first(self, camera_id: str) -> Member | None:
        """Return who has a camera id: the oldest, if several claim it."""
        found = [self.members[name] for name in self._by_id.get(camera_id, ())]
        return min(found, key=lambda each: (each.created_at, each.uid), default=None)

    def add(self, member: Member) -> None:
        """Take somebody in."""
        before = self._by_id.get(member.camera_id, ())
        if member.name not in before:
            self._by_id[member.camera_id] = (*before, member.name)
            self.news.update(before)
        self.members[member.name] = member

    def told(self, sent: InventoryRequest) -> None:
        """Note that the billing API has taken in an inventory of a while ago.

        What has gone since, and stands in it, it has yet to hear of.
        """
        if sent.base_revision is None:
            self.gone.intersection_update(each.camera_id for each in sent.cameras)
        else:
            self.gone.difference_update(sent.removed_cameras)

    def remove(self, member: Member) -> None:
        """Take somebody out; others of the same id have news."""
        if self.members.pop(member.name, None) is None:
            return
        left = tuple(each for each in self._by_id[member.camera_id] if each != member.name)
        if left:
            self._by_id[member.camera_id] = left
            self.news.update(left)
        else:
            del self._by_id[member.camera_id]
        self.news.discard(member.name)
        self.tampered.discard(member.name)
        self.gone.add(member.camera_id)


class Roster:
    """Camera licenses and Secrets of all namespaces that are watched."""

    def __init__(self) -> None:
        self._members: dict[tuple[str, str], Member] = {}
        self._secrets: dict[tuple[str, str], _Kept] = {}
        self._crews: dict[tuple[str, str], Crew] = {}
        self._chosen: dict[tuple[str, str], str] = {}
        self._owned: dict[str, tuple[str, ...]] = {}
        self._dictionaries: dict[str, bytes] = {}
        self._missing: set[tuple[str, str | None]] = set()
        self._complete = asyncio.Event()
        self._complete.set()

    # ---- what there is -----------------------------------------------------------------------

    def crew(self, namespace: str, tenant: str) -> Crew:
        """Return the camera licenses of a Tenant."""
        return self._crews.setdefault((namespace, tenant), Crew())

    def camera(self, member: Member) -> Object:
        """Return a camera license as an object."""
        return unpack(member.packed)

    def secret(self, namespace: str, name: str) -> Object | None:
        """Return a Secret of ours; None: there is none that carries our label."""
        kept = self._secrets.get((namespace, name))
        return unpack(kept.packed) if kept else None

    def lacks_secret(self, member: Member) -> bool:
        """Tell whether no Secret of a camera license carries our label."""
        return (member.namespace, member.secret_name) not in self._secrets

    def secrets_of(self, uid: str) -> tuple[str, ...]:
        """Return the names of the Secrets that a camera license owns."""
        return self._owned.get(uid, ())

    # ---- what the watches say ----------------------------------------------------------------

    def expect(self, kind: str, namespace: str | None) -> None:
        """Note that a list has yet to come before anything can be said."""
        self._missing.add((kind, namespace))
        self._complete.clear()

    async def ready(self, seconds: float) -> bool:
        """Wait until every list has come; return whether it has."""
        try:
            await asyncio.wait_for(self._complete.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def known(self, live: Mapping[str, Any]) -> bool:
        """Tell whether an object is here in this or a later version."""
        meta = live["metadata"]
        kept = self._of_kind(live["kind"]).get((meta["namespace"], meta["name"]))
        return kept is not None and kept.uid == meta["uid"] and kept.version >= version_of(live)

    def take(self, kind: str | None, live: Mapping[str, Any], *, matters: bool) -> bool:
        """Take an event.

        Args:
            kind: ADDED, MODIFIED, DELETED, or None for what a list holds.
            live: the object.
            matters: whether it changed in anything that a pass looks at.

        Returns:
            whether there is anything to do about it.
        """
        gone = kind == "DELETED"
        if live["kind"] == "Secret":
            return self._take_secret(live, gone=gone, matters=matters)
        return self._take_camera(live, gone=gone, matters=matters)

    def lost(self, kind: str, namespace: str | None, uids: Set[str]) -> list[Object]:
        """Return what is here and not among the objects of a complete list."""
        return [
            unpack(kept.packed)
            for (where, _), kept in self._of_kind(kind).items()
            if namespace in {None, where} and kept.uid not in uids
        ]

    def listed(self, kind: str, namespace: str | None) -> None:
        """Note that a list is complete."""
        self._missing.discard((kind, namespace))
        if not self._missing:
            self._complete.set()

    def put(self, live: Mapping[str, Any]) -> None:
        """Put in what a write of ours has answered."""
        meta = live["metadata"]
        where = meta["namespace"], meta["name"]
        if live["kind"] == "Secret":
            kept = self._secrets.get(where)
            if kept is None or kept.uid != meta["uid"] or kept.version <= version_of(live):
                self._keep_secret(live)
            return
        member = self._members.get(where)
        if member is None or member.uid != meta["uid"] or member.version > version_of(live):
            return
        if meta.get("generation") == member.generation and not meta.get("deletionTimestamp"):
            member.version, member.packed = version_of(live), self._pack(live)
            member.written = _written(live)
            return
        # Somebody changed it meanwhile, and the event of that comes behind this version.
        self._take_camera(live, gone=False, matters=False)
        self.news(member)

    # ---- passes ------------------------------------------------------------------------------

    def begin(self, member: Member) -> None:
        """Note that a pass starts to write what belongs to a camera license."""
        member.busy, member.late = True, ()

    def end(self, member: Member, *written: Mapping[str, Any] | None) -> None:
        """Note that it has written; what came meanwhile and is no echo of that is news.

        Args:
            member: whose.
            written: what the API has answered.
        """
        echoes = {version_of(live) for live in written if live is not None}
        member.busy = False
        if not echoes.issuperset(member.late):
            self.news(member)
        member.late = ()

    def news(self, member: Member) -> None:
        """Have a pass look at a camera license, if it still is there."""
        crew = self._crews.get((member.namespace, member.tenant))
        if crew is not None and member.name in crew.members:
            crew.news.add(member.name)

    # ---- inside ------------------------------------------------------------------------------

    def _of_kind(self, kind: str) -> Mapping[tuple[str, str], Member | _Kept]:
        return self._secrets if kind == "Secret" else self._members

    def _take_camera(self, live: Mapping[str, Any], *, gone: bool, matters: bool) -> bool:
        meta = live["metadata"]
        where = meta["namespace"], meta["name"]
        before = self._members.get(where)
        if before is not None and (gone or before.uid != meta["uid"]):
            self._forget(before)
            before = None
        if gone or meta.get("deletionTimestamp"):
            if before is not None:
                self._forget(before)
            return True
        member = self._member(live)
        if member is None:
            return False
        crew = self.crew(member.namespace, member.tenant)
        if before is not None:
            # What is no echo of ours and changes a status is somebody's edit.
            matters = matters or unpack(before.packed).get("status") != live.get("status")
            self._chosen.pop((member.namespace, before.secret_name), None)
            before.become(member)
            member = before
        self._members[where] = member
        if member.secret_name != f"{member.name}{names.CAMERA_LICENSE_SUFFIX}":
            self._chosen[member.namespace, member.secret_name] = member.name
        crew.add(member)
        return matters and self._mark(crew, member, live)

    def _take_secret(self, live: Mapping[str, Any], *, gone: bool, matters: bool) -> bool:
        meta = live["metadata"]
        where = namespace, name = meta["namespace"], meta["name"]
        kept = self._secrets.get(where)
        if gone:
            if kept is not None and kept.uid == meta["uid"]:
                del self._secrets[where]
                self._disown(kept.owner, name)
        else:
            self._keep_secret(live)
        camera = self._camera_of(namespace, name)
        owners = {
            each["name"]
            for each in meta.get("ownerReferences") or ()
            if each.get("kind") == "CameraLicense"
        }
        news = not (camera or owners)
        for each in {camera, *owners} - {None}:
            member = self._members.get((namespace, str(each)))
            if member is None:
                continue
            tampered = each == camera and matters
            if tampered:
                member.unread = True
            crew = self.crew(namespace, member.tenant)
            if matters and self._mark(crew, member, live):
                news = True
                if tampered:
                    crew.tampered.add(member.name)
        return news

    @staticmethod
    def _mark(crew: Crew, member: Member, live: Mapping[str, Any]) -> bool:
        if member.busy:
            member.late = (*member.late, version_of(live))
            return False
        crew.news.add(member.name)
        crew.heard += 1
        return True

    def _camera_of(self, namespace: str, secret: str) -> str | None:
        chosen = self._chosen.get((namespace, secret))
        if chosen is not None:
            return chosen
        if secret.endswith(names.CAMERA_LICENSE_SUFFIX):
            return secret.removesuffix(names.CAMERA_LICENSE_SUFFIX)
        return None

    def _forget(self, member: Member) -> None:
        self._members.pop((member.namespace, member.name), None)
        self._chosen.pop((member.namespace, member.secret_name), None)
        crew = self._crews.get((member.namespace, member.tenant))
        if crew is not None:
            crew.remove(member)

    def _keep_secret(self, live: Mapping[str, Any]) -> None:
        meta = live["metadata"]
        where = meta["namespace"], meta["name"]
        before = self._secrets.get(where)
        if before is not None:
            self._disown(before.owner, meta["name"])
        owner = next(
            (
                str(each["uid"])
                for each in meta.get("ownerReferences") or ()
                if each.get("kind") == "CameraLicense" and each.get("controller")
            ),
            "",
        )
        if owner:
            self._owned[owner] = (*self._owned.get(owner, ()), meta["name"])
        self._secrets[where] = _Kept(version_of(live), meta["uid"], owner, self._pack(live))

    def _disown(self, owner: str, name: str) -> None:
        left = tuple(each for each in self._owned.get(owner, ()) if each != name)
        if left:
            self._owned[owner] = left
        else:
            self._owned.pop(owner, None)

    def _member(self, live: Mapping[str, Any]) -> Member | None:
        meta, spec = live["metadata"], live.get("spec") or {}
        try:
            return Member(
                name=meta["name"],
                namespace=sys.intern(meta["namespace"]),
                uid=meta["uid"],
                tenant=sys.intern(spec["tenantRef"]["name"]),
                camera_id=spec["cameraId"],
                device=sys.intern(spec["deviceRef"]["name"]),
                mode=CameraMode(spec.get("mode", CameraMode.BASE)),
                growth_packs=tuple(
                    sorted(sys.intern(each) for each in spec.get("growthPacks", ()))
                ),
                secret_name=spec.get("secretName")
                or f"{meta['name']}{names.CAMERA_LICENSE_SUFFIX}",
                created_at=int(datetime.fromisoformat(meta["creationTimestamp"]).timestamp()),
                generation=meta.get("generation", 0),
                written=_written(live),
                version=version_of(live),
                packed=self._pack(live),
            )
        except (KeyError, TypeError, ValueError):
            # Stored under an older and laxer schema: the API server would not take it now.
            return None

    def _pack(self, live: Mapping[str, Any]) -> Packed:
        meta = live["metadata"]
        if live["kind"] == "CameraLicense":
            meta = {key: value for key, value in meta.items() if key != "managedFields"}
        text = json.dumps({**live, "metadata": meta}, separators=(",", ":")).encode()
        alike = live["kind"] + (meta.get("labels") or {}).get(names.LABEL_COMPONENT, "")
        dictionary = self._dictionaries.get(alike, b"")
        if len(dictionary) < len(text) * 0.8 and len(text) <= _DICTIONARY_BYTES:
            dictionary = self._dictionaries[alike] = text
        return pack(text, dictionary)


def _written(live: Mapping[str, Any]) -> bool:
    return bool((live.get("status") or {}).get("secretRef"))


def pack(text: bytes, dictionary: bytes) -> Packed:
    """Deflate a text that is much like another."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, dictionary)
    return dictionary, deflate.compress(text) + deflate.flush()


def unpack(packed: Packed) -> Object:
    """Return the object."""
    dictionary, data = packed
    found: Object = json.loads(zlib.decompressobj(-15, dictionary).decompress(data))
    return found


def version_of(live: Mapping[str, Any]) -> int:
    """Return an object's resourceVersion, which the API promises to grow (0: it says none)."""
    text = str(live["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0


def chunks(found: list[Member], size: int) -> Iterator[list[Member]]:
    """Yield so many at a time."""
    for start in range(0, len(found), size):
        yield found[start : start + size]
