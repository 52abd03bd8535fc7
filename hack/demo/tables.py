"""What the demo shows in the end: conditions, licenses, metering, cost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.table import Table

from stack.customer import Condition
from stack.ledger import Comparison

_MARKS: Final = {
    "True": "[green]True[/]",
    "False": "[red]False[/]",
    "Unknown": "[yellow]Unknown[/]",
}


def conditions_table(conditions: Iterable[Condition]) -> Table:
    """One row per condition of every object."""
    table = Table("object", "condition", "status", "reason", "message", box=box.SIMPLE_HEAD,
                  title="Conditions", title_justify="left")  # fmt: skip
    for one in conditions:
        # One line for each: "kubectl get -o wide" has the whole message.
        message = one.message if len(one.message) <= 60 else one.message[:59] + "…"
        status = _MARKS.get(one.status, one.status)
        table.add_row(f"{one.kind}/{one.name}", one.type, status, one.reason, message)
    return table


def licenses_table(licenses: Sequence[Mapping[str, Any]]) -> Table:
    """One row per license Secret, with what its token says and whether it verifies."""
    table = Table("secret", "of", "grants", "good until", "signature", box=box.SIMPLE_HEAD,
                  title="Licenses in Secrets (verified offline against the root of trust)",
                  title_justify="left")  # fmt: skip
    for one in licenses:
        until = time.strftime("%Y-%m-%d", time.gmtime(one["exp"]))
        verified = "[green]RS256 verified[/]" if one["verified"] else f"[red]{one['problem']}[/]"
        table.add_row(one["secret"], one["subject"], one["grants"], until, verified)
    return table


def metering_table(comparison: Comparison, batches: int) -> Table:
    """The generator's own list against the ledger."""
    table = Table("", "", box=box.SIMPLE_HEAD, show_header=False, title="Metering",
                  title_justify="left")  # fmt: skip
    table.add_row("keys the generator was told 2xx", str(comparison.answered))
    table.add_row("events of the ledger", str(comparison.in_ledger))
    table.add_row("of them without an answer (once or not at all)",
                  str(comparison.unanswered_in_ledger))  # fmt: skip
    table.add_row("batches under a verified receipt", str(batches))
    for name in ("lost", "doubled", "invented", "unreceipted"):
        count = len(getattr(comparison, name))
        table.add_row(name, f"[red]{count}[/]" if count else "[green]0[/]")
    return table


def cost_table(lines: Sequence[Mapping[str, Any]], total: str) -> Table:
    """What the month would cost so far."""
    table = Table("line", "quantity", "unit price", "amount", box=box.SIMPLE_HEAD,
                  title="The month so far, USD before tax", title_justify="left",
                  show_footer=True)  # fmt: skip
    table.columns[0].footer = "total"
    table.columns[3].footer = total
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        price = "" if line["unitPrice"] is None else str(line["unitPrice"])
        per = f" / {line['per']}" if line["per"] != 1 else ""
        table.add_row(line["description"], str(line["quantity"]), price + per, str(line["amount"]))
    return table
