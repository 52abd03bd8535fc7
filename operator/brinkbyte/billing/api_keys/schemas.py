"""Requests and answers about a customer's API keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import UnixTime

KeyScope = Literal["billing:read", "billing:write"]
KeyName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]*$")]
DEFAULT_LIFE_DAYS = 365


class ApiKeyCreate(WireModel):
    """A new API key: what it is for, what it may do, how many days it is good."""

    name: KeyName
    scopes: Annotated[tuple[KeyScope, ...], Field(min_length=1, max_length=2)] = ("billing:read",)
    life_days: Annotated[int, Field(ge=1, le=730)] = DEFAULT_LIFE_DAYS


class ApiKeyRotate(WireModel):
    """For how many hours the key of before stays good beside the new one."""

    overlap_hours: Annotated[int, Field(ge=0, le=168)] = 24


class ApiKey(OpenWireModel):
    """An API key as it is kept: its secret is nowhere."""

    key_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: UnixTime
    created_by: str
    expires_at: UnixTime
    revoked_at: UnixTime | None
    replaced_by: str | None


class ApiKeyMade(ApiKey):
    """A new API key with its secret, which is shown only now."""

    secret: str = Field(description="send it as `Authorization: Bearer …`; it is shown only now")


class ApiKeys(OpenWireModel):
    """A page of a customer's API keys, newest first."""

    keys: tuple[ApiKey, ...]
    next: str | None = Field(None, description="cursor of the next page; null on the last one")
