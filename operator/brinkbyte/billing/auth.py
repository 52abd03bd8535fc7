"""Who is calling, and may they: every credential and every scope is checked here.

A secret is ``bbi_…`` (instance), ``bbe_…`` (one-time enrollment), ``bbt_…`` (a customer's own
programs), ``bbv_…`` (vendor), ``bbs_…`` (a person's session, in a cookie alone) or ``bbl_…`` (an
e-mailed link, good once). Only its HMAC-SHA256 under the pepper is stored, so a copy of the
database holds nothing that can be sent.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from fastapi import Request

from brinkbyte.billing.db import Connection
from brinkbyte.kit.problem import ProblemError

if TYPE_CHECKING:
    from brinkbyte.billing.context import Context

_SECRET_BYTES: Final = 32
_MAX_SECRET_LENGTH: Final = 256
Kind = Literal["instance", "enrollment", "operator", "tenant", "session", "link"]
_PREFIX: Final[dict[Kind, str]] = {
    "instance": "bbi",
    "enrollment": "bbe",
    "operator": "bbv",
    "tenant": "bbt",
    "session": "bbs",
    "link": "bbl",
}
_BEARER: Final = frozenset({"instance", "enrollment", "operator", "tenant"})
SESSION_COOKIE: Final = "__Host-brinkbyte-session"
CSRF_HEADER: Final = "x-csrf-token"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TOUCH_SECONDS: Final = 300


class Scope(StrEnum):
    """What a credential may be used for."""

    ENROLL = "enroll"
    INSTANCE_ADMIN = "instance:admin"
    INVENTORY = "inventory:write"
    TOKENS = "tokens:read"
    HEARTBEAT = "heartbeat:write"
    VALIDATE = "licenses:validate"
    USAGE = "usage:write"
    VENDOR = "vendor:admin"
    BILLING_READ = "billing:read"
    BILLING_WRITE = "billing:write"
    TENANT_OWNER = "tenant:owner"


class Role(StrEnum):
    """What a person may do at a customer."""

    OWNER = "owner"
    BILLING = "billing"
    VIEWER = "viewer"


ROLE_SCOPES: Final[dict[str, tuple[Scope, ...]]] = {
    Role.OWNER: (Scope.BILLING_READ, Scope.BILLING_WRITE, Scope.TENANT_OWNER),
    Role.BILLING: (Scope.BILLING_READ, Scope.BILLING_WRITE),
    Role.VIEWER: (Scope.BILLING_READ,),
}
"""API keys never have ``tenant:owner``: a key makes no keys and invites nobody."""
SESSION_IDLE: Final = timedelta(hours=12)

INSTANCE_SCOPES: Final = (
    Scope.INSTANCE_ADMIN,
    Scope.INVENTORY,
    Scope.TOKENS,
    Scope.HEARTBEAT,
    Scope.VALIDATE,
    Scope.USAGE,
)
TENANT_SCOPES: Final = (Scope.BILLING_READ, Scope.BILLING_WRITE)
INSTANCE_FAMILIES: Final = ("vision", "fleet")
"""Product lines whose meters a customer instance reports."""


@dataclass(frozen=True)
class Credential:
    """A credential as it was found; an ``account`` is a person found by address, and no secret."""

    credential_id: UUID
    kind: Kind | Literal["account"]
    tenant_id: str | None
    instance_id: str | None
    scopes: frozenset[str]
    families: frozenset[str]
    expires_at: datetime
    revoked_at: datetime | None
    instance_ended: bool
    user_id: UUID | None = None
    seen_at: datetime | None = None


@dataclass(frozen=True)
class InstanceCaller:
    """A customer instance, or the operator that acts for it."""

    tenant_id: str
    instance_id: str
    credential_id: UUID
    families: frozenset[str]

    @property
    def actor(self) -> str:
        """Name in the audit log."""
        return f"instance:{self.instance_id}"


@dataclass(frozen=True)
class VendorCaller:
    """A person or program of the vendor's own; ``families``: whose meters it may report."""

    actor: str
    families: frozenset[str]


@dataclass(frozen=True)
class TenantCaller:
    """A customer's own person or program, on the tenant-facing API.

    Attributes:
        user_id: the person; None of a program.
        session_id: the person's session.
    """

    tenant_id: str
    actor: str
    scopes: frozenset[str]
    user_id: UUID | None = None
    session_id: UUID | None = None


