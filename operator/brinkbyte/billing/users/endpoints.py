"""HTTP of a customer's people: the vendor's, the owner's, and everybody's own."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from brinkbyte.billing.auth import (
    SESSION_COOKIE,
    Scope,
    TenantCaller,
    same_site,
    session_caller,
    tenant_caller,
    vendor_caller,
)
from brinkbyte.billing.context import Context, get_context
from brinkbyte.billing.http import CustomerId, described_body, json_body
from brinkbyte.billing.idempotency import OnceOnly
from brinkbyte.billing.paging import Page, Paged
from brinkbyte.billing.users import service, signing_in
from brinkbyte.billing.users.schemas import (
    Accepted,
    LinkRequest,
    LinkSignIn,
    PasswordChange,
    Session,
    Sessions,
    SignIn,
    User,
    UserInvite,
    UserPatch,
    Users,
)

vendor = APIRouter(prefix="/api/v1/admin/customers/{customer_id}/users", tags=["people"])
tenant = APIRouter(prefix="/api/billing/users", tags=["people"])
account = APIRouter(prefix="/api/account", tags=["account"])
Server = Annotated[Context, Depends(get_context)]
Vendor = Annotated[str, Depends(vendor_caller)]
Owner = Annotated[TenantCaller, Depends(tenant_caller(Scope.TENANT_OWNER))]
Person = Annotated[TenantCaller, Depends(session_caller)]
Invite = Annotated[UserInvite, Depends(json_body(UserInvite))]
Patch = Annotated[UserPatch, Depends(json_body(UserPatch))]


async def _page(context: Context, customer_id: str, page: Page) -> Users:
    async with context.database.tenant(customer_id) as connection:
        found = await service.page_in(connection, customer_id, before=page.uuid(), limit=page.fetch)
    users, following = page.cut(found, lambda user: user.user_id)
    return Users(users=users, next=following)


async def _invite(
    context: Context, once: OnceOnly, customer_id: str, request: UserInvite, actor: str
) -> User:
    return await once.run(
        customer_id,
        User,
        lambda connection: service.invite_in(
            connection, context.secrets, customer_id, request, actor=actor, now=context.now()
        ),
    )


async def _again(
    context: Context, once: OnceOnly, customer_id: str, user_id: UUID, actor: str
) -> User:
    return await once.run(
        customer_id,
        User,
        lambda connection: service.invite_again_in(
            connection, context.secrets, customer_id, user_id, actor=actor, now=context.now()
        ),
    )


async def _change(
    context: Context, customer_id: str, user_id: UUID, request: UserPatch, actor: str
) -> User:
    async with context.database.tenant(customer_id) as connection:
        return await service.change_in(
            connection, customer_id, user_id, request, actor=actor, now=context.now()
        )


async def _remove(context: Context, customer_id: str, user_id: UUID, actor: str) -> None:
    async with context.database.tenant(customer_id) as connection:
        await service.remove_in(connection, customer_id, user_id, actor=actor, now=context.now())


# The vendor's.


@vendor.get("")
async def users_of(context: Server, actor: Vendor, customer_id: CustomerId, page: Paged) -> Users:
    """List a customer's people, newest first."""
    return await _page(context, customer_id, page)


@vendor.post("", status_code=201, openapi_extra=described_body(UserInvite))
async def invite_to(
    context: Server, actor: Vendor, customer_id: CustomerId, once: OnceOnly, request: Invite
) -> User:
    """Invite a person to a customer, such as its first owner."""
    return await _invite(context, once, customer_id, request, actor)


@vendor.post("/{user_id}/invitation")
async def invite_again_to(
    context: Server, actor: Vendor, customer_id: CustomerId, user_id: UUID, once: OnceOnly
) -> User:
    """Send an invitation again."""
    return await _again(context, once, customer_id, user_id, actor)


@vendor.patch("/{user_id}", openapi_extra=described_body(UserPatch))
async def change_of(
    context: Server, actor: Vendor, customer_id: CustomerId, user_id: UUID, request: Patch
) -> User:
    """Change a person's role or name."""
    return await _change(context, customer_id, user_id, request, actor)


@vendor.delete("/{user_id}", status_code=204)
async def remove_from(
    context: Server, actor: Vendor, customer_id: CustomerId, user_id: UUID
) -> None:
    """Remove a person; also the last owner."""
    await _remove(context, customer_id, user_id, actor)


