"""How far a change of signing keys is, and what stands in the way of its next step.

A key set counts as seen once a call with the instance's credential says that it is held; for a site
behind an air gap, once a bundle with it was made. The set travels with every answer, so who was
offline gets it with the first one and misses nothing. Two things wait all the same: signing with
the next keys, for instances that are in touch; and taking the old keys away, for everybody that may
still hold what they signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from brinkbyte.billing import audit
from brinkbyte.billing.auth import InstanceCaller
from brinkbyte.billing.context import Context
from brinkbyte.billing.db import Connection, Database
from brinkbyte.billing.licenses.rotation import KeyState
from brinkbyte.billing.rollout import repository
from brinkbyte.kit.errors import PermanentError

DAY: Final = 86_400
IN_TOUCH_SECONDS: Final = DAY
"""An instance that was heard from within a day can be reached: it asks at least every hour."""
HELD_SECONDS: Final = 52 * DAY
"""What an instance was given online ends 45 days later at the latest, its grace 7 days after."""
GRACE_SECONDS: Final = 7 * DAY
_NAMED: Final = 20

Via = Literal["online", "bundle", "never"]


@dataclass(frozen=True)
class InstanceProgress:
    """One live instance in a rollout.

    Attributes:
        key_set_number: newest set that it has seen, 0: none that we know of.
        via: how we know.
        contact_at: Unix seconds; newest call, None: none yet.
        seen: it can check what the newest keys sign.
        in_touch: it was heard from within a day.
        needs_until: Unix seconds until which it may need a retired key; None: it needs none.
    """

    tenant_id: str
    instance_id: str
    name: str
    key_set_number: int
    via: Via
    contact_at: int | None
    seen: bool
    in_touch: bool
    needs_until: int | None = None


@dataclass(frozen=True)
class Rollout:
    """Where the keys and everybody who checks them stand."""

    keys: KeyState
    instances: tuple[InstanceProgress, ...]

    @property
    def seen(self) -> int:
        """How many live instances have seen the newest keys."""
        return sum(each.seen for each in self.instances)

    @property
    def lacking(self) -> list[InstanceProgress]:
        """Who has not seen the newest keys."""
        return [each for each in self.instances if not each.seen]

    @property
    def waiting(self) -> list[InstanceProgress]:
        """Who is in touch and has not seen the newest keys: signing with them waits for these."""
        return [each for each in self.lacking if each.in_touch]

    @property
    def needing(self) -> list[InstanceProgress]:
        """Who may need a retired key: taking it away waits for these."""
        return [each for each in self.instances if each.needs_until is not None]


def assess(
    keys: KeyState,
    rows: Iterable[Mapping[str, Any]],
    signed: Iterable[Mapping[str, Any]] = (),
    *,
    now: int,
) -> Rollout:
    """Judge every live instance.

    Args:
        keys: where the keys stand.
        rows: live instances, as :func:`repository.live_instances` returns them.
        signed: newest end of what retired keys signed, by customer, as
            :func:`repository.signed_by` returns it.
        now: Unix seconds.
    """
    ends: dict[str, int] = {}
    for row in signed:
        if row["key_id"] in keys.retired and row["ends_at"] is not None:
            end = _seconds(row["ends_at"]) + GRACE_SECONDS
            ends[row["tenant_id"]] = max(end, ends.get(row["tenant_id"], 0))
    return Rollout(keys, tuple(_judge(keys, row, ends, now) for row in rows))


def _judge(
    keys: KeyState, row: Mapping[str, Any], ends: Mapping[str, int], now: int
) -> InstanceProgress:
    online, bundled = row["seen_key_set_number"] or 0, row["bundle_key_set_number"] or 0
    number = max(online, bundled)
    contact = None if row["contact_at"] is None else _seconds(row["contact_at"])
    bundle_end = (
        0
        if row["bundle_expires_at"] is None
        else _seconds(row["bundle_expires_at"]) + GRACE_SECONDS
    )
    seen = number >= keys.target
    until = [ends.get(row["tenant_id"], 0)]
    if not seen:
        # Whatever it holds was signed before: until that has ended it needs the old keys.
        until += [(contact or _seconds(row["created_at"])) + HELD_SECONDS, bundle_end]
    elif set(row["bundle_key_ids"]) & set(keys.retired):
        until.append(bundle_end)
    last = max(until)
    return InstanceProgress(
        tenant_id=row["tenant_id"],
        instance_id=row["instance_id"],
        name=row["name"],
        key_set_number=number,
        via="never" if number == 0 else "bundle" if bundled > online else "online",
        contact_at=contact,
        seen=seen,
        in_touch=contact is not None and contact > now - IN_TOUCH_SECONDS,
        needs_until=last if keys.retired and last > now else None,
    )


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


async def note_held(
    connection: Connection, context: Context, caller: InstanceCaller, number: int
) -> None:
    """Note the key set that an instance says it holds; a number that we never signed counts not."""
    held = number if number <= context.keyring.number else 0
    await repository.note_held(
        connection,
        caller.tenant_id,
        caller.instance_id,
        held,
        datetime.fromtimestamp(context.now(), UTC),
    )


async def progress(database: Database, keys: KeyState, *, now: int) -> Rollout:
    """Return how far the rollout is.

    Args:
        database: of a role that may look across customers.
        keys: where the keys stand.
        now: Unix seconds.
    """
    async with database.nobody() as connection:
        rows = await repository.live_instances(connection)
        signed = await repository.signed_by(connection, keys.retired) if keys.retired else []
    return assess(keys, rows, signed, now=now)


def refuse_switch(rollout: Rollout) -> None:
    """Refuse to sign with the next keys while somebody in touch has not seen them.

    Raises:
        PermanentError: reason ``NotSeenYet``, names who.
    """
    if rollout.waiting:
        raise PermanentError(
            f"{len(rollout.waiting)} of {len(rollout.instances)} live instances are in touch and "
            f"have not seen key set {rollout.keys.target}: {_names(rollout.waiting)}. They take "
            "it within the hour; wait, or switch with --force",
            reason="NotSeenYet",
        )


def refuse_retirement(rollout: Rollout) -> None:
    """Refuse to take old keys away while somebody may need them.

    Raises:
        PermanentError: reason ``OldKeyNeeded``, names who, and until when.
    """
    needing = rollout.needing
    if needing:
        last = max(each.needs_until or 0 for each in needing)
        raise PermanentError(
            f"{len(needing)} of {len(rollout.instances)} live instances may hold what the old "
            f"keys signed, the last until {datetime.fromtimestamp(last, UTC):%Y-%m-%d}: "
            f"{_names(needing)}. Wait, end instances that are gone with `billing admin instances "
            "free`, make new bundles for those behind an air gap, or retire with --force",
            reason="OldKeyNeeded",
        )


def _names(instances: Sequence[InstanceProgress]) -> str:
    listed = ", ".join(f"{each.tenant_id} ({each.instance_id})" for each in instances[:_NAMED])
    more = len(instances) - _NAMED
    return f"{listed} and {more} more" if more > 0 else listed


async def record_step(
    database: Database,
    rollout: Rollout,
    step: Literal["switch", "retire"],
    *,
    actor: str,
    forced: bool,
    now: int,
) -> None:
    """Write a step of a rotation into the vendor's own audit log, with who is passed over.

    Before it is made: no step goes unrecorded, whatever is killed.
    """
    passed_over = rollout.waiting if step == "switch" else rollout.needing
    async with database.nobody() as connection:
        await audit.record_own(
            connection,
            now=now,
            actor=actor,
            action=f"keys.{step}",
            subject=str(rollout.keys.number),
            details={
                "forced": forced,
                "instances": len(rollout.instances),
                "seen": rollout.seen,
                "passedOver": [each.instance_id for each in passed_over[:1000]],
            },
        )
