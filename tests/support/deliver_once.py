"""A worker's run of telling people, as a process that a failpoint may kill.

``python -m support.deliver_once <DSN of the worker> <Unix seconds>``; settings are variables.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from brinkbyte.billing.db import Database
from brinkbyte.billing.notifications.delivery import deliver
from brinkbyte.kit.pools import postgres_pool


@dataclass(frozen=True)
class Worker:
    database: Database


async def main(dsn: str, now: int) -> None:
    async with postgres_pool(dsn, max_size=4) as pool:
        print(await deliver(Worker(Database(pool)), now))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
