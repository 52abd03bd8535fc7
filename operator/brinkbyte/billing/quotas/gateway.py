"""Authorization for gateways: nginx ``auth_request`` and Envoy ``ext_authz`` over HTTP.

The gateway passes each request's credential on; the answer counts the use and says the limits in
headers. nginx knows 2xx, 401 and 403 alone and drops the body: with ``?refuse=403`` every refusal
is a 403 whose real status and body stand in headers, which the documented configuration turns back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from brinkbyte.billing.auth import Scope, tenant_caller, vendor_emitter
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.customers import lookup as customers
from brinkbyte.billing.quotas import enforcement
from brinkbyte.billing.quotas.answers import FORBIDDEN, UPGRADE_HEADER, limit_headers, refused
from brinkbyte.billing.quotas.schemas import MAX_QUANTITY
from brinkbyte.kit.problem import ProblemError, problem
from brinkbyte.license.modes import UPGRADE_URL

router = APIRouter(prefix="/api/v1/gateway", tags=["gateway"])
STATUS_HEADER: Final = "X-BrinkByte-Status"
PROBLEM_HEADER: Final = "X-BrinkByte-Problem"
TENANT_HEADER: Final = "X-BrinkByte-Customer"
_OWN_KEY: Final = "x-api-key"
_UNAUTHORIZED: Final = 401
_NINE_PLACES: Final = -9


@dataclass(frozen=True)
class GatewayCaller:
    """For whom a gateway asks, and who is named in the ledger."""

    tenant_id: str
    actor: str
    vendor: bool


def _key_as_bearer(request: Request) -> Request:
    """Return a request whose ``X-API-Key``, if it has one, stands where keys are looked for."""
    key = request.headers.get(_OWN_KEY)
    if not key or "authorization" in request.headers:
        return request
    headers = [*request.scope["headers"], (b"authorization", b"Bearer " + key.encode("latin-1"))]
    return Request({**request.scope, "headers": headers}, request.receive)


async def _caller(request: Request, context: Context, meter: str) -> GatewayCaller:
    """Find the customer: of the tenant's own key, or named by an emitter of the vendor's.

    Never a session: GET counts too, and its cookie comes with a link on another site's page.
    """
    asked = _key_as_bearer(request)
    if "authorization" not in asked.headers:
        raise ProblemError(
            _UNAUTHORIZED,
            "send `Authorization: Bearer <API key>` or `X-API-Key`; a session does not count here",
            reason="Unauthorized",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if asked.headers.get("authorization", "").partition(" ")[2].startswith("bbv_"):
        vendor = await vendor_emitter(asked)
        enforcement.check_family(context, vendor, meter)
        tenant_id = asked.headers.get(context.gateway.customer_header, "")
        if not tenant_id:
            raise ProblemError(
                FORBIDDEN,
                f"name the customer in {context.gateway.customer_header}",
                reason="MissingCustomer",
            )
        await customers.require(context, tenant_id)
        return GatewayCaller(tenant_id, vendor.actor, vendor=True)
    tenant = await tenant_caller(Scope.BILLING_READ)(asked)
    return GatewayCaller(tenant.tenant_id, tenant.actor, vendor=False)


def _quantity(text: str | None) -> Decimal:
    """Read the quantity that the gateway was configured to say; 1 if it says none."""
    if text is None or not text:
        return Decimal(1)
    try:
        quantity = Decimal(text)
    except InvalidOperation:
        quantity = Decimal("NaN")
    exponent = quantity.as_tuple().exponent
    if (
        not quantity.is_finite()
        or not 0 <= quantity < MAX_QUANTITY
        or not isinstance(exponent, int)
        or exponent < _NINE_PLACES
    ):
        raise ProblemError(
            422,
            "the quantity is no decimal from 0 to 10^12 with at most 9 places; correct the "
            "gateway's configuration",
            reason="InvalidQuantity",
        )
    return quantity


async def _answer(request: Request, context: Context) -> Response:
    gateway = context.gateway
    meter = request.headers.get(gateway.meter_header) or gateway.meter
    if meter not in context.catalog.meters:
        raise enforcement.unknown_meter(meter[:128])
    caller = await _caller(request, context, meter)
    quantity = _quantity(request.headers.get(gateway.quantity_header))
    use = enforcement.Use(meter, quantity, emitter=caller.actor)
    found = await enforcement.reserve(context, caller.tenant_id, use)
    if not found.allowed:
        raise refused(found, context.now())
    headers = limit_headers(found, context.now())
    headers[TENANT_HEADER] = caller.tenant_id
    if found.warning:
        headers["X-BrinkByte-Warning"] = found.message
    return Response(status_code=200, headers=headers)


def _for_nginx(error: ProblemError) -> Response:
    """Return a refusal in the one form that ``auth_request`` passes on: status and headers."""
    body = {
        "type": f"urn:brinkbyte:problem:{error.reason}",
        "title": error.reason,
        "status": error.status,
        "detail": error.message,
        "reason": error.reason,
        **error.details,
    }
    headers = {
        **error.headers,
        STATUS_HEADER: str(error.status),
        # One line of ASCII: it goes into a header and comes back as the client's body.
        PROBLEM_HEADER: json.dumps(body, ensure_ascii=True),
        UPGRADE_HEADER: UPGRADE_URL,
    }
    status = error.status if error.status == _UNAUTHORIZED else FORBIDDEN
    return problem(status, error.message, reason=error.reason, headers=headers, **error.details)


async def authorize(
    request: Request,
    context: Annotated[Context, Depends(get_context)],
    refuse: Annotated[int | None, Query(ge=403, le=403)] = None,
) -> Response:
    """Count one use of a meter and answer 200, or 401, 403, 429; limits are in the headers."""
    try:
        return await _answer(request, context)
    except ProblemError as error:
        if refuse is None:
            raise
        return _for_nginx(error)


async def authorize_path(
    request: Request, context: Annotated[Context, Depends(get_context)]
) -> Response:
    """Count one use of a meter for Envoy; the path and the query are the client's own."""
    return await _answer(request, context)


_METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
_SECURITY: Final[dict[str, Any]] = {"security": [{"tenantKey": []}, {"vendorCredential": []}]}
# One by one: each operation of the API's description has an id of its own.
for _method in ("GET", "POST"):
    router.add_api_route(
        "/authorize",
        authorize,
        methods=[_method],
        response_class=Response,
        openapi_extra=_SECURITY,
    )
# Envoy puts the client's own path behind its prefix and keeps the client's method.
router.add_api_route(
    "/authorize/{path:path}", authorize_path, methods=_METHODS, include_in_schema=False
)
