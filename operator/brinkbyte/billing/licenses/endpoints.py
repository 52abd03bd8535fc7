"""HTTP of keys, inventory, tokens, validation and entitlements."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from brinkbyte.billing.auth import (
    InstanceCaller,
    Scope,
    VendorCaller,
    instance_caller,
    secured,
    vendor_emitter,
)
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.http import LARGE_BODY, described_body, json_body
from brinkbyte.billing.licenses import inventory, service
from brinkbyte.billing.quotas import entitlements as quotas
from brinkbyte.license.wire import (
    EntitlementAnswer,
    EntitlementCheck,
    Held,
    InventoryAnswer,
    InventoryRequest,
    Tokens,
    ValidateAnswer,
    ValidateRequest,
)


class _JwkSet(JSONResponse):
    media_type = "application/jwk-set+json"


router = APIRouter(prefix="/api/v1", tags=["licenses"])
well_known = APIRouter(prefix="/.well-known", tags=["licenses"])
Server = Annotated[Context, Depends(get_context)]
_MAX_SEQUENCE = 2**53 - 1
_Number = Annotated[int, Query(ge=0, le=_MAX_SEQUENCE)]


def _held(
    license_sequence: Annotated[_Number, Query(alias="licenseSequence")] = 0,
    seats_sequence: Annotated[_Number, Query(alias="seatsSequence")] = 0,
    revocation_sequence: Annotated[_Number, Query(alias="revocationSequence")] = 0,
    key_set_number: Annotated[_Number, Query(alias="keySetNumber")] = 0,
) -> Held:
    return Held(
        license_sequence=license_sequence,
        seats_sequence=seats_sequence,
        revocation_sequence=revocation_sequence,
        key_set_number=key_set_number,
    )


_instance = instance_caller(Scope.VALIDATE)


async def _entitlement_caller(request: Request) -> InstanceCaller | VendorCaller:
    """Admit an instance, or a service of the vendor's own."""
    if request.headers.get("authorization", "").partition(" ")[2].startswith("bbv_"):
        return await vendor_emitter(request)
    return await _instance(request)


secured(_entitlement_caller, "instanceCredential", "vendorCredential")


@router.get("/keys")
async def keys(context: Server) -> dict[str, Any]:
    """Return the root-signed key set."""
    context.keyring.refresh()
    return context.keyring.document


@well_known.get("/jwks.json", response_class=_JwkSet)
async def jwks(context: Server) -> JSONResponse:
    """Return the public keys as a plain JWKS (RFC 7517), for tools that know no root signature."""
    context.keyring.refresh()
    return _JwkSet(
        {"keys": context.keyring.document["keys"]},
        headers={"Cache-Control": "public, max-age=300"},
    )


@router.put(
    "/inventory", openapi_extra=described_body(InventoryRequest), response_model=InventoryAnswer
)
async def put_inventory(
    context: Server,
    caller: Annotated[InstanceCaller, Depends(instance_caller(Scope.INVENTORY))],
    request: Annotated[InventoryRequest, Depends(json_body(InventoryRequest, LARGE_BODY))],
) -> Response:
    """Take in the devices and cameras of a cluster; answers with their licenses."""
    answer = await inventory.put_inventory(context, caller, request)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get("/instance/tokens", response_model=Tokens, responses={304: {"model": None}})
async def tokens(
    context: Server,
    caller: Annotated[InstanceCaller, Depends(instance_caller(Scope.TOKENS))],
    held: Annotated[Held, Depends(_held)],
) -> Response:
    """Return what is newer than the caller holds, 304 when nothing is."""
    context.keyring.refresh()
    answer = await service.current_tokens(context, caller, held)
    if answer is None:
        return Response(status_code=304)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post("/licenses/validate", openapi_extra=described_body(ValidateRequest))
async def validate(
    context: Server,
    caller: Annotated[InstanceCaller, Depends(instance_caller(Scope.VALIDATE))],
    request: Annotated[ValidateRequest, Depends(json_body(ValidateRequest))],
) -> ValidateAnswer:
    """Answer whether a camera may run on a device (first generation's shape)."""
    return await service.validate(context, caller, request)


@router.post("/entitlements/check", openapi_extra=described_body(EntitlementCheck))
async def check(
    context: Server,
    caller: Annotated[InstanceCaller | VendorCaller, Depends(_entitlement_caller)],
    request: Annotated[EntitlementCheck, Depends(json_body(EntitlementCheck))],
) -> EntitlementAnswer:
    """Answer whether something is entitled, and what of a quota is left; may count it."""
    if isinstance(caller, VendorCaller):
        return await quotas.check_for_vendor(context, caller, request)
    return await service.check_entitlement(context, caller, request)
