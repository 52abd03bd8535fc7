"""Signs of life: what an instance tells of itself, and what is waiting for it."""

from __future__ import annotations

from datetime import UTC, datetime

from brinkbyte.billing.auth import InstanceCaller
from brinkbyte.billing.clones import service as clones
from brinkbyte.billing.context import Context
from brinkbyte.billing.instances import repository
from brinkbyte.billing.licenses import service as licenses
from brinkbyte.billing.rollout import service as rollout
from brinkbyte.license.wire import Heartbeat, HeartbeatAnswer, Held


async def heartbeat(context: Context, caller: InstanceCaller, beat: Heartbeat) -> HeartbeatAnswer:
    """Store what the instance tells and say whether something newer is waiting."""
    now = context.now()
    moment = datetime.fromtimestamp(now, UTC)
    context.keyring.refresh()
    async with context.database.tenant(caller.tenant_id) as connection:
        await repository.heartbeat(connection, caller.tenant_id, caller.instance_id, beat, moment)
        await clones.note_cluster(connection, context, caller, beat.cluster_fingerprint)
        await rollout.note_held(connection, context, caller, beat.key_set_number)
        alarm = await clones.open_alarm(connection, caller)
    held = Held(license_sequence=beat.license_sequence, key_set_number=beat.key_set_number)
    waiting = await licenses.license_waiting(context, caller, held)
    return HeartbeatAnswer(server_time=now, refresh=waiting, clone_alarm=alarm)