class Secrets:
    """Makes API secrets and the hashes under which they are stored."""

    def __init__(self, pepper: str) -> None:
        self._pepper = pepper.encode()

    def hash(self, secret: str) -> bytes:
        """Return the HMAC-SHA256 of a secret."""
        return hmac.digest(self._pepper, secret.encode("utf-8", "surrogatepass"), hashlib.sha256)

    def named(self, purpose: str, *parts: str) -> bytes:
        """Return 32 bytes that belong to these parts, under a key of the purpose's own.

        No secret that :meth:`hash` is ever asked for has the same.
        """
        key = hmac.digest(self._pepper, b"purpose\0" + purpose.encode(), hashlib.sha256)
        return hmac.digest(key, json.dumps(parts).encode(), hashlib.sha256)

    def create(self, kind: Kind) -> str:
        """Return a new secret of 256 random bits."""
        return f"{_PREFIX[kind]}_{secrets.token_urlsafe(_SECRET_BYTES)}"

    def derive(self, kind: Kind, *parts: str) -> str:
        """Return the secret that belongs to these parts; without the pepper nobody can make it."""
        named = json.dumps([kind, *parts]).encode()
        digest = hmac.digest(self._pepper, b"derive\0" + named, hashlib.sha256)
        return f"{_PREFIX[kind]}_{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


async def find_credentials(connection: Connection, wanted: bytes) -> list[Credential]:
    """Look credentials up by the hash of a secret (or of an e-mail address), across tenants."""
    cursor = await connection.execute("SELECT * FROM find_credential(%s)", [wanted])
    return [
        Credential(
            credential_id=row["credential_id"],
            kind=row["kind"],
            tenant_id=row["tenant_id"],
            instance_id=row["instance_id"],
            scopes=frozenset(row["scopes"]),
            families=frozenset(row["families"]),
            expires_at=row["expires_at"],
            revoked_at=row["revoked_at"],
            instance_ended=row["instance_ended_at"] is not None,
            user_id=row["user_id"],
            seen_at=row["seen_at"],
        )
        for row in await cursor.fetchall()
    ]


async def find_credential(connection: Connection, secret_hash: bytes) -> Credential | None:
    """Look a credential up by the hash of its secret, across tenants."""
    found = await find_credentials(connection, secret_hash)
    return found[0] if found else None


def _unauthorized(detail: str, reason: str, scheme: str = "Bearer") -> ProblemError:
    return ProblemError(401, detail, reason=reason, headers={"WWW-Authenticate": scheme})


async def authenticate(request: Request, scope: Scope) -> Credential:
    """Return the caller's credential if it is good and has the scope.

    Raises:
        ProblemError: 401 ``Unauthorized``, ``CredentialExpired`` or ``CredentialRevoked``; 403
            ``MissingScope``.
    """
    context: Context = request.app.state.context
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(secret) <= _MAX_SECRET_LENGTH:
        raise _unauthorized("send `Authorization: Bearer <credential>`", "Unauthorized")
    async with context.database.nobody() as connection:
        found = await find_credential(connection, context.secrets.hash(secret.strip()))
    if found is None or found.kind not in _BEARER:
        raise _unauthorized("the credential is not known here; enroll again", "Unauthorized")
    if found.revoked_at is not None:
        raise _unauthorized("the credential was revoked; enroll again", "CredentialRevoked")
    if found.expires_at <= datetime.fromtimestamp(context.now(), UTC):
        raise _unauthorized("the credential has ended; enroll again", "CredentialExpired")
    _require_scope(found.scopes, scope)
    kind = "key" if found.kind == "tenant" else found.kind
    request.state.caller = f"{kind}:{found.credential_id}"
    return found


def _require_scope(scopes: frozenset[str], scope: Scope) -> None:
    if scope not in scopes:
        raise ProblemError(
            403,
            f"the credential lacks the scope {scope}; use one that has it",
            reason="MissingScope",
            scope=scope,
        )


def csrf_token(secrets_: Secrets, session_secret: str) -> str:
    """Return the token that unsafe calls of a session carry in ``X-CSRF-Token``."""
    digest = secrets_.named("csrf token", session_secret)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


async def _session(request: Request, scope: Scope | None) -> TenantCaller:
    context: Context = request.app.state.context
    secret = request.cookies.get(SESSION_COOKIE, "")
    if not 0 < len(secret) <= _MAX_SECRET_LENGTH:
        raise _unauthorized(
            "sign in with POST /api/account/sign-in, or send `Authorization: Bearer <API key>`",
            "Unauthorized",
        )
    async with context.database.nobody() as connection:
        found = await find_credential(connection, context.secrets.hash(secret))
    now = datetime.fromtimestamp(context.now(), UTC)
    if (
        found is None
        or found.kind != "session"
        or found.tenant_id is None
        or found.seen_at is None
        or found.revoked_at is not None
        or found.expires_at <= now
        or found.seen_at + SESSION_IDLE <= now
    ):
        raise _unauthorized("the session has ended; sign in again", "SessionEnded")
    if request.method not in _SAFE_METHODS and not hmac.compare_digest(
        request.headers.get(CSRF_HEADER, "").encode(),
        csrf_token(context.secrets, secret).encode(),
    ):
        raise ProblemError(
            403,
            "send the session's CSRF token in X-CSRF-Token; GET /api/account/session has it",
            reason="CsrfTokenMissing",
        )
    (role,) = found.scopes
    scopes = frozenset(scope_names(ROLE_SCOPES[role]))
    if scope is not None:
        _require_scope(scopes, scope)
    if (now - found.seen_at).total_seconds() >= _TOUCH_SECONDS:
        async with context.database.tenant(found.tenant_id) as connection:
            await connection.execute(
                "UPDATE user_sessions SET seen_at = greatest(seen_at, %s) "
                "WHERE tenant_id = %s AND session_id = %s",
                [now, found.tenant_id, found.credential_id],
            )
    actor = f"user:{found.user_id}"
    request.state.caller = actor
    return TenantCaller(found.tenant_id, actor, scopes, found.user_id, found.credential_id)


