"""Billed once, never zero times and never twice, whatever dies, is restored, copied or delayed.

Several customers' services record usage, their reporters send it over bad lines to two billing
servers on one database; programs are killed, databases are lost, restored from backups and cloned
on both sides. At rest the ledger is the callers' own account, event by event.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.billing import new_billing_api, remove_billing_api
from support.campaign_plan import Tally, campaign_seed, soaking
from support.customer_database import migrated_template
from support.postgres import PostgresServer
from support.truth_campaign import STEPS, Campaign, plan_steps
from support.truth_site import Database

__all__ = ["migrated_template"]
CUSTOMERS = 4 if soaking() else 2
STEPS_IN_ALL = 400 if soaking() else 22
SECONDS = 780 if soaking() else 60
AT_REST_EVERY = 50


@pytest.fixture
def seed() -> int:
    return campaign_seed()


@pytest.fixture
def campaign(
    postgres_server: PostgresServer, migrated_template: str, seed: int
) -> Iterator[Campaign]:
    api = new_billing_api(postgres_server)
    made = Campaign(api, random.Random(seed), Database(postgres_server), migrated_template)
    try:
        yield made
    finally:
        made.close()
        remove_billing_api(api)


@pytest.mark.services
@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
async def test_every_event_is_billed_once(campaign: Campaign, tmp_path: Path, seed: int) -> None:
    await campaign.begin(tmp_path, [f"truth-{number}" for number in range(CUSTOMERS)])
    tally = Tally("ledger-truth", seed)
    for number, step in enumerate(plan_steps(campaign.numbers, STEPS_IN_ALL), 1):
        campaign.step(step)
        if number % AT_REST_EVERY == 0:
            campaign.check(campaign.settle())
        if number >= len(STEPS) and time.monotonic() - tally.began > SECONDS:
            break
    campaign.check(campaign.settle())
    truths = [customer.truth for customer in campaign.customers]
    tally.publish(
        answered=sum(len(truth.answered) for truth in truths),
        lost=sum(len(truth.lost) for truth in truths),
        steps=dict(campaign.counts),
    )
    assert campaign.unseen() == []