# The owner's.


@tenant.get("")
async def users(context: Server, caller: Owner, page: Paged) -> Users:
    """List the customer's people, newest first."""
    return await _page(context, caller.tenant_id, page)


@tenant.post("", status_code=201, openapi_extra=described_body(UserInvite))
async def invite(context: Server, caller: Owner, once: OnceOnly, request: Invite) -> User:
    """Invite a person; the invitation goes to the address and is good for 7 days."""
    return await _invite(context, once, caller.tenant_id, request, caller.actor)


@tenant.post("/{user_id}/invitation")
async def invite_again(context: Server, caller: Owner, user_id: UUID, once: OnceOnly) -> User:
    """Send an invitation again."""
    return await _again(context, once, caller.tenant_id, user_id, caller.actor)


@tenant.patch("/{user_id}", openapi_extra=described_body(UserPatch))
async def change(context: Server, caller: Owner, user_id: UUID, request: Patch) -> User:
    """Change a person's role or name; the last owner stays one."""
    return await _change(context, caller.tenant_id, user_id, request, caller.actor)


@tenant.delete("/{user_id}", status_code=204)
async def remove(context: Server, caller: Owner, user_id: UUID) -> None:
    """Remove a person; the last owner stays."""
    await _remove(context, caller.tenant_id, user_id, caller.actor)


# Everybody's own.


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")


def _with_cookie(response: Response, made: signing_in.SignedIn) -> Session:
    response.set_cookie(
        SESSION_COOKIE,
        made.secret,
        max_age=int(signing_in.SESSION_LIFE.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="lax",
    )
    return made.session


_OWN_PAGES = [Depends(same_site)]


@account.post("/sign-in", dependencies=_OWN_PAGES, openapi_extra=described_body(SignIn))
async def sign_in(
    context: Server,
    http: Request,
    response: Response,
    request: Annotated[SignIn, Depends(json_body(SignIn))],
) -> Session:
    """Sign in by address and password; the session is in the cookie of the answer."""
    return _with_cookie(response, await signing_in.sign_in(context, request, _agent(http)))


@account.post(
    "/sign-in/link",
    dependencies=_OWN_PAGES,
    status_code=202,
    openapi_extra=described_body(LinkRequest),
)
async def request_link(
    context: Server, request: Annotated[LinkRequest, Depends(json_body(LinkRequest))]
) -> Accepted:
    """Ask for a sign-in link by e-mail; the answer is the same whoever asks."""
    await signing_in.request_link(context, request)
    return Accepted()


@account.post("/sign-in/token", dependencies=_OWN_PAGES, openapi_extra=described_body(LinkSignIn))
async def sign_in_by_link(
    context: Server,
    http: Request,
    response: Response,
    request: Annotated[LinkSignIn, Depends(json_body(LinkSignIn))],
) -> Session:
    """Sign in by the token of an invitation or a sign-in link; may set a password, too."""
    return _with_cookie(response, await signing_in.sign_in_by_link(context, request, _agent(http)))


@account.post("/sign-out", status_code=204)
async def sign_out(context: Server, caller: Person, response: Response) -> None:
    """End this session."""
    await signing_in.end_session(context, caller, None)
    response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="lax")


@account.get("/session")
async def session(context: Server, caller: Person, request: Request) -> Session:
    """Return who is signed in, and the CSRF token of the session."""
    return await signing_in.current(context, caller, request.cookies.get(SESSION_COOKIE, ""))


@account.get("/sessions")
async def sessions(context: Server, caller: Person) -> Sessions:
    """List this person's live sessions."""
    return await signing_in.sessions(context, caller)


@account.delete("/sessions/{session_id}", status_code=204)
async def end_session(context: Server, caller: Person, session_id: UUID) -> None:
    """End one of this person's sessions; again is fine."""
    await signing_in.end_session(context, caller, session_id)


@account.put("/password", status_code=204, openapi_extra=described_body(PasswordChange))
async def change_password(
    context: Server,
    caller: Person,
    request: Annotated[PasswordChange, Depends(json_body(PasswordChange))],
) -> None:
    """Set a password; all other sessions of this person end."""
    await signing_in.change_password(context, caller, request)
