"""What the signed documents say, as rows for dashboards and SQL. Nothing is decided by them."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from pydantic.alias_generators import to_camel

from brinkbyte.license.claims import Grant, TokenKind
from brinkbyte.store.policy import Policy

Entitlement: TypeAlias = tuple[str, str, bool, int | None]
"""Kind, feature, whether it is enabled, its amount (None: no limit)."""
PackFeature: TypeAlias = tuple[str, str, str]
"""Pack, kind, feature."""
BASE: Final = "base"

_FEATURES: Final = """
WITH given AS (
    SELECT * FROM unnest(%(kinds)s::text[], %(features)s::text[], %(enabled)s::boolean[],
        %(amounts)s::bigint[]) AS item (kind, feature, enabled, amount)
), gone AS (
    DELETE FROM feature_entitlements AS held WHERE tenant_id = %(tenant)s AND NOT EXISTS (
        SELECT FROM given WHERE (given.kind, given.feature) = (held.kind, held.feature))
)
INSERT INTO feature_entitlements AS held
    (tenant_id, kind, feature, enabled, amount, license_sequence)
SELECT %(tenant)s, given.*, %(sequence)s FROM given ORDER BY kind, feature
ON CONFLICT (tenant_id, kind, feature) DO UPDATE SET enabled = excluded.enabled,
    amount = excluded.amount, license_sequence = excluded.license_sequence
WHERE (held.enabled, held.amount, held.license_sequence)
    IS DISTINCT FROM (excluded.enabled, excluded.amount, excluded.license_sequence)
"""
_PACKS: Final = """
WITH given AS (
    SELECT * FROM unnest(%(packs)s::text[], %(kinds)s::text[], %(features)s::text[])
        AS item (pack, kind, feature)
), gone AS (
    DELETE FROM growth_pack_features AS held WHERE tenant_id = %(tenant)s AND NOT EXISTS (
        SELECT FROM given WHERE (given.pack, given.kind, given.feature)
            = (held.pack, held.kind, held.feature))
)
INSERT INTO growth_pack_features (tenant_id, pack, kind, feature)
SELECT %(tenant)s, given.* FROM given ORDER BY pack, kind, feature ON CONFLICT DO NOTHING
"""
_CAMERAS: Final = """
WITH given AS (
    SELECT camera_id, hardware_id, mode, string_to_array(packs, ' ') AS packs,
        to_timestamp(until) AS until
    FROM unnest(%(cameras)s::text[], %(devices)s::text[], %(modes)s::text[], %(packs)s::text[],
        %(until)s::bigint[]) AS item (camera_id, hardware_id, mode, packs, until)
), gone AS (
    DELETE FROM camera_licenses AS held WHERE tenant_id = %(tenant)s AND NOT EXISTS (
        SELECT FROM given WHERE given.camera_id = held.camera_id)
)
INSERT INTO camera_licenses AS held
    (tenant_id, camera_id, hardware_id, mode, packs, until, seats_sequence)
SELECT %(tenant)s, given.*, %(sequence)s FROM given ORDER BY camera_id
ON CONFLICT (tenant_id, camera_id) DO UPDATE SET hardware_id = excluded.hardware_id,
    mode = excluded.mode, packs = excluded.packs, until = excluded.until,
    seats_sequence = excluded.seats_sequence
WHERE (held.hardware_id, held.mode, held.packs, held.until)
    IS DISTINCT FROM (excluded.hardware_id, excluded.mode, excluded.packs, excluded.until)
