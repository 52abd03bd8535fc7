"""An export service of the vendor's own: what the license does not allow never runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header

from brinkbyte.guards import (
    EntitlementEnforcer,
    GuardSettings,
    UsageTracker,
    check_device_limit,
    get_entitlement_enforcer,
    get_usage_tracker,
    install_problem_handlers,
    open_guards,
    require_active_subscription,
    require_entitlement,
    require_feature,
)

Enforcer = Annotated[EntitlementEnforcer, Depends(get_entitlement_enforcer)]
Tracker = Annotated[UsageTracker, Depends(get_usage_tracker)]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Follow the license as long as the service runs."""
    async with open_guards(GuardSettings.load()):
        yield


# Health needs no license; every route of the service itself needs one in force.
app = FastAPI(title="Guarded service", lifespan=lifespan)
install_problem_handlers(app)
licensed = Depends(require_active_subscription)


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer probes."""
    return {"status": "ok"}


@app.post("/exports", dependencies=[licensed, Depends(require_feature("canExportData"))])
async def export(tracker: Tracker) -> dict[str, str]:
    """Export: only plans that have the feature get here; what went out is metered, not limited."""
    event = await tracker.track("cloud_export_gb", Decimal("0.25"))
    return {"exported": "everything", "event": event or "not metered"}


@app.post("/devices", dependencies=[licensed, Depends(check_device_limit)])
def add_device() -> dict[str, str]:
    """Add a device: one more must fit the limit."""
    return {"added": "one"}


@app.post("/reports", dependencies=[licensed])
@require_entitlement("agent_executions")
def report() -> dict[str, str]:
    """Write a report: each call is counted and metered before it runs."""
    return {"report": "written"}


@app.post("/questions", dependencies=[licensed])
async def ask(
    text: str, enforcer: Enforcer, idempotency_key: Annotated[str | None, Header()] = None
) -> dict[str, Any]:
    """Ask the language model: a repeat with the same Idempotency-Key is counted once."""
    tokens = max(1, len(text) // 4)
    check = await enforcer.check_and_record("llm_tokens", tokens, key=idempotency_key)
    check.or_raise()
    return {"answer": "42", "remaining": check.remaining, "warning": check.warning}
