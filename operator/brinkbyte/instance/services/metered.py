"""A metered call of a device: done once per Idempotency-Key, billed in the transaction of its work.

The key is reserved, the work done, the metering event written and the answer stored in one
transaction; the caller hears of it after the commit. A repeat gets the stored answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from brinkbyte.instance.credentials import Principal
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.pools import Pool
from brinkbyte.kit.problem import ProblemError
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.metering.events import UsageEvent
from brinkbyte.store import StoredAnswer, idempotent, record_event
from brinkbyte.store.database import Connection

API_CALLS: Final = "vision.api_calls"


@dataclass(frozen=True)
class MeteredCall:
    """A call as it came.

    Attributes:
        principal: the device.
        key: its Idempotency-Key, None when it sent none.
        method: HTTP method.
        target: path and query.
        body: the bytes of the body.
    """

    principal: Principal
    key: str | None
    method: str
    target: str
    body: bytes

    @property
    def request_hash(self) -> str:
        """SHA-256 of method, target and body, hex."""
        digest = hashlib.sha256(f"{self.method} {self.target}\n".encode())
        digest.update(self.body)
        return digest.hexdigest()


@dataclass(frozen=True)
class MeteredAnswer:
    """What the caller gets.

    Attributes:
        replayed: it is the stored answer of an earlier call.
        tracked: this call wrote an event, or was a stored answer and had none to write.
    """

    status: int
    body: bytes
    replayed: bool
    tracked: bool = True


@dataclass(frozen=True)
class Work:
    """What the work came to."""

    answer: BaseModel
    camera_id: str
    attributes: dict[str, str]


async def metered(
    pool: Pool,
    call: MeteredCall,
    *,
    name: str,
    status: int,
    work: Callable[[Connection, str | None], Awaitable[Work]],
    tracked: Callable[[], bool],
) -> MeteredAnswer:
    """Do a metered call's work once.

    Args:
        pool: the instance's database.
        call: as it came.
        name: of the operation, for the event and the named points of tests.
        status: of the answer.
        work: does the work in the transaction, given the metering event's id.
        tracked: tells whether use is metered now; where the vendor has switched that off there is
            no event, and everything else is the same.

    Raises:
        ProblemError: 400 ``IdempotencyKeyRequired``; and whatever the work refuses with, in which
            case nothing is kept and the key is free again.
    """
    if call.key is None:
        raise ProblemError(
            400,
            "send an Idempotency-Key header with a fresh UUID for each request, the same one when "
            "the request is sent again",
            reason="IdempotencyKeyRequired",
        )
    device = call.principal.device
    event_id = str(uuid7()) if tracked() else None
    async with pool.connection() as connection:
        reserved = await idempotent(
            connection, call.principal.credential_id, call.key, call.request_hash
        )
        if isinstance(reserved, StoredAnswer):
            return MeteredAnswer(reserved.status, reserved.body, replayed=True)
        done = await work(connection, event_id)
        if event_id is not None:
            await record_event(
                connection,
                UsageEvent(
                    id=event_id,
                    meter=API_CALLS,
                    quantity="1",
                    key=call.key,
                    camera_id=done.camera_id,
                    hardware_id=device.hardware_id if device else None,
                    attributes={"operation": name, **done.attributes},
                ),
            )
        body = done.answer.model_dump_json().encode()
        await reserved.store(connection, status, body)
        failpoint(f"{name}.before_commit")
    failpoint(f"{name}.committed")
    return MeteredAnswer(status, body, replayed=False, tracked=event_id is not None)


def waived_attribute(reasons: Iterable[str]) -> dict[str, str]:
    """Return the event's attribute that tells the vendor what validation would have refused."""
    listed = ",".join(reasons)
    return {"waived": listed} if listed else {}
