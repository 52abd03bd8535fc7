"""E-mailed links: good once, for a while. Their token is stored nowhere.

A token is derived from the pepper and the link's id, so that a notification carries the id alone
and whoever writes the e-mail makes the token again: :func:`link_token`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from brinkbyte.billing.auth import Secrets
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.notifications.outbox import Kind, enqueue
from brinkbyte.billing.users import repository
from brinkbyte.kit.uuid7 import uuid7

INVITATION_LIFE: Final = timedelta(days=7)
SIGN_IN_LIFE: Final = timedelta(minutes=20)
PER_HOUR: Final = 5
LinkKind = Literal["invitation", "sign_in"]
_KINDS: Final[dict[LinkKind, Kind]] = {
    "invitation": Kind.USER_INVITED,
    "sign_in": Kind.SIGN_IN_LINK,
}


def link_token(secrets: Secrets, tenant_id: str, link_id: str) -> str:
    """Return the token of a link: what ``POST /api/account/sign-in/link`` 's e-mail carries."""
    return secrets.derive("link", tenant_id, link_id)


async def send_in(
    connection: Connection,
    secrets: Secrets,
    user: Row,
    kind: LinkKind,
    *,
    customer_name: str,
    now: int,
) -> UUID | None:
    """Make a link and put its e-mail into the outbox; returns its id.

    None, and nothing is sent, when the person was sent :data:`PER_HOUR` within the hour.
    """
    tenant_id: str = user["tenant_id"]
    moment = datetime.fromtimestamp(now, UTC)
    hour_ago = moment - timedelta(hours=1)
    sent = await repository.recent_links(connection, tenant_id, user["user_id"], hour_ago)
    if sent >= PER_HOUR:
        return None
    link_id = uuid7()
    end = moment + (INVITATION_LIFE if kind == "invitation" else SIGN_IN_LIFE)
    await repository.add_link(
        connection,
        tenant_id,
        link_id,
        user_id=user["user_id"],
        kind=kind,
        secret_hash=secrets.hash(link_token(secrets, tenant_id, str(link_id))),
        now=moment,
        expires_at=end,
    )
    await enqueue(
        connection,
        tenant_id,
        _KINDS[kind],
        key=f"link:{link_id}",
        payload={
            "to": user["email"],
            "linkId": str(link_id),
            "name": user["name"],
            "role": user["role"],
            "customerName": customer_name,
            "expiresAt": int(end.timestamp()),
        },
        now=now,
    )
    return link_id
