"""Metrics that look across customers, worked out when they are read and not too often."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout

from brinkbyte.billing.clones import repository as clones
from brinkbyte.billing.clones.service import TWO_CLUSTERS, TWO_EPOCHS
from brinkbyte.billing.context import Context
from brinkbyte.billing.licenses.rotation import read_state
from brinkbyte.billing.rollout import service as rollout
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.logging import get_logger

PAUSE_SECONDS: Final = 30.0
_TIMEOUT_SECONDS: Final = 3.0
_log = get_logger(__name__)


class Gauges:
    """Sets a server's gauges; keeps them as they were while the database does not answer."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._next = 0.0

    async def refresh(self) -> None:
        """Look again, unless that was done a moment ago."""
        database = self._context.administration
        if database is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PAUSE_SECONDS
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._look()
        except (psycopg.Error, PoolTimeout, TimeoutError, PermanentError) as error:
            _log.warning("figures across customers are as before", error=type(error).__name__)

    async def _look(self) -> None:
        context, metrics = self._context, self._context.metrics
        if context.administration is None:
            return
        found = await rollout.progress(
            context.administration, read_state(context.keyring.directory), now=context.now()
        )
        metrics.key_set_number.labels("current").set(found.keys.number)
        metrics.key_set_number.labels("newest_keys").set(found.keys.target)
        counts = {
            "seen": found.seen,
            "lacking": len(found.waiting),
            "offline": len(found.lacking) - len(found.waiting),
        }
        for state, count in counts.items():
            metrics.key_set_instances.labels(state).set(count)
        metrics.old_key_needed.set(len(found.needing))
        async with context.administration.nobody() as connection:
            alarms = await clones.count_open(connection)
        for reason in (TWO_CLUSTERS, TWO_EPOCHS):
            metrics.clone_alarms_open.labels(reason).set(alarms.get(reason, 0))
