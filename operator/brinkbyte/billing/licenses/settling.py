"""What a cluster declares against what the customer bought: decided and stored in one transaction.

An inventory brings a new declared set; between inventories the stored one is decided again when
what may be held has changed, so that a downgrade or a revocation needs no operator to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from brinkbyte.billing import audit
from brinkbyte.billing.context import Context
from brinkbyte.billing.db import Connection
from brinkbyte.billing.devices import repository as device_rows
from brinkbyte.billing.instances import repository as instances
from brinkbyte.billing.licenses import issue, repository
from brinkbyte.billing.licenses import trials as trial_rows
from brinkbyte.billing.licenses.allocation import HOLD_SECONDS, allocate
from brinkbyte.billing.licenses.bought import basis_of, bought_of, skus_of
from brinkbyte.billing.licenses.holdings import Allocation, Bought, Camera, Device, HeldSeat
from brinkbyte.billing.licenses.issue import Customer, Issued
from brinkbyte.billing.licenses.repository import CameraToken
from brinkbyte.license.claims import Revocation, TokenKind

SERVER: Final = "server"
"""Actor in the audit log of what is decided without a request for it."""


@dataclass(frozen=True)
class State:
    """What is stored of a customer's cluster."""

    revision: int
    devices: dict[str, Device]
    cameras: dict[str, Camera]
    seats: dict[str, HeldSeat]
    tokens: dict[str, CameraToken]
    revocations: list[Revocation]
    issued: dict[TokenKind, Issued]


@dataclass(frozen=True)
class Settled:
    """What was decided; ``changed`` says that something of it is new."""

    bought: Bought
    outcome: Allocation
    cameras: dict[str, Camera]
    changed: bool


async def load_state(connection: Connection, customer: Customer) -> State:
    """Read what is stored."""
    tenant_id, instance_id = customer.tenant_id, customer.instance.instance_id
    instance = await instances.find(connection, tenant_id, instance_id)
    seats, tokens = await repository.seats(connection, tenant_id)
    return State(
        revision=0 if instance is None else instance["inventory_revision"],
        devices={d.name: d for d in await device_rows.declared(connection, tenant_id)},
        cameras={c.name: c for c in await repository.declared_cameras(connection, tenant_id)},
        seats=seats,
        tokens=tokens,
        revocations=await repository.revocations(connection, tenant_id),
        issued=await repository.issued(connection, tenant_id, instance_id),
    )


def is_settled(context: Context, customer: Customer, revocations: list[Revocation]) -> bool:
    """Tell whether the stored seats were decided for what may be held now."""
    bought = bought_of(context.catalog, customer, revocations, now=context.now())
    return basis_of(bought) == customer.instance.settled_for


async def settle_again(connection: Connection, context: Context, customer: Customer) -> None:
    """Decide the stored declared set again; the customer must be locked."""
    state = await load_state(connection, customer)
    settled = await settle(
        connection, context, customer, state,
        devices=state.devices, cameras=state.cameras, actor=SERVER,
    )  # fmt: skip
    if settled.changed and state.revision:
        # The next delta does not know of this: another revision asks for the complete set.
        revision = issue.next_sequence(state.revision, context.clock())
        await instances.set_revision(
            connection, customer.tenant_id, customer.instance.instance_id, revision
        )


async def settle(
    connection: Connection,
    context: Context,
    customer: Customer,
    state: State,
    *,
    devices: Mapping[str, Device],
    cameras: Mapping[str, Camera],
    actor: str,
) -> Settled:
    """Decide a complete declared set and store the outcome; the customer must be locked."""
    now, tenant_id = context.now(), customer.tenant_id
    bought = bought_of(context.catalog, customer, state.revocations, now=now)
    slots = await trial_rows.trial_slots(connection, tenant_id)
    trials = await trial_rows.camera_trials(connection, tenant_id)
    outcome = allocate(
        devices.values(),
        list(cameras.values()),
        state.seats.values(),
        slots,
        trials,
        bought,
        now=now,
        new_seat_id=lambda: f"seat-{uuid4()}",
        hold_seconds=HOLD_SECONDS if customer.instance.term.holds_seats else 0,
    )
    decided = {
        name: _decided(camera, outcome.camera_decisions[name].reason)
        for name, camera in cameras.items()
    }
    changed = await _save(
        connection, customer, state,
        outcome=outcome, cameras=decided, bought=bought, actor=actor, now=now,
    )  # fmt: skip
    if {slot.slot: slot for slot in slots} != outcome.slots:
        await trial_rows.save_trial_slots(connection, tenant_id, outcome.slots.values())
    begun = {camera: until for camera, until in outcome.trials.items() if camera not in trials}
    await trial_rows.add_camera_trials(connection, tenant_id, begun, now)
    basis = basis_of(bought)
    if basis != customer.instance.settled_for:
        await instances.set_settled(connection, tenant_id, customer.instance.instance_id, basis)
    return Settled(bought, outcome, decided, changed)


def _decided(camera: Camera, reason: str) -> Camera:
    # Of ten thousand that are declared a handful is new: a copy is for these.
    return camera if camera.reason == reason else camera._replace(reason=reason)


async def _save(
    connection: Connection,
    customer: Customer,
    state: State,
    *,
    outcome: Allocation,
    cameras: Mapping[str, Camera],
    bought: Bought,
    actor: str,
    now: int,
) -> bool:
    """Write what changed; returns whether anything did."""
    tenant_id = customer.tenant_id
    gone_devices = state.devices.keys() - outcome.devices.keys()
    new_devices = [d for n, d in outcome.devices.items() if state.devices.get(n) != d]
    gone_cameras = state.cameras.keys() - cameras.keys()
    new_cameras = [c for n, c in cameras.items() if state.cameras.get(n) != c]
    gone_seats = state.seats.keys() - outcome.seats.keys()
    new_seats = [s for c, s in outcome.seats.items() if state.seats.get(c) != s]
    if gone_devices:
        await device_rows.remove(connection, tenant_id, gone_devices)
    if new_devices:
        await device_rows.save(connection, tenant_id, new_devices)
    if gone_cameras:
        await repository.remove_cameras(connection, tenant_id, gone_cameras)
    if new_cameras:
        await repository.save_cameras(connection, tenant_id, new_cameras)
    if gone_seats:
        await repository.remove_seats(connection, tenant_id, gone_seats)
    if new_seats:
        skus = {seat.camera_id: skus_of(seat, bought) for seat in new_seats}
        await repository.save_seats(connection, tenant_id, new_seats, skus)
    if outcome.history:
        await repository.add_history(connection, tenant_id, outcome.history, actor=actor, now=now)
    changes = {
        "devices": len(new_devices),
        "devicesRemoved": len(gone_devices),
        "cameras": len(new_cameras),
        "camerasRemoved": len(gone_cameras),
        "seats": len(new_seats),
    }
    if not any(changes.values()):
        return bool(gone_seats)
    await audit.record(
        connection,
        tenant_id,
        now=now,
        actor=actor,
        action="inventory.changed",
        subject=customer.instance.instance_id,
        details=changes,
    )
    return True
