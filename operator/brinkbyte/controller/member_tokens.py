"""Camera tokens: read from their Secrets and verified, taken from answers, written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from brinkbyte.controller.children import secrets
from brinkbyte.controller.cluster import Object
from brinkbyte.controller.context import Context, TenantMemory
from brinkbyte.controller.documents import Documents
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.member_pass import Camera, Pass
from brinkbyte.controller.member_status import fits
from brinkbyte.controller.roster import HeldToken, Member, chunks
from brinkbyte.kit.errors import BrinkByteError, TemporaryError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.license.claims import CameraClaims
from brinkbyte.license.tokens import TokenError
from brinkbyte.resources import names

_VERIFIED_AT_ONCE: Final = 100


async def read_unread(
    ctx: Context, run: Pass, *, identity: Identity, documents: Documents, memory: TenantMemory
) -> None:
    """Verify what stands in Secrets that are other than when they were read last."""
    if documents.key_set is None:
        return
    unread = [member for member in run.crew.members.values() if member.unread]
    for some in chunks(unread, _VERIFIED_AT_ONCE):
        for member in some:
            secret = run.secret(member.secret_name)
            if secret is None and member.written:
                # Its labels may have been taken away.
                secret = await ctx.cluster.get("Secret", run.namespace, member.secret_name)
                if secret is not None:
                    run.roster.put(secret)
            _verify(ctx, member, secret, identity=identity, documents=documents, memory=memory)
        await asyncio.sleep(0)  # probes and watches have their turn


def read_token(
    ctx: Context, camera: Camera, *, identity: Identity, documents: Documents, memory: TenantMemory
) -> None:
    """Give a camera that was opened what stands in its Secret."""
    if documents.key_set is None:
        return
    camera.claims = _verify(
        ctx, camera.member, camera.secret, identity=identity, documents=documents, memory=memory
    )
    if camera.claims is not None:
        camera.token = secrets.decode(camera.secret)[names.CAMERA_TOKEN_KEY]


def _verify(
    ctx: Context,
    member: Member,
    secret: Object | None,
    *,
    identity: Identity,
    documents: Documents,
    memory: TenantMemory,
) -> CameraClaims | None:
    member.unread, member.held = False, None
    token = secrets.decode(secret).get(names.CAMERA_TOKEN_KEY, "")
    if not token or documents.key_set is None:
        return None
    try:
        claims = ctx.camera_tokens.verify(
            token, documents.key_set, instance=identity.instance_id, now=ctx.now
        )
    except TokenError as error:
        # Another takes its place as soon as the billing API can be asked.
        if memory.newly_told(member.secret_name, token):
            ctx.events.emit(
                ctx.roster.camera(member),
                "Warning",
                "Issued",
                error.reason,
                f"{names.CAMERA_TOKEN_KEY} in Secret {member.secret_name} is not good: "
                f"{error.message}",
            )
        return None
    if claims.camera_id != member.camera_id or claims.cnf.jkt != identity.key.kid:
        return None
    member.held = HeldToken.of(claims)
    return claims


def take_token(
    ctx: Context,
    camera: Camera,
    *,
    identity: Identity,
    documents: Documents,
    memory: TenantMemory,
) -> None:
    """Give a camera the token that the billing API has answered, unless it has a newer one."""
    result = memory.inventory.camera_results.get(camera.member.camera_id)
    if camera.blocked is not None or result is None or not result.token:
        return
    if documents.key_set is None:
        return
    try:
        claims = ctx.camera_tokens.verify(
            result.token, documents.key_set, instance=identity.instance_id, now=ctx.now
        )
    except TokenError as error:
        camera.conflict = error
        return
    if camera.claims is None or claims.camera_sequence >= camera.claims.camera_sequence:
        camera.claims, camera.token = claims, result.token


def note_missing(run: Pass, memory: TenantMemory, members: Iterable[Member]) -> None:
    """Note which camera licenses should have a token that fits, and have none."""
    missing = memory.crew.missing
    for member in members:
        judged = run.judge(member)
        result = memory.inventory.camera_results.get(member.camera_id)
        refused = result is not None and result.status == "refused"
        held = member.held is not None and fits(member, judged.hardware_id, member.held)
        if judged.blocked is None and not refused and not held:
            missing.add(member.name)
        else:
            missing.discard(member.name)


async def write_secret(ctx: Context, run: Pass, camera: Camera) -> Object | None:
    """Write a camera's token into its Secret; one that is not ours is a conflict.

    Returns:
        what the API has answered; None: nothing was written.
    """
    if not camera.token:
        return None
    name = camera.member.secret_name
    live = camera.secret
    try:
        wanted = secrets.member_secret(
            camera.model,
            secrets.CAMERA_LICENSE,
            name,
            {names.CAMERA_TOKEN_KEY: camera.token},
        )
        if live is None:
            written = await ctx.cluster.apply_new(wanted)
        else:
            written = await ctx.cluster.apply(wanted, live=live)
    except BrinkByteError as error:
        camera.conflict = error
        if isinstance(error, TemporaryError):
            run.errors.append(error)
        return None
    run.roster.put(written)
    camera.secret = written
    camera.member.held = HeldToken.of(camera.claims) if camera.claims else None
    camera.member.unread = False
    failpoint("issue.secret_written")
    await _remove_former_secrets(ctx, run, camera)
    return None if written is live else written


async def _remove_former_secrets(ctx: Context, run: Pass, camera: Camera) -> None:
    """Delete the Secret that a CameraLicense had under a former ``secretName``."""
    for name in run.roster.secrets_of(camera.member.uid):
        if name == camera.member.secret_name:
            continue
        former = run.secret(name)
        labels = former["metadata"].get("labels", {}) if former else {}
        if former and labels.get(names.LABEL_COMPONENT) == secrets.CAMERA_LICENSE:
            await ctx.cluster.delete("Secret", run.namespace, name, uid=former["metadata"]["uid"])
