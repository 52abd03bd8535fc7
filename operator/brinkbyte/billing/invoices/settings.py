"""Settings of invoices: who sells, and when what is due. ``BRINKBYTE_…`` variables."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from brinkbyte.billing.invoices.schemas import Seller
from brinkbyte.kit.settings import Settings


class InvoiceSettings(Settings):
    r"""What invoices need of their seller.

    Attributes:
        seller_name: name on invoices.
        seller_address: lines separated by ``|``.
        seller_tax_id: tax number; left out when empty.
        seller_email: for questions.
        seller_payment: how to pay, lines separated by ``|``; {number} is the invoice's number.
        invoice_due_days: from the invoice to its due date.
        invoice_delay_seconds: how long a closed period waits for events that are on their way.
    """

    seller_name: Annotated[str, Field(min_length=1, max_length=200)] = "BrinkByte Vision"
    seller_address: Annotated[str, Field(max_length=600)] = ""
    seller_tax_id: Annotated[str, Field(max_length=100)] = ""
    seller_email: Annotated[str, Field(max_length=200)] = ""
    seller_payment: Annotated[str, Field(max_length=600)] = ""
    invoice_due_days: Annotated[int, Field(ge=0, le=365)] = 14
    invoice_delay_seconds: Annotated[int, Field(ge=0, le=86_400)] = 600

    @property
    def seller(self) -> Seller:
        """Who sells, line by line."""
        return Seller(
            name=self.seller_name,
            address=_lines(self.seller_address),
            tax_id=self.seller_tax_id,
            email=self.seller_email,
            payment=_lines(self.seller_payment),
        )


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.split("|") if line.strip())
