"""The tables that an import from an old edge database writes into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg import sql

_KEY_FROM_TEXT: Final = {
    "text": "{}",
    # Whole microseconds since 1970.
    "timestamptz": "'epoch'::timestamptz + ({})::bigint * interval '1 microsecond'",
}


@dataclass(frozen=True)
class Target:
    """A table that an import writes into; the tenant is the first column of each.

    Attributes:
        columns: name and type, without the tenant.
        key: how many of the first columns are, with the tenant, the primary key.
        by_day: whether it is partitioned by the day of its first column.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    key: int
    by_day: bool = False

    @property
    def types(self) -> tuple[str, ...]:
        """Types of the columns."""
        return tuple(kind for _, kind in self.columns)

    @property
    def names(self) -> sql.Composed:
        """The columns' names, for a statement."""
        return sql.SQL(", ").join(sql.Identifier(name) for name, _ in self.columns)

    @property
    def keys(self) -> sql.Composed:
        """The key's names, for a statement."""
        return sql.SQL(", ").join(sql.Identifier(name) for name, _ in self.columns[: self.key])

    @property
    def staging(self) -> sql.Identifier:
        """Name of the temporary table."""
        return sql.Identifier(f"staging_{self.name}")

    def matches(self, alias: str) -> sql.Composed:
        """Return the condition that a row's key is the text array ``alias.key``."""
        parts = []
        for index, (name, kind) in enumerate(self.columns[: self.key], start=1):
            element = sql.SQL("{}.key[{}]").format(sql.Identifier(alias), sql.Literal(index))
            parts.append(
                sql.SQL("held.{} = {}").format(
                    sql.Identifier(name),
                    sql.SQL(_KEY_FROM_TEXT[kind]).format(element),
                )
            )
        return sql.SQL(" AND ").join(parts)


_DAY: Final = (("occurred_at", "timestamptz"), ("id", "uuid"))
_OF: Final = (("camera_id", "text"), ("hardware_id", "text"))
TARGETS: Final = {
    target.name: target
    for target in (
        Target("config", (("key", "text"), ("value", "jsonb")), 1),
        Target(
            "cameras",
            (
                ("camera_id", "text"),
                ("name", "text"),
                ("hardware_id", "text"),
                ("enabled", "boolean"),
                ("pipeline", "jsonb"),
            ),
            1,
        ),
        Target(
            "camera_components",
            (
                ("camera_id", "text"),
                ("name", "text"),
                ("kind", "text"),
                ("type", "text"),
                ("settings", "jsonb"),
            ),
            2,
        ),
        Target(
            "line_zones",
            (
                ("camera_id", "text"),
                ("name", "text"),
                ("start_x", "double precision"),
                ("start_y", "double precision"),
                ("end_x", "double precision"),
                ("end_y", "double precision"),
                ("direction", "text"),
            ),
            2,
        ),
        Target("polygon_zones", (("camera_id", "text"), ("name", "text"), ("points", "jsonb")), 2),
        Target(
            "telemetry_events",
            (
                *_DAY,
                *_OF,
                ("kind", "text"),
                ("label", "text"),
                ("track_id", "text"),
                ("zone", "text"),
                ("score", "real"),
                ("attributes", "jsonb"),
            ),
            2,
            by_day=True,
        ),
        Target(
            "frames",
            (
                *_DAY,
                *_OF,
                ("media_type", "text"),
                ("width", "integer"),
                ("height", "integer"),
                ("thumbnail", "bytea"),
            ),
            2,
            by_day=True,
        ),
        Target(
            "telemetry_aggregates",
            (
                ("bucket", "timestamptz"),
                ("camera_id", "text"),
                ("kind", "text"),
                ("label", "text"),
                ("events", "bigint"),
                ("score_sum", "double precision"),
                ("scored", "bigint"),
            ),
            4,
        ),
    )
}
