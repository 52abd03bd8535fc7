"""An object that cannot be read, stored under an older and laxer schema, says so itself."""

from __future__ import annotations

from datetime import UTC, datetime

from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.resources.conditions import ConditionType, condition, headline


async def write_invalid(ctx: Context, live: Object, error: InvalidInputError) -> None:
    """Write a Ready condition that names the field, unless it stands there already."""
    generation = live["metadata"].get("generation", 0)
    old = live.get("status", {})
    said = old.get("headline", {}).get("message") == error.message
    if said and old.get("observedGeneration") == generation:
        return
    now = datetime.fromtimestamp(ctx.now, UTC)
    ready = condition(
        ConditionType.READY, False, error.reason, error.message, now=now, generation=generation
    )
    shown = headline([ready])
    await ctx.cluster.apply_status(
        live,
        {
            "observedGeneration": generation,
            "conditions": [ready.to_wire()],
            "headline": shown.to_wire() if shown else {},
        },
    )
    ctx.events.emit(live, "Warning", "Ready", error.reason, error.message)
