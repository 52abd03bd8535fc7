"""License, seats and revocations of a customer: kept current, signed off the event loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brinkbyte.billing.context import Context
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.instances import repository as instances
from brinkbyte.billing.licenses import issue, repository
from brinkbyte.billing.licenses.holdings import Device, HeldSeat
from brinkbyte.billing.licenses.issue import Customer, Instance, Issued
from brinkbyte.billing.subscriptions import history
from brinkbyte.billing.subscriptions.standing import Standing, entitlements_of, standing_of
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.claims import Claims, Revocation, SubscriptionStatus, TokenKind
from brinkbyte.license.tokens import KIND_OF, sign
from brinkbyte.license.wire import Held

MICROSECOND = 1_000_000


@dataclass(frozen=True)
class Wanted:
    """A document that must be cut anew."""

    kind: TokenKind
    claims: Claims
    sequence: int
    content_sequence: int
    content_hash: bytes


async def load_customer(
    connection: Connection, context: Context, tenant_id: str, instance_id: str, *, lock: bool
) -> Customer:
    """Return what the documents of a customer say.

    Args:
        connection: a transaction of the tenant.
        context: the server's dependencies.
        tenant_id: whose.
        instance_id: for which instance.
        lock: keep others from changing anything of the customer until the transaction ends.

    Raises:
        ProblemError: 403 ``InstanceEnded``.
    """
    find = customers.lock if lock else customers.find
    row = await find(connection, tenant_id)
    instance = await instances.find(connection, tenant_id, instance_id)
    if row is None or instance is None or instance["ended_at"] is not None:
        raise ProblemError(
            403, "this instance has ended; enroll again with a new token", reason="InstanceEnded"
        )
    standing = standing_of(
        await history.current(connection, context.catalog, tenant_id, context.now())
    )
    return customer_of(context, row, instance, standing)


def customer_of(context: Context, row: Row, instance: Row, standing: Standing) -> Customer:
    """Put a customer together."""
    return Customer(
        tenant_id=row["tenant_id"],
        name=row["name"],
        flags=row["flags"],
        standing=standing,
        entitlements=entitlements_of(context.catalog, standing),
        instance=Instance(
            instance["instance_id"],
            instance["key_id"],
            instance["cluster_fingerprint"],
            instance["settled_for"],
        ),
    )


def stale_documents(
    context: Context,
    customer: Customer,
    stored: Mapping[TokenKind, Issued],
    *,
    seats: Iterable[HeldSeat] | None,
    devices: Iterable[str],
    entries: Sequence[Revocation],
    held: Held,
) -> list[Wanted]:
    """Return the documents that must be cut anew.

    Args:
        context: the server's dependencies.
        customer: what the documents say.
        stored: the newest ones.
        seats: seats in use; None leaves the seat list out.
        devices: registered hardware ids, longest-registered first.
        entries: revocations.
        held: what the caller holds; a higher number than ours means that we were restored.
    """
    now, clock = context.now(), context.clock()
    wanted: list[Wanted] = []

    def consider(kind: TokenKind, claims: Claims, content: bytes, held_sequence: int) -> None:
        before = stored.get(kind, Issued())
        behind = before.sequence < held_sequence <= int(clock * MICROSECOND)
        grace, term = customer.standing.grace_seconds, customer.instance.term
        stale = issue.must_issue(before, content, claims.exp, now, grace=grace, term=term)
        stale = stale or issue.must_confirm(before, claims, now)
        stale = stale or context.orphaned(before.key_id)
        if stale or (behind and claims.exp > now):
            sequence = issue.next_sequence(before.sequence, clock)
            same = before.content_hash == content
            wanted.append(
                Wanted(
                    kind,
                    claims.model_copy(update={f"{_SEQUENCE_OF[kind]}": sequence}),
                    sequence,
                    before.content_sequence if same else sequence,
                    content,
                )
            )

    if entries or TokenKind.REVOCATIONS in stored:
        listed = issue.revocations_claims(customer, entries, now=now, sequence=0)
        consider(
            TokenKind.REVOCATIONS, listed, issue.content_hash(listed), held.revocation_sequence
        )
    least = (
        wanted[0].content_sequence
        if wanted
        else stored.get(TokenKind.REVOCATIONS, Issued()).content_sequence
    )
    if customer.standing.status is SubscriptionStatus.NONE:
        return wanted
    if seats is not None:
        seat_list = issue.seats_claims(
            context.catalog, customer, seats, devices, now=now, sequence=0, revocations=least
        )
        consider(
            TokenKind.SEATS,
            seat_list,
            issue.content_hash(seat_list, least_revocations=least),
            held.seats_sequence,
        )
    license_ = issue.license_claims(
        context.catalog, customer, now=now, sequence=0, revocations=least
    )
    consider(
        TokenKind.LICENSE,
        license_,
        issue.content_hash(license_, least_revocations=least),
        held.license_sequence,
    )
    return wanted


_SEQUENCE_OF = {
    TokenKind.LICENSE: "license_sequence",
    TokenKind.SEATS: "seats_sequence",
    TokenKind.REVOCATIONS: "revocation_sequence",
}


async def sign_all(context: Context, claims: Iterable[Claims]) -> list[str]:
    """Sign documents in threads; results in the order given."""
    context.keyring.refresh()

    def work(document: Claims) -> str:
        return sign(document, context.keyring.key(KIND_OF[type(document)].key_use))

    listed = list(claims)
    tokens = await context.in_threads(work, listed)
    for document in listed:
        context.metrics.tokens.labels(KIND_OF[type(document)].value).inc()
    failpoint("issue.signed")
    return tokens


async def issue_documents(
    connection: Connection,
    context: Context,
    customer: Customer,
    stored: Mapping[TokenKind, Issued],
    wanted: Sequence[Wanted],
) -> dict[TokenKind, Issued]:
    """Sign and store documents; returns the newest of every kind."""
    if not wanted:
        return dict(stored)
    tokens = await sign_all(context, (item.claims for item in wanted))
    made = {
        item.kind: Issued(
            item.sequence,
            item.content_sequence,
            item.content_hash,
            item.claims.exp,
            token,
            key_id=context.keyring.key(item.kind).kid,
            issued_at=item.claims.iat,
        )
        for item, token in zip(wanted, tokens, strict=True)
    }
    await repository.save_issued(
        connection, customer.tenant_id, customer.instance.instance_id, made, context.now()
    )
    return {**stored, **made}


def newer(context: Context, documents: Mapping[TokenKind, Issued], held: Held) -> dict[str, Any]:
    """Return the members of ``Tokens`` that are newer than what the caller holds."""

    def pick(kind: TokenKind, sequence: int) -> str | None:
        document = documents.get(kind)
        if document is None or not document.token or document.sequence <= sequence:
            return None
        return document.token

    fresh_keys = context.keyring.number > held.key_set_number
    return {
        "license": pick(TokenKind.LICENSE, held.license_sequence),
        "seats": pick(TokenKind.SEATS, held.seats_sequence),
        "revocations": pick(TokenKind.REVOCATIONS, held.revocation_sequence),
        "key_set": context.keyring.document if fresh_keys else None,
    }


def device_order(devices: Iterable[Device]) -> list[str]:
    """Return registered hardware ids, longest-registered first."""
    registered = [d for d in devices if d.registered_at is not None]
    registered.sort(key=lambda d: (d.registered_at, d.created_at, d.uid, d.name))
    return [device.hardware_id for device in registered]