"""
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('brinkbyte.entitlement_cache', 0))"


def entitlements(policy: Policy) -> list[Entitlement]:
    """Return what the tenant may use now, in order."""
    found: list[Entitlement] = []
    for name, value in policy.features.model_dump(by_alias=False).items():
        if isinstance(value, bool):
            found.append(("flag", to_camel(name), value, None))
        elif value is not None or name == "max_devices":
            found.append(("limit", to_camel(name), True, value))
    for name, value in policy.limits.model_dump(by_alias=False).items():
        if value is not None:
            found.append(("limit", to_camel(name), True, value))
    claims = policy.snapshot.license
    if claims is not None and policy.decision.full:
        found += [("quota", meter, True, amount) for meter, amount in claims.quotas.items()]
    found += [(kind, feature, True, None) for kind, feature in _named(policy.tenant_grant)]
    return sorted(found, key=lambda item: item[:2])


def pack_features(policy: Policy) -> list[PackFeature]:
    """Return what each pack adds: as the vendor signed it, else as the catalog has it."""
    catalog, seats = policy.catalog, policy.snapshot.seats
    adds: dict[str, Any] = {BASE: catalog.base}
    adds |= {name: pack.adds for name, pack in catalog.packs.items() if pack.per == "camera"}
    if seats is not None:
        adds |= {BASE: seats.claims.base, **seats.claims.packs}
    return sorted(
        (pack, kind, feature) for pack, grant in adds.items() for kind, feature in _named(grant)
    )


async def sync_entitlements(conn: AsyncConnection[Any], tenant_id: str, policy: Policy) -> None:
    """Make the rows what the documents in force say, inside the caller's transaction.

    Rows that are right already are not written again.
    """
    await conn.execute(_LOCK)
    found = entitlements(policy)
    await conn.execute(
        _FEATURES,
        {
            "tenant": tenant_id,
            "kinds": [item[0] for item in found],
            "features": [item[1] for item in found],
            "enabled": [item[2] for item in found],
            "amounts": [item[3] for item in found],
            "sequence": policy.snapshot.sequence(TokenKind.LICENSE),
        },
    )
    added = pack_features(policy)
    await conn.execute(
        _PACKS,
        {
            "tenant": tenant_id,
            "packs": [item[0] for item in added],
            "kinds": [item[1] for item in added],
            "features": [item[2] for item in added],
        },
    )
    listed = policy.snapshot.seats.seats.values() if policy.snapshot.seats else ()
    await conn.execute(
        _CAMERAS,
        {
            "tenant": tenant_id,
            "cameras": [seat.camera_id for seat in listed],
            "devices": [seat.hardware_id for seat in listed],
            "modes": [seat.mode.value for seat in listed],
            # Names of packs have no spaces, and an array of arrays would need one length.
            "packs": [" ".join(seat.packs) for seat in listed],
            "until": [seat.until for seat in listed],
            "sequence": policy.snapshot.sequence(TokenKind.SEATS),
        },
    )


async def licensed_cameras(
    conn: AsyncConnection[Any], tenant_id: str, *, after: str, limit: int
) -> list[dict[str, Any]]:
    """Return seats with what they allow, ordered by camera."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            "SELECT camera_id, hardware_id, mode, packs, until, seats_sequence, coalesce(("
            "  SELECT jsonb_object_agg(kind, features) FROM ("
            "    SELECT kind, jsonb_agg(feature ORDER BY feature) AS features"
            "    FROM camera_entitlements AS added WHERE (added.tenant_id, added.camera_id)"
            "      = (held.tenant_id, held.camera_id) GROUP BY kind) AS by_kind), '{}')"
            "  AS features FROM camera_licenses AS held WHERE tenant_id = %s AND camera_id > %s "
            "ORDER BY camera_id LIMIT %s",
            (tenant_id, after, limit),
        )
        return await cursor.fetchall()


def sync_key(policy: Policy) -> tuple[Any, ...]:
    """Return what the rows depend on: another key, and they are to be made anew."""
    snapshot = policy.snapshot
    return (
        snapshot.sequence(TokenKind.LICENSE),
        snapshot.sequence(TokenKind.SEATS),
        policy.decision.mode,
        policy.base_devices,
        # Trial seats end on some day.
        policy.now // 3600,
    )


def _named(grant: Grant | Any) -> list[tuple[str, str]]:
    return [
        *(("model", name) for name in grant.models),
        *(("analytic", name) for name in grant.analytics),
        *(("output", name) for name in grant.outputs),
    ]
