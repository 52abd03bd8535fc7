"""What is in force at a moment: the newest wish, and what was paid for and runs on."""

from __future__ import annotations

from datetime import datetime

from brinkbyte.catalog import Catalog, Terms
from brinkbyte.rating.model import Change, History
from brinkbyte.rating.periods import period_at
from brinkbyte.rating.prices import highest
from brinkbyte.rating.timeline import Timeline, end_of


def effective(catalog: Catalog, history: History, moment: datetime) -> Change | None:
    """Return what is in force at a moment; licenses and quotas go by it.

    - A higher quantity or plan is in force from its change on; a lower one from the begin of the
      next period (with annual payment: of the next paid year), because the higher is paid until
      then. During a trial nothing is paid, so a lower one is in force at once.
    - A trial ends by itself at ``trial_ends_at``: what is sold is ``active`` and paid from then
      on. Terms with a plan that is only a trial (``offering: trial``) end with it instead.
    - From the end on the status is ``canceled``, the terms are empty and ``ends_at`` says since
      when. The end is ``ends_at``; for ``canceled`` without one the end of the UTC day of its
      change. Until then everything stays in force under the change's own status, ``canceled``
      with its coming ``ends_at`` included.
    - ``past_due`` and ``suspended`` are reported as they are, with the terms of the time.
    - A customer's own values follow the newest change, except for an item or plan that runs on
      only because it is paid: that keeps its own values of then.

    Args:
        catalog: the price list (for the ranks of plans).
        history: the subscription's.
        moment: aware; a change at exactly this moment counts.

    Returns:
        The newest change up to the moment, its terms and status replaced by those in force (its
        ``at``, agreement and dates are as they were made); None before the first change.

    Raises:
        CatalogError: a change names a plan that the catalog does not have.
    """
    timeline = Timeline(catalog, history)
    current = timeline.at(moment)
    if current is None:
        return None
    change = current.change
    ends_at = end_of(change)
    if current.phase == "ended":
        ended = current.start if ends_at is None else min(ends_at, current.start)
        return change.model_copy(update={"terms": Terms(), "status": "canceled", "ends_at": ended})
    wishes = [change.terms]
    cover = timeline.cover(period_at(history, moment))
    if cover is not None:
        paid = timeline.paid(cover, moment + moment.resolution)
        wishes = [*(stretch.change.terms for stretch in paid), change.terms]
    begun = change.status == "trialing" and current.phase == "paid"
    return change.model_copy(
        update={
            "terms": highest(catalog, wishes),
            "status": "active" if begun else change.status,
            "ends_at": ends_at,
        }
    )
