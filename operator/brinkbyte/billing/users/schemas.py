"""Requests and answers about a customer's people and their sessions."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from brinkbyte.billing.users.passwords import MAX_LENGTH, MIN_LENGTH
from brinkbyte.kit.model import OpenWireModel, WireModel
from brinkbyte.license.claims import Identifier, UnixTime

Email = Annotated[
    str,
    StringConstraints(
        max_length=254, pattern=r"^[^\s@\x00-\x1f\x7f<>,;:\"()]{1,64}@[A-Za-z0-9.-]+$"
    ),
]
RoleName = Literal["owner", "billing", "viewer"]
PersonName = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f]*$")]
Password = Annotated[str, Field(max_length=MAX_LENGTH)]
NewPassword = Annotated[str, Field(min_length=MIN_LENGTH, max_length=MAX_LENGTH)]
LinkToken = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[!-~]+$")]


class UserInvite(WireModel):
    """A person to invite; the invitation goes to the address and is good for 7 days."""

    email: Email
    role: RoleName = "viewer"
    name: PersonName = ""


class UserPatch(WireModel):
    """What to change of a person; what is left out stays."""

    role: RoleName | None = None
    name: PersonName | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.role is None and self.name is None:
            raise ValueError("name a role or a name")
        return self


class User(OpenWireModel):
    """A person of a customer's."""

    user_id: str
    email: str
    name: str
    role: RoleName
    has_password: bool
    created_at: UnixTime
    created_by: str
    verified_at: UnixTime | None


class Users(OpenWireModel):
    """A page of a customer's people, newest first."""

    users: tuple[User, ...]
    next: str | None = Field(None, description="cursor of the next page; null on the last one")


class SignIn(WireModel):
    """Address and password; ``customerId`` where the same person belongs to several customers."""

    email: Email
    password: Password
    customer_id: Identifier | None = None


class LinkRequest(WireModel):
    """Who wants a sign-in link; whether there is such a person is not said."""

    email: Email
    customer_id: Identifier | None = None


class LinkSignIn(WireModel):
    """The token of an invitation or a sign-in link, and with it a new password if wanted."""

    token: LinkToken
    password: NewPassword | None = None


class PasswordChange(WireModel):
    """A new password; ``current`` where there is one, unless a link was used within the hour."""

    password: NewPassword
    current: Password | None = None


class Accepted(OpenWireModel):
    """The same answer whoever asks."""

    detail: str = "if the address is known here, a link is on its way; it is good for 20 minutes"


class Session(OpenWireModel):
    """A session of the person who asks; its secret is in the cookie alone."""

    session_id: str
    customer_id: str
    user_id: str
    email: str
    name: str
    role: RoleName
    scopes: tuple[str, ...]
    csrf_token: str = Field(description="send it as X-CSRF-Token with POST, PUT, PATCH, DELETE")
    expires_at: UnixTime


class SessionRow(OpenWireModel):
    """One of a person's sessions."""

    session_id: str
    agent: str
    created_at: UnixTime
    seen_at: UnixTime
    expires_at: UnixTime
    current: bool


class Sessions(OpenWireModel):
    """A person's live sessions, newest first."""

    sessions: tuple[SessionRow, ...]
