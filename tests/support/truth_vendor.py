"""The vendor of the ledger's campaign: two billing servers on one database, which is read here."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from brinkbyte.license.claims import ReceiptClaims
from brinkbyte.license.keys import PublicJwk, verify_key_set
from brinkbyte.license.tokens import TokenError, verify
from brinkbyte.trust import parse_roots
from support.billing import BillingApi
from support.processes import free_port
from support.truth_oracle import DiskView, LedgerView


@dataclass
class Vendor:
    """Both servers, and the billing database as the superuser sees it."""

    api: BillingApi
    servers: list[BillingApi] = field(init=False)
    # Kept to the end: a server that a thread started dies with the thread.
    _starters: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2))

    def __post_init__(self) -> None:
        self.servers = [self.api, replace(self.api, port=free_port())]

    def start(self) -> None:
        list(self._starters.map(lambda server: server.start(), self.servers))

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def close(self) -> None:
        for server in self.servers:
            server.stop()
        self._starters.shutdown()

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """Read the billing database as the superuser, who sees every tenant."""
        dsn = self.api.server.dsn(self.api.database)
        with psycopg.connect(dsn, row_factory=dict_row) as connection:
            return connection.execute(statement, parameters).fetchall()  # type: ignore[arg-type]  # our own literals

    def billed(self, customer: str) -> set[str]:
        """Return ids of the customer's events in the ledger."""
        found = self.rows("SELECT id::text AS id FROM usage_events WHERE tenant_id = %s", customer)
        return {row["id"] for row in found}

    def head(self, customer: str) -> str | None:
        """Return the chain hash that the open epoch ends with."""
        found = self.rows(
            "SELECT encode(last_chain_hash, 'hex') AS head FROM usage_epochs "
            "WHERE tenant_id = %s AND state = 'open'",
            customer,
        )
        return found[0]["head"] if found else None

    def epochs(self, customer: str) -> set[str]:
        found = self.rows(
            "SELECT epoch::text AS epoch FROM usage_epochs WHERE tenant_id = %s", customer
        )
        return {row["epoch"] for row in found}

    def ledger(
        self, customer: str, connection: psycopg.Connection[Any] | None = None
    ) -> LedgerView:
        """Read all of a customer's ledger, in a transaction's view if one is given."""

        def rows(table: str) -> list[dict[str, Any]]:
            statement = f"SELECT * FROM {table} WHERE tenant_id = %s"
            if connection is None:
                return self.rows(statement, customer)
            return connection.execute(statement, (customer,)).fetchall()  # type: ignore[arg-type]  # our own literals

        return LedgerView(
            rows("usage_events"),
            rows("usage_aggregates"),
            rows("usage_batches"),
            rows("usage_epochs"),
            len(rows("usage_quarantine")),
            len(rows("clone_alarms")),
        )

    def keys(self) -> dict[str, PublicJwk]:
        roots = parse_roots(self.api.roots.read_bytes()).keys
        document = (self.api.keys / "jwks.json").read_bytes()
        return dict(verify_key_set(document, roots, now=int(time.time())).keys)


def verified(ledger: LedgerView, keys: dict[str, PublicJwk]) -> set[tuple[str, int]]:
    """Return the batches whose stored receipt the vendor's key signed for exactly them."""
    found = set()
    for row in ledger.batches:
        try:
            claims = verify(row["receipt"], ReceiptClaims, keys, now=int(time.time()))
        except TokenError:
            continue
        said = (
            claims.instance,
            claims.epoch,
            claims.batch_no,
            claims.chain_hash,
            claims.payload_sha256,
            claims.count,
        )
        stored = (
            row["instance_id"],
            str(row["epoch"]),
            row["batch_no"],
            bytes(row["chain_hash"]).hex(),
            bytes(row["payload_sha256"]).hex(),
            row["count"],
        )
        if said == stored and not claims.quarantined:
            found.add((claims.epoch, claims.batch_no))
    return found


def as_good(disk: DiskView, ledger: LedgerView, keys: dict[str, PublicJwk]) -> DiskView:
    """Put the ledger's receipts for others of the vendor's for the same batch.

    A ledger that was restored signs a batch that it had before anew, for whoever sends it first; a
    clone keeps the receipt that it got.
    """
    stored = {bytes(row["chain_hash"]).hex(): row["receipt"] for row in ledger.batches}
    receipts = {}
    for chain_hash, receipt in disk.receipts.items():
        receipts[chain_hash] = receipt
        if receipt is None or chain_hash not in stored:
            continue
        try:
            claims = verify(receipt, ReceiptClaims, keys, now=int(time.time()))
        except TokenError:
            continue
        if claims.chain_hash == chain_hash:
            receipts[chain_hash] = stored[chain_hash]
    return replace(disk, receipts=receipts)


def alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
