"""Sites that carry their usage as files, beside a real billing API; all of it without a loop."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from brinkbyte.billing.migrate import API
from brinkbyte.billing.settings import ImportSettings
from brinkbyte.billing.usage.air_gap import ImportedUsage
from brinkbyte.billing.usage_cli import run_import
from brinkbyte.kit.streams import write_out
from brinkbyte.reporter.air_gap import Exported, Imported, export_usage, import_receipts
from support.billing import DEFAULT_TERMS, BillingApi
from support.licensing import vendor
from support.metering_real import enrolled_site
from support.metering_site import Site, usage_event
from support.postgres import PostgresServer

KEY = vendor().instance_key


@dataclass
class Carried:
    """A site, its vendor, and the files between them."""

    api: BillingApi
    customer: str
    site: Site

    @property
    def file(self) -> Path:
        return self.site.root / "usage.jsonl"

    @property
    def receipts(self) -> Path:
        return self.site.root / "receipts.jsonl"

    def record(self, count: int) -> None:
        self.site.record(usage_event(key=f"k{n}") for n in range(count))

    def export(self, out: Path | None = None, **more: Any) -> Exported:
        with (out or self.file).open("wb") as file:
            settings = self.site.settings(customer_id=self.customer)
            return asyncio.run(export_usage(settings, file, **more))

    def vendor_import(
        self, file: Path | None = None, out: Path | None = None, **more: Any
    ) -> ImportedUsage:
        settings = ImportSettings(
            database_url=SecretStr(self.api.dsn(API)), signing_keys_dir=self.api.keys
        )
        with tempfile.TemporaryFile() as receipts:
            done = run_import(settings, file or self.file, receipts, **more)
            receipts.seek(0)
            write_out(str(out or self.receipts), receipts)
        return done

    def import_receipts(self, receipts: Path | None = None) -> Imported:
        return asyncio.run(
            import_receipts(self.site.settings(), receipts or self.receipts, self.site.roots)
        )

    def ids(self) -> list[str]:
        """Ids in the ledger, each as often as it is there."""
        return [event["id"] for event in self.api.ledger(self.customer)["events"]]


@contextmanager
def carriers(
    api: BillingApi, server: PostgresServer, template: str, root: Path
) -> Iterator[Callable[[], Carried]]:
    databases: list[str] = []

    def make() -> Carried:
        name = server.create_database(template=template)
        databases.append(name)
        customer = name.replace("_", "-")
        api.create_customer(customer, DEFAULT_TERMS)
        directory = root / customer
        directory.mkdir()
        site = asyncio.run(enrolled_site(api, customer, directory, server.dsn(name), KEY))
        return Carried(api, customer, site)

    yield make
    for database in databases:
        server.drop_database(database)
