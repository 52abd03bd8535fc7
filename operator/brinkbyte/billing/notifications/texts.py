"""What people read: one text a kind, in plain words, ending in what to do next. Pure."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from brinkbyte.billing.notifications.outbox import Kind
from brinkbyte.license.modes import UPGRADE_URL

_SMS_LENGTH: Final = 300
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Text:
    """A message.

    Attributes:
        lines: paragraphs.
        action: what the button says.
        url: where it leads; None: no button.
    """

    subject: str
    lines: tuple[str, ...]
    action: str = ""
    url: str | None = None

    @property
    def plain(self) -> str:
        """As plain text."""
        parts = list(self.lines)
        if self.url is not None:
            parts.append(f"{self.action}: {self.url}")
        return "\n\n".join(parts) + "\n"

    @property
    def short(self) -> str:
        """As a text message."""
        said = f"{self.subject}. {self.lines[-1]}"
        room = _SMS_LENGTH - (0 if self.url is None else len(self.url) + 1)
        cut = said if len(said) <= room else said[: room - 1] + "…"
        return cut if self.url is None else f"{cut} {self.url}"

    @property
    def html(self) -> str:
        """As HTML without anything from elsewhere."""
        paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in self.lines)
        button = ""
        if self.url is not None:
            button = (
                f'<p><a href="{html.escape(self.url, quote=True)}" style="background:#0b5fff;'
                "color:#ffffff;padding:10px 18px;border-radius:4px;text-decoration:none;"
                f'display:inline-block">{html.escape(self.action)}</a></p>'
            )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(self.subject)}</title></head>"
            '<body style="font-family:sans-serif;color:#1a1a1a;max-width:560px;margin:auto">'
            f'<h1 style="font-size:20px">{html.escape(self.subject)}</h1>'
            f"{paragraphs}{button}"
            '<p style="color:#666666;font-size:12px">BrinkByte Vision billing. You get this '
            "because your address is set under Notifications in the customer portal.</p>"
            "</body></html>"
        )


def _line(value: object) -> str:
    """Return a value as one line: no control character gets into a subject or a header."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def _day(value: object) -> str:
    """Return a moment, Unix seconds or ISO 8601, as a day in words."""
    try:
        if isinstance(value, int | float):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            moment = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return "soon"
    return f"{moment.day} {moment:%B %Y}"


def _on(value: object) -> str:
    """Return "on" and the day, or "soon"."""
    day = _day(value)
    return day if day == "soon" else f"on {day}"


def _number(value: object) -> str:
    text = _line(value)
    whole, dot, part = text.partition(".")
    return f"{int(whole):,}{dot}{part}" if whole.isdecimal() and len(whole) < 40 else text


def _about(facts: Facts) -> str:
    return (
        f"{_line(facts.get('title', 'a meter'))}: {_number(facts.get('used', '?'))} of "
        f"{_number(facts.get('included', '?'))} used in the billing period that ends on "
        f"{_day(facts.get('periodEnd'))}."
    )


_BEYOND: Final = {
    "overage": "What is beyond is charged, and nothing is refused.",
    "soft": (
        "Use goes on for now. It is refused beyond 120 %, or after seven days beyond what is "
        "included."
    ),
    "hard": "More is refused from now on.",
}


def _limit(facts: Facts, subject: str, next_line: str) -> Text:
    title = _line(facts.get("title", "A quota"))
    lines = (_about(facts), next_line)
    return Text(f"{title}: {subject}", lines, "See usage and plans", UPGRADE_URL)


def _approaching(facts: Facts) -> Text:
    return _limit(
        facts,
        f"{_line(facts.get('percent', 80))} % used",
        "Nothing is limited yet. If you expect to need more this month, choose a higher plan now; "
        "it counts at once, for the whole period.",
    )


def _reached(facts: Facts) -> Text:
    beyond = _BEYOND.get(str(facts.get("ending")), "More may be charged or refused.")
    return _limit(
        facts,
        "all that is included is used",
        f"{beyond} To have more included, choose a higher plan; it counts at once.",
    )


def _exceeded(facts: Facts) -> Text:
    ending = str(facts.get("ending"))
    beyond = "More is refused until the period ends."
    if ending == "overage":
        beyond = _BEYOND[ending]
    return _limit(
        facts,
        f"{_line(facts.get('percent', 120))} % used",
        f"{beyond} To have more included, choose a higher plan; it counts at once.",
    )


def _trial_expiring(facts: Facts) -> Text:
    days = facts.get("daysRemaining")
    left = "soon" if days is None else "within a day" if days == 1 else f"in {_line(days)} days"
    return Text(
        f"Your trial ends {left}",
        (
            f"Your trial of BrinkByte Vision ends {_on(facts.get('endsAt'))}.",
            "After that three devices go on with the base models, and no data is lost. Choose a "
            "plan to keep everything running as it is.",
        ),
        "Choose a plan",
        UPGRADE_URL,
    )


