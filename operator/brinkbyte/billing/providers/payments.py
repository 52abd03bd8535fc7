"""What a payment means to us: said by ``invoices``, called from here."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

from brinkbyte.billing.db import Connection
from brinkbyte.billing.invoices import service


class Payments(Protocol):
    """Takes in what became of an invoice, in its tenant's transaction; both may be repeated."""

    async def payment_succeeded(
        self, connection: Connection, invoice_id: UUID, at: datetime, actor: str, *, now: int
    ) -> None:
        """Note that it is paid."""
        ...

    async def payment_failed(
        self, connection: Connection, invoice_id: UUID, actor: str, *, now: int
    ) -> None:
        """Note that it is not paid though it is due."""
        ...


class InvoicePayments:
    """The payments of ``brinkbyte.billing.invoices``."""

    async def payment_succeeded(
        self, connection: Connection, invoice_id: UUID, at: datetime, actor: str, *, now: int
    ) -> None:
        """Note that it is paid."""
        await service.payment_succeeded(connection, invoice_id, at, actor, now=now)

    async def payment_failed(
        self, connection: Connection, invoice_id: UUID, actor: str, *, now: int
    ) -> None:
        """Note that it is not paid though it is due."""
        await service.payment_failed(connection, invoice_id, actor, now=now)
