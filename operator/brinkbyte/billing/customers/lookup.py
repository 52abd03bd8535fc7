"""Which customer is meant: found, or refused. Everything may ask; it asks for nothing itself."""

from __future__ import annotations

from brinkbyte.billing.context import Context
from brinkbyte.billing.customers import repository
from brinkbyte.billing.db import Row
from brinkbyte.kit.problem import ProblemError


def unknown_customer(customer_id: str) -> ProblemError:
    """Return the refusal of an unknown customer."""
    return ProblemError(
        404,
        f"there is no customer {customer_id}; create it with POST /api/customers or "
        "`brinkbyte billing admin customer create`",
        reason="UnknownCustomer",
    )


async def require(context: Context, customer_id: str) -> Row:
    """Return a customer.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    async with context.database.tenant(customer_id) as connection:
        row = await repository.find(connection, customer_id)
    if row is None:
        raise unknown_customer(customer_id)
    return row
