"""The instance's database is the customer's: what they write into it stops and widens nothing."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.types.json import Jsonb

from brinkbyte.store.licenses import get_config
from support.instance_api import running_app
from support.instance_site import Site
from support.licensing import CUSTOMER, DAY

pytestmark = pytest.mark.services


async def write(api: Any, statement: str, *values: object) -> None:
    async with api.instance.pool.connection() as connection:
        await connection.execute(statement, values)


@pytest.mark.parametrize(
    "clock",
    [
        {"signedTime": 1_800_000_000, "runningSeconds": -(10**9)},
        {"signedTime": "soon", "runningSeconds": 1},
        [1, 2],
        None,
    ],
    ids=str,
)
async def test_an_edited_clock_neither_stops_a_start_nor_counts_backwards(
    site: Site, clock: Any
) -> None:
    site.install()
    async with running_app(site) as api:
        edit = "UPDATE system_config SET value = %s WHERE tenant_id = %s AND key = 'clock'"
        assert api.instance.license.policy().decision.mode == "active"
        await api.instance.license.save_clock()
        true_wall = api.instance.license.clock.wall
    async with running_app(site) as api:
        await write(api, edit, Jsonb(clock), CUSTOMER)
    async with running_app(site) as api:
        service = api.instance.license
        assert service.policy().decision.mode == "active"
        signed = service.snapshot.newest_signed_time
        service.clock.wall = lambda: true_wall() - 400 * DAY
        assert service.now() >= signed
        # The edited row is put right, and keeps nothing else from being kept.
        await service.save_clock()
        async with api.instance.pool.connection() as connection:
            kept = await get_config(connection, CUSTOMER, "clock")
        assert kept == {"signedTime": signed, "runningSeconds": kept["runningSeconds"]}
        assert kept["runningSeconds"] >= 0


async def test_edited_documents_are_refused_and_those_of_the_directory_count(site: Site) -> None:
    site.install(sequence=7)
    async with running_app(site) as api:
        await write(
            api,
            "UPDATE license_documents SET document = 'forged.by.hand', sequence = 2 ^ 52 "
            "WHERE tenant_id = %s",
            CUSTOMER,
        )
    async with running_app(site) as api:
        policy = api.instance.license.policy()
        assert (policy.decision.mode, policy.plan) == ("active", "professional")
        assert {"Malformed"} <= {each.reason for each in api.instance.license.refused}
    # Without the directory there is Redis.
    site.install(only=())
    async with running_app(site) as api:
        assert api.instance.license.policy().decision.mode == "active"
