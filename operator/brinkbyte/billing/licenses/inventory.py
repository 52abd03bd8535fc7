"""The inventory: what a cluster declares, against what the customer bought, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping

from brinkbyte.billing.auth import InstanceCaller
from brinkbyte.billing.clones import service as clones
from brinkbyte.billing.context import Context
from brinkbyte.billing.db import Connection
from brinkbyte.billing.instances import repository as instances
from brinkbyte.billing.licenses import documents, issue, repository
from brinkbyte.billing.licenses.cameras import CameraIssuer
from brinkbyte.billing.licenses.holdings import (
    Allocation,
    Bought,
    Camera,
    Decision,
    Device,
)
from brinkbyte.billing.licenses.issue import Customer, Issued
from brinkbyte.billing.licenses.repository import CameraToken
from brinkbyte.billing.licenses.settling import State, load_state, settle
from brinkbyte.billing.rollout import service as rollout
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.wire import (
    CameraResult,
    DeviceResult,
    Held,
    InventoryAnswer,
    InventoryRequest,
    Use,
)

_MESSAGE_LENGTH = 400


def declared_after(
    state: State, request: InventoryRequest
) -> tuple[dict[str, Device], dict[str, Camera]]:
    """Return the complete declared set after a complete or delta inventory.

    Raises:
        ProblemError: 409 ``RevisionMismatch``; 422 for one resource sent twice.
    """
    devices = {}
    for item in request.devices:
        registered = _registered(state, item.name, item.hardware_id)
        devices[item.name] = Device(
            name=item.name,
            uid=item.uid,
            hardware_id=item.hardware_id,
            tier=item.management_tier,
            site=item.site,
            created_at=item.created_at,
            registered_at=None if registered is None else registered.registered_at,
            registered_tier=None if registered is None else registered.registered_tier,
        )
    cameras = {
        item.name: Camera(
            name=item.name,
            uid=item.uid,
            camera_id=item.camera_id,
            hardware_id=item.hardware_id,
            mode=item.mode,
            packs=tuple(sorted(set(item.growth_packs))),
            created_at=item.created_at,
        )
        for item in request.cameras
    }
    if len(devices) != len(request.devices) or len(cameras) != len(request.cameras):
        raise ProblemError(
            422, "a resource name is there twice; send each resource once", reason="InvalidRequest"
        )
    if request.base_revision is None:
        return devices, cameras
    if request.base_revision != state.revision or state.revision == 0:
        raise _mismatch(state)
    gone_devices, gone_cameras = set(request.removed_devices), set(request.removed_cameras)
    kept_devices = {n: d for n, d in state.devices.items() if d.hardware_id not in gone_devices}
    kept_cameras = {n: c for n, c in state.cameras.items() if c.camera_id not in gone_cameras}
    # One id removed that two resources claim: only the complete set says which one stays.
    if len(state.devices) - len(kept_devices) > len(gone_devices) or len(state.cameras) - len(
        kept_cameras
    ) > len(gone_cameras):
        raise _mismatch(state)
    return {**kept_devices, **devices}, {**kept_cameras, **cameras}


def _registered(state: State, name: str, hardware_id: str) -> Device | None:
    """Return the registered device that a resource goes on with."""
    before = state.devices.get(name)
    if before is not None and before.hardware_id == hardware_id:
        return before
    # A resource of another name took the device over in one go: the registration goes with it.
    return next(
        (
            d
            for d in state.devices.values()
            if d.hardware_id == hardware_id and d.registered_at is not None
        ),
        None,
    )


def _mismatch(state: State) -> ProblemError:
    return ProblemError(
        409,
        "the base revision is not the newest; send the complete set with baseRevision null",
        reason="RevisionMismatch",
        revision=state.revision,
    )


async def put_inventory(
    context: Context, caller: InstanceCaller, request: InventoryRequest
) -> InventoryAnswer:
    """Take in an inventory and answer with licenses for what is new or changed."""
    async with context.database.tenant(caller.tenant_id) as connection:
        customer = await documents.load_customer(
            connection, context, caller.tenant_id, caller.instance_id, lock=True
        )
        answer = await answer_inventory(connection, context, customer, request, actor=caller.actor)
        await rollout.note_held(connection, context, caller, request.held.key_set_number)
        if request.cluster_fingerprint is not None:
            await clones.note_cluster(connection, context, caller, request.cluster_fingerprint)
        alarm = await clones.open_alarm(connection, caller)
        answer = answer.model_copy(update={"clone_alarm": alarm})
        failpoint("inventory.before_commit")
    failpoint("inventory.committed")
    context.metrics.inventories.inc()
    return answer


async def answer_inventory(
    connection: Connection,
    context: Context,
    customer: Customer,
    request: InventoryRequest,
    *,
    actor: str,
    whole: bool = False,
) -> InventoryAnswer:
    """Decide an inventory and answer it, in the caller's transaction; the customer is locked.

    Args:
        connection: a transaction of the tenant.
        context: the server's dependencies.
        customer: whose.
        request: what the cluster declares.
        actor: for the audit log.
        whole: answer with every document and token, also those that the caller holds.
    """
    state = await load_state(connection, customer)
    devices, cameras = declared_after(state, request)
    settled = await settle(
        connection, context, customer, state,
        devices=devices, cameras=cameras, actor=actor,
    )  # fmt: skip
    bought, outcome, cameras = settled.bought, settled.outcome, settled.cameras
    seats = outcome.live_seats
    issued = await documents.issue_documents(
        connection,
        context,
        customer,
        state.issued,
        documents.stale_documents(
            context,
            customer,
            state.issued,
            seats=seats,
            devices=documents.device_order(outcome.devices.values()),
            entries=state.revocations,
            held=request.held,
        ),
    )
    held = {camera.name: camera.held_sequence for camera in request.cameras}
    issuer = CameraIssuer(context, customer, bought, state.tokens)
    fresh = await issuer.issue(
        connection,
        outcome,
        cameras,
        held,
        seats_sequence=issued.get(TokenKind.SEATS, Issued()).sequence,
    )
    revision = state.revision
    if settled.changed or fresh or revision == 0:
        revision = issue.next_sequence(state.revision, context.clock())
        await instances.set_revision(
            connection, customer.tenant_id, customer.instance.instance_id, revision
        )
    return InventoryAnswer(
        server_time=context.now(),
        **documents.newer(context, issued, Held() if whole else request.held),
        revision=revision,
        devices=_device_results(request, state, outcome),
        cameras=await _camera_results(
            connection,
            customer,
            dict.fromkeys(held, 0) if whole else held,
            state,
            outcome=outcome,
            cameras=cameras,
            issuer=issuer,
        ),
        device_use=_device_use(outcome, bought),
        camera_use=Use(used=len(seats), limit=bought.base_seats + bought.trial_seats),
        refresh_after=issue.REFRESH_AFTER,
    )


def _device_use(outcome: Allocation, bought: Bought) -> Use:
    used = sum(device.registered_at is not None for device in outcome.devices.values())
    if bought.tier_limits is not None:
        return Use(used=used, limit=sum(bought.tier_limits.values()))
    return Use(used=used, limit=bought.device_limit)


def _use(decision: Decision) -> Use | None:
    return Use(used=decision.used, limit=decision.limit) if decision.used is not None else None


def _device_results(
    request: InventoryRequest, state: State, outcome: Allocation
) -> tuple[DeviceResult, ...]:
    names = [item.name for item in request.devices]
    sent = set(names)
    names += [
        name
        for name, device in outcome.devices.items()
        if name not in sent and state.devices.get(name) != device
    ]
    results = []
    for name in names:
        decision = outcome.device_decisions[name]
        results.append(
            DeviceResult(
                hardware_id=outcome.devices[name].hardware_id,
                status="registered" if decision.accepted else "refused",
                reason=decision.reason,
                message=decision.message[:_MESSAGE_LENGTH],
                use=_use(decision),
            )
        )
    return tuple(results)


async def _camera_results(
    connection: Connection,
    customer: Customer,
    sent: Mapping[str, int],
    state: State,
    *,
    outcome: Allocation,
    cameras: Mapping[str, Camera],
    issuer: CameraIssuer,
) -> tuple[CameraResult, ...]:
    """Return what becomes of cameras; ``sent`` are the names sent, with the numbers held."""
    held = dict(sent)
    names = list(held)
    for name, camera in cameras.items():
        if name not in held:
            before = state.tokens.get(camera.camera_id, CameraToken()).sequence
            after = issuer.tokens.get(camera.camera_id, CameraToken()).sequence
            if state.cameras.get(name) != camera or before != after:
                names.append(name)
                held[name] = before
    accepted = [name for name in names if outcome.camera_decisions[name].accepted]
    missing = [
        cameras[name].camera_id
        for name in accepted
        if issuer.tokens[cameras[name].camera_id].sequence != held[name]
        and issuer.tokens[cameras[name].camera_id].token is None
    ]
    stored = (
        await repository.camera_tokens(connection, customer.tenant_id, missing) if missing else {}
    )
    results = []
    for name in names:
        camera, decision = cameras[name], outcome.camera_decisions[name]
        if not decision.accepted:
            results.append(
                CameraResult(
                    camera_id=camera.camera_id,
                    status="refused",
                    reason=decision.reason,
                    message=decision.message[:_MESSAGE_LENGTH],
                    sku=decision.sku or None,
                    use=_use(decision),
                )
            )
            continue
        token = issuer.tokens[camera.camera_id]
        unchanged = token.sequence == held[name]
        results.append(
            CameraResult(
                camera_id=camera.camera_id,
                status="unchanged" if unchanged else "issued",
                token=None if unchanged else token.token or stored[camera.camera_id],
                seat=outcome.seats[camera.camera_id].seat_id,
            )
        )
    return tuple(results)