def secured(check: Any, *schemes: str) -> None:
    """Note which security schemes a dependency takes, for the OpenAPI document.

    Args:
        check: the dependency, if it is not made of those here.
        schemes: of ``instanceCredential vendorCredential tenantKey session``.
    """
    check.security_schemes = schemes


def instance_caller(
    scope: Scope, *, ended: bool = False
) -> Callable[[Request], Awaitable[InstanceCaller]]:
    """Return a dependency that admits instance credentials with a scope.

    Args:
        scope: what the endpoint needs.
        ended: also admit an instance that has ended (so that ending it can be repeated).
    """

    async def check(request: Request) -> InstanceCaller:
        found = await authenticate(request, scope)
        if found.tenant_id is None or found.instance_id is None:
            raise ProblemError(
                403, "this call is for instances; use an instance credential", reason="MissingScope"
            )
        if found.instance_ended and not ended:
            raise ProblemError(
                403,
                "this instance has ended: it was removed, or enrolled again elsewhere; enroll "
                "again with a new token",
                reason="InstanceEnded",
            )
        return InstanceCaller(
            found.tenant_id, found.instance_id, found.credential_id, found.families
        )

    secured(check, "instanceCredential")
    return check


def tenant_caller(scope: Scope) -> Callable[[Request], Awaitable[TenantCaller]]:
    """Return a dependency that admits a customer's own people and programs with a scope.

    A program sends an API key, a person the session's cookie. The tenant is the credential's: no
    parameter of a call ever names it.
    """

    async def check(request: Request) -> TenantCaller:
        if "authorization" not in request.headers:
            return await _session(request, scope)
        found = await authenticate(request, scope)
        if found.kind != "tenant" or found.tenant_id is None:
            raise ProblemError(
                403,
                "this call is for customers; use a tenant's API key",
                reason="MissingScope",
            )
        return TenantCaller(found.tenant_id, f"key:{found.credential_id}", found.scopes)

    schemes = ("session",) if scope is Scope.TENANT_OWNER else ("tenantKey", "session")
    secured(check, *schemes)
    return check


async def same_site(request: Request) -> None:
    """Refuse what another site's page has a browser send, where there is no CSRF token yet.

    Raises:
        ProblemError: 403 ``CrossSite``.
    """
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise ProblemError(
            403, "sign in on our own pages; another site's page sent this", reason="CrossSite"
        )


async def session_caller(request: Request) -> TenantCaller:
    """Admit a person who has signed in, whatever the role."""
    return await _session(request, None)


async def reader_of_customer(request: Request) -> str:
    """Admit the vendor, or the customer whose id is in the path.

    Returns:
        The actor's name in the audit log.

    Raises:
        ProblemError: 401, 403; 404 ``UnknownCustomer`` when a customer asks for another's.
    """
    bearer = request.headers.get("authorization", "").partition(" ")[2].strip()
    if bearer and not bearer.startswith(_PREFIX["tenant"]):
        return await vendor_caller(request)
    caller = await tenant_caller(Scope.BILLING_READ)(request)
    if caller.tenant_id != request.path_params["customer_id"]:
        raise ProblemError(
            404,
            "there is no such customer for this credential; ask for your own",
            reason="UnknownCustomer",
        )
    return caller.actor


async def vendor_emitter(request: Request) -> VendorCaller:
    """Admit the vendor's own credentials."""
    found = await authenticate(request, Scope.VENDOR)
    return VendorCaller(f"operator:{found.credential_id}", found.families)


async def vendor_caller(request: Request) -> str:
    """Admit the vendor's own credentials; returns the actor's name in the audit log."""
    return (await vendor_emitter(request)).actor


secured(vendor_emitter, "vendorCredential")
secured(vendor_caller, "vendorCredential")
secured(session_caller, "session")
secured(reader_of_customer, "vendorCredential", "tenantKey", "session")


def scope_names(scopes: Sequence[Scope]) -> list[str]:
    """Return scopes as they are stored."""
    return [scope.value for scope in scopes]