def _trial_ended(facts: Facts) -> Text:
    return Text(
        "Your trial has ended",
        (
            f"Your trial of BrinkByte Vision ended {_on(facts.get('endsAt'))}.",
            "Three devices go on with the base models, and your data is kept. Choose a plan to "
            "have the rest back within two minutes.",
        ),
        "Choose a plan",
        UPGRADE_URL,
    )


def _payment_failed(facts: Facts) -> Text:
    number = facts.get("number")
    which = f"Invoice {_line(number)}" if number else "Your invoice"
    due = f" was due {_on(facts['dueAt'])} and" if facts.get("dueAt") else ""
    return Text(
        f"{which} could not be paid",
        (
            f"{which}{due} could not be collected.",
            "Your cameras go on for now. If it stays unpaid for 14 days after the due date, the "
            "license ends. Check the payment method, or pay the invoice by hand.",
        ),
        "Settle the invoice",
        UPGRADE_URL,
    )


def _license_expiring(facts: Facts) -> Text:
    return Text(
        f"Your license ends {_on(facts.get('endsAt'))}",
        (
            f"The license of your cameras and devices ends {_on(facts.get('endsAt'))}.",
            "Settle what is open, or renew the subscription; connected sites get the new license "
            "by themselves. A site without a connection needs a new bundle.",
        ),
        "Renew or settle",
        UPGRADE_URL,
    )


def _cost(facts: Facts) -> Text:
    currency, amount = _line(facts.get("currency", "")), _number(facts.get("amount", "?"))
    projected = facts.get("basis") == "projected"
    what = "is expected to cost" if projected else "has cost"
    return Text(
        f"This period {what} more than {amount} {currency}",
        (
            f"So far: {_number(facts.get('soFar', '?'))} {currency}. Expected at the end of the "
            f"period {_on(facts.get('periodEnd'))}: {_number(facts.get('projected', '?'))} "
            f"{currency}. Both before tax.",
            "You asked to hear of this amount. See which lines it comes from on the billing page.",
        ),
        "See costs",
        UPGRADE_URL,
    )


def _invoice(facts: Facts) -> Text:
    number = facts.get("number")
    which = f"Invoice {_line(number)}" if number else "A new invoice"
    total = ""
    if facts.get("total") is not None:
        total = f" over {_number(facts['total'])} {_line(facts.get('currency', ''))}"
    due = f" It is due {_on(facts['dueAt'])}." if facts.get("dueAt") else ""
    return Text(
        f"{which} is ready",
        (
            f"{which}{total} is ready.{due}",
            "If a payment method is set it is collected from there; otherwise please pay it.",
        ),
        "See the invoice",
        UPGRADE_URL,
    )


def _invited(facts: Facts) -> Text:
    customer = _line(facts.get("customerName", "a customer"))
    return Text(
        f"You are invited to the billing portal of {customer}",
        (
            f"Hello {_line(facts.get('name') or 'there')}, you are invited as "
            f"{_line(facts.get('role', 'a member'))} of {customer}.",
            f"The link works once, until {_day(facts.get('expiresAt'))}. If you did not expect "
            "it, leave it alone.",
        ),
        "Accept the invitation",
    )


def _sign_in(facts: Facts) -> Text:
    return Text(
        "Your link to sign in",
        (
            f"Hello {_line(facts.get('name') or 'there')}, here is your link to sign in to the "
            "BrinkByte customer portal.",
            "It works once and for 20 minutes. If you did not ask for it, leave it alone: nobody "
            "gets in without it.",
        ),
        "Sign in",
    )


_TEXTS: Final[dict[Kind, Callable[[Facts], Text]]] = {
    Kind.TRIAL_EXPIRING: _trial_expiring,
    Kind.TRIAL_ENDED: _trial_ended,
    Kind.PAYMENT_FAILED: _payment_failed,
    Kind.LIMIT_APPROACHING: _approaching,
    Kind.LIMIT_REACHED: _reached,
    Kind.LIMIT_EXCEEDED: _exceeded,
    Kind.LICENSE_EXPIRING: _license_expiring,
    Kind.COST_ALERT: _cost,
    Kind.INVOICE_ISSUED: _invoice,
    Kind.USER_INVITED: _invited,
    Kind.SIGN_IN_LINK: _sign_in,
}


def text_of(kind: Kind, facts: Facts, *, url: str | None = None) -> Text:
    """Return the text of a notification.

    Args:
        kind: what of.
        facts: its payload; what is missing is worded around.
        url: where the button leads, instead of the kind's own place.
    """
    text = _TEXTS[kind](facts)
    if url is not None:
        text = Text(text.subject, text.lines, text.action, url)
    return text
