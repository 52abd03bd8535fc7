"""Does a batch fit the chain? Epochs, numbers without gaps, hashes."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from brinkbyte.billing.auth import InstanceCaller
from brinkbyte.billing.db import Connection
from brinkbyte.billing.usage import repository
from brinkbyte.metering.batches import NO_HASH, BatchHeader


@dataclass(frozen=True)
class Refusal:
    """Why a batch does not fit the chain."""

    reason: str
    message: str
    alarm: bool = False
    missing: tuple[int, int] | None = None


async def refuse_first(
    connection: Connection, caller: InstanceCaller, header: BatchHeader, follows: UUID | None
) -> Refusal | None:
    """Judge a batch of an epoch that the ledger does not know."""
    if header.batch_no != 1:
        return Refusal(
            "Gap",
            f"this epoch starts with batch 1; send 1 to {header.batch_no - 1} first",
            missing=(1, header.batch_no - 1),
        )
    current = await repository.open_epoch(connection, caller.tenant_id, caller.instance_id)
    followed = (
        None if follows is None else await repository.epoch(connection, caller.tenant_id, follows)
    )
    if current is not None and follows != current["epoch"]:
        closed = followed is not None and followed["state"] == "closed"
        return Refusal(
            "EpochConflict",
            "another epoch of this instance is open; read the head and open a new epoch that "
            "follows it",
            alarm=closed,
        )
    if current is None:
        inherited = await repository.inherited_epoch(connection, caller.tenant_id)
        if inherited is not None and follows != inherited["epoch"]:
            return Refusal(
                "EpochConflict",
                "the instance before this one left an open epoch; read the head and open a new "
                "epoch that follows it",
            )
    if followed is not None and followed["instance_id"] != caller.instance_id:
        ended = await repository.instance_ended(
            connection, caller.tenant_id, followed["instance_id"]
        )
        if not ended:
            return Refusal("EpochConflict", "the epoch it follows is another live instance's")
    if followed is None:
        fits = follows is not None or header.previous_hash == NO_HASH
    else:
        fits = header.previous_hash == NO_HASH or await repository.has_chain_hash(
            connection, caller.tenant_id, followed["epoch"], bytes.fromhex(header.previous_hash)
        )
    if not fits:
        return Refusal(
            "ChainMismatch",
            "previousHash is not of a batch of the epoch it follows; read the head and open a "
            "new epoch",
        )
    return None


def refuse_next(
    epoch: dict[str, object], header: BatchHeader, caller: InstanceCaller
) -> Refusal | None:
    """Judge a batch of an epoch that the ledger knows."""
    if epoch["instance_id"] != caller.instance_id:
        return Refusal("EpochConflict", "this epoch is another instance's; open a new one")
    if epoch["state"] != "open":
        return Refusal(
            "EpochClosed",
            "another epoch follows this one; read the head and open a new epoch that follows it",
            alarm=True,
        )
    last = epoch["last_batch_no"]
    if not isinstance(last, int):
        raise AssertionError("an epoch without its last batch")
    if header.batch_no > last + 1:
        return Refusal(
            "Gap",
            f"the ledger has this epoch up to batch {last}; send {last + 1} to "
            f"{header.batch_no - 1} first",
            missing=(last + 1, header.batch_no - 1),
        )
    if header.batch_no <= last:
        return Refusal(
            "ChainMismatch",
            "the ledger has another batch under this number; read the head and open a new epoch",
            alarm=True,
        )
    chain_hash = epoch["last_chain_hash"]
    if not isinstance(chain_hash, bytes) or header.previous_hash != chain_hash.hex():
        return Refusal(
            "ChainMismatch",
            "previousHash is not the chain hash of the batch before; read the head and open a "
            "new epoch",
        )
    return None
