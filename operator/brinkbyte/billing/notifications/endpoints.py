"""HTTP of notifications: the customer's own targets, and the same for the vendor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from brinkbyte.billing.auth import Scope, TenantCaller, tenant_caller, vendor_caller
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.customers import lookup as customers
from brinkbyte.billing.http import CustomerId, described_body, json_body
from brinkbyte.billing.idempotency import OnceOnly
from brinkbyte.billing.notifications import service
from brinkbyte.billing.notifications.schemas import (
    Notifications,
    Target,
    TargetChange,
    TargetCreate,
    Targets,
)

Server = Annotated[Context, Depends(get_context)]

_create = json_body(TargetCreate)
_change = json_body(TargetChange)


@dataclass(frozen=True)
class Whose:
    """The customer whose targets are meant, and who says so."""

    tenant_id: str
    actor: str


def _tenant(scope: Scope) -> Callable[[TenantCaller], Awaitable[Whose]]:
    admitted = tenant_caller(scope)

    async def whose(caller: TenantCaller = Depends(admitted)) -> Whose:
        return Whose(caller.tenant_id, caller.actor)

    return whose


async def _vendor(
    context: Server, customer_id: CustomerId, actor: Annotated[str, Depends(vendor_caller)]
) -> Whose:
    await customers.require(context, customer_id)
    return Whose(customer_id, actor)


def _routes(
    router: APIRouter,
    base: str,
    reader: Callable[..., Awaitable[Whose]],
    writer: Callable[..., Awaitable[Whose]],
) -> None:
    """Add the routes below a path, for one sort of callers."""
    # Dependencies as defaults: an annotation cannot name what is local here.
    targets = f"{base}/targets"

    @router.get(base)
    async def notifications(
        context: Server,
        before: Annotated[UUID | None, Query()] = None,
        whose: Whose = Depends(reader),
    ) -> Notifications:
        """Return what was told, the newest first, and what became of each telling."""
        async with context.database.tenant(whose.tenant_id) as connection:
            return await service.history(connection, whose.tenant_id, before=before)

    @router.get(targets)
    async def listed(context: Server, whose: Whose = Depends(reader)) -> Targets:
        """Return whom to tell of what."""
        async with context.database.tenant(whose.tenant_id) as connection:
            return await service.show(connection, whose.tenant_id)

    @router.post(targets, openapi_extra=described_body(TargetCreate))
    async def create(
        context: Server,
        once: OnceOnly,
        whose: Whose = Depends(writer),
        request: TargetCreate = Depends(_create),
    ) -> Target:
        """Add an address to tell; a webhook's secret is in this answer alone."""
        return await once.run(
            whose.tenant_id,
            Target,
            lambda connection: service.create(
                connection,
                whose.tenant_id,
                request,
                context.secrets,
                actor=whose.actor,
                now=context.now(),
                allow_private=context.webhook_allow_private,
            ),
        )

    @router.put(f"{targets}/{{target}}", openapi_extra=described_body(TargetChange))
    async def change(
        context: Server,
        target: UUID,
        whose: Whose = Depends(writer),
        request: TargetChange = Depends(_change),
    ) -> Target:
        """Change what an address is told of."""
        async with context.database.tenant(whose.tenant_id) as connection:
            return await service.change(
                connection,
                whose.tenant_id,
                target,
                request.kinds,
                actor=whose.actor,
                now=context.now(),
            )

    @router.post(f"{targets}/{{target}}/enable")
    async def enable(context: Server, target: UUID, whose: Whose = Depends(writer)) -> Target:
        """Let an address be told again that was disabled."""
        async with context.database.tenant(whose.tenant_id) as connection:
            return await service.enable(
                connection, whose.tenant_id, target, actor=whose.actor, now=context.now()
            )

    @router.post(f"{targets}/{{target}}/roll-secret")
    async def roll(
        context: Server, target: UUID, once: OnceOnly, whose: Whose = Depends(writer)
    ) -> Target:
        """Give a webhook its next secret; the one before signs too for a day."""
        return await once.run(
            whose.tenant_id,
            Target,
            lambda connection: service.roll(
                connection,
                whose.tenant_id,
                target,
                context.secrets,
                actor=whose.actor,
                now=context.now(),
            ),
        )

    @router.delete(f"{targets}/{{target}}", status_code=204)
    async def remove(context: Server, target: UUID, whose: Whose = Depends(writer)) -> None:
        """Delete an address."""
        async with context.database.tenant(whose.tenant_id) as connection:
            await service.remove(
                connection, whose.tenant_id, target, actor=whose.actor, now=context.now()
            )


router = APIRouter(tags=["notifications"])
_routes(
    router,
    "/api/billing/notifications",
    _tenant(Scope.BILLING_READ),
    _tenant(Scope.BILLING_WRITE),
)
_routes(router, "/api/v1/admin/customers/{customer_id}/notifications", _vendor, _vendor)
