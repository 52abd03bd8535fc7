"""What is in force at a moment: the newest wish, and what was paid for and runs on."""

from __future__ import annotations

from datetime import datetime

from brinkbyte.catalog import Catalog
from brinkbyte.rating.model import Change, History


def effective(catalog: Catalog, history: History, moment: datetime) -> Change | None:
    """Return what is in force at a moment; licenses and quotas go by it.

    - A higher quantity or plan is in force from its change on; a lower one from the begin of the
      next period (with annual payment: of the next paid year), because the higher is paid until
      then. During a trial nothing is paid, so a lower one is in force at once.
    - A trial ends by itself at ``trial_ends_at``: from then on the status is ``active``. A plan
      that is only a trial (``offering: trial``) is then no longer among the plans.
    - From ``ends_at`` on (for ``canceled`` without one: from the end of the UTC day of its
      change) the status is ``canceled`` and the terms are empty. Until then the terms stay; the
      status ``canceled`` is reported as ``active`` until the end has come.
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
    raise NotImplementedError
