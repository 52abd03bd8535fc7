"""Camera licenses: cut what is new, changed or near its end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Final

from brinkbyte.billing.context import Context
from brinkbyte.billing.db import Connection
from brinkbyte.billing.licenses import documents, issue, repository
from brinkbyte.billing.licenses.holdings import Allocation, Bought, Camera
from brinkbyte.billing.licenses.issue import CameraContents, Customer
from brinkbyte.billing.licenses.repository import CameraToken
from brinkbyte.license.claims import TokenKind

_NONE: Final = CameraToken()


class CameraIssuer:
    """Cuts camera licenses; keeps what is stored of each."""

    def __init__(
        self,
        context: Context,
        customer: Customer,
        bought: Bought,
        stored: Mapping[str, CameraToken],
    ) -> None:
        self.tokens = dict(stored)
        self._context = context
        self._customer = customer
        self._bought = bought
        self._contents = CameraContents(context.catalog, customer)

    async def issue(
        self,
        connection: Connection,
        outcome: Allocation,
        cameras: Mapping[str, Camera],
        held: Mapping[str, int],
        *,
        seats_sequence: int,
    ) -> set[str]:
        """Cut what is new, changed, or near its end; returns the camera ids."""
        if not self._bought.kept:
            return set()
        now, clock = self._context.now(), self._context.clock()
        newest_held = {
            cameras[name].camera_id: sequence for name, sequence in held.items() if sequence
        }
        grace = self._customer.standing.grace_seconds
        term = self._customer.instance.term
        end_of = cache(partial(issue.camera_end, self._customer, now=now))
        claims, hashes = [], {}
        for seat in outcome.live_seats:
            before = self.tokens.get(seat.camera_id, _NONE)
            wanted = self._contents.hash(seat)
            end = end_of(seat.until)
            behind = (
                before.sequence
                < newest_held.get(seat.camera_id, 0)
                <= int(clock * documents.MICROSECOND)
            )
            stale = issue.must_issue(before, wanted, end, now, grace=grace, term=term)
            if stale or self._context.orphaned(before.key_id) or (behind and end > now):
                hashes[seat.camera_id] = wanted
                claims.append(
                    issue.camera_claims(
                        self._customer,
                        seat,
                        self._contents.grant(seat.packs),
                        now=now,
                        sequence=issue.next_sequence(before.sequence, clock),
                        seats_sequence=seats_sequence,
                    )
                )
        if not claims:
            return set()
        signed = await documents.sign_all(self._context, claims)
        made = {
            c.camera_id: CameraToken(
                c.camera_sequence,
                hashes[c.camera_id],
                c.exp,
                token,
                self._context.keyring.key(TokenKind.CAMERA).kid,
            )
            for c, token in zip(claims, signed, strict=True)
        }
        await repository.save_camera_tokens(connection, self._customer.tenant_id, made)
        self.tokens.update(made)
        return set(made)
