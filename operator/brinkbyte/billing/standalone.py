"""The dependencies of a command that works on the database by itself, without a server."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from brinkbyte.billing.auth import Secrets
from brinkbyte.billing.context import Context
from brinkbyte.billing.db import Database
from brinkbyte.billing.licenses.keys import KeyRing, release_roots
from brinkbyte.catalog import load_catalog
from brinkbyte.kit.pools import postgres_pool


@asynccontextmanager
async def standalone_context(
    database_url: SecretStr, signing_keys_dir: Path, catalog: str | None, *, name: str
) -> AsyncIterator[Context]:
    """Open a context that signs, and makes and looks up no API secret.

    Args:
        database_url: DSN of the role that the command needs.
        signing_keys_dir: as the server's.
        catalog: version of the price list; None: the newest.
        name: shown as ``application_name`` in ``pg_stat_activity``.
    """
    keyring = KeyRing(signing_keys_dir, release_roots())
    with ThreadPoolExecutor(os.cpu_count() or 2, "sign") as threads:
        async with postgres_pool(database_url.get_secret_value(), max_size=2, name=name) as pool:
            yield Context(
                database=Database(pool),
                secrets=Secrets(""),
                keyring=keyring,
                catalog=load_catalog(catalog),
                clock=time.time,
                threads=threads,
            )
