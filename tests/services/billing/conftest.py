"""The billing API in this process on a real PostgreSQL, with a clock that tests may move."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from brinkbyte.billing.admin import Admin
from brinkbyte.billing.app import create_app
from brinkbyte.billing.cli import app as billing_cli
from brinkbyte.billing.context import Context
from brinkbyte.billing.customers.schemas import CustomerCreate
from brinkbyte.billing.db import Database
from brinkbyte.billing.migrate import ADMIN, API
from brinkbyte.billing.settings import ServerSettings
from brinkbyte.billing.subscriptions.schemas import SubscriptionSet
from brinkbyte.billing.users import passwords
from brinkbyte.kit.pools import postgres_pool
from brinkbyte.license.keys import PublicJwk, load_roots, verify_key_set
from services.billing.site import Site
from support.billing import (
    CUSTOMER,
    DEFAULT_TERMS,
    PASSWORDS,
    PEPPER,
    billing_api,
    billing_template,
    put_keys,
)
from support.postgres import PostgresServer, postgres_server

__all__ = ["billing_api", "postgres_server"]


@dataclass
class Clock:
    """Wall clock that tests move."""

    offset: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset

    def advance(self, *, days: float = 0, hours: float = 0, seconds: float = 0) -> None:
        self.offset += days * 86_400 + hours * 3600 + seconds

    @property
    def now(self) -> int:
        return int(self())


@dataclass
class Billing:
    """A billing API in this process.

    Attributes:
        http: client without a credential.
        context: the server's own dependencies.
    """

    server: PostgresServer
    database: str
    directory: Path
    clock: Clock
    http: httpx.AsyncClient
    context: Context
    loop: asyncio.AbstractEventLoop | None = None

    def dsn(self, role: str) -> str:
        return self.server.dsn(self.database, user=role, password=PASSWORDS[role])

    def query(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """Run a statement as the superuser, who sees every tenant."""
        with psycopg.connect(
            self.server.dsn(self.database), row_factory=psycopg.rows.dict_row
        ) as connection:
            cursor = connection.execute(statement, parameters)  # type: ignore[arg-type]  # literals
            return cursor.fetchall() if cursor.description else []

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Admin]:
        """The vendor's administration with the test's clock."""

        async with postgres_pool(self.dsn(ADMIN), max_size=1) as pool:
            yield Admin(Database(pool), self.context.catalog, self.context.secrets, self.clock)

    async def customer(
        self, name: str = CUSTOMER, terms: dict[str, Any] | None = None, **more: Any
    ) -> None:
        """Create a customer that has bought the terms; more: status, trial_days, hard_end."""

        async with self.admin() as admin:
            await admin.create_customer(CustomerCreate(customer_id=name, name=f"{name} Ltd"))
        if terms is not None:
            await self.buy(name, terms, **more)

    async def buy(self, name: str, terms: dict[str, Any], **more: Any) -> None:
        """Set what a customer has bought."""

        async with self.admin() as admin:
            await admin.set_subscription(SubscriptionSet(customer_id=name, terms=terms, **more))

    async def token(self, name: str = CUSTOMER, *, replace: bool = False) -> str:
        """Return an enrollment token."""
        async with self.admin() as admin:
            token, _ = await admin.create_enrollment(name, replace=replace)
        return str(token)

    async def site(self, customer: str = CUSTOMER, *, replace: bool = False, **more: Any) -> Site:
        """Enroll an instance."""
        site = Site(self.http, customer, self.clock, **more)
        answer = await site.enroll(await self.token(customer, replace=replace))
        assert answer.status_code == 201, answer.text
        return site

    @asynccontextmanager
    async def tenant_client(
        self, name: str = CUSTOMER, scopes: Sequence[str] = ("billing:read", "billing:write")
    ) -> AsyncIterator[httpx.AsyncClient]:
        """A client of this API with a new API key of a customer's."""
        async with self.admin() as admin:
            key = await admin.create_tenant_key(name, scopes)
        async with httpx.AsyncClient(
            transport=self.http._transport,
            base_url=str(self.http.base_url),
            headers={"authorization": f"Bearer {key}"},
        ) as client:
            yield client

    @property
    def keys(self) -> dict[str, PublicJwk]:
        """Keys of the verified key set."""
        document = (self.directory / "keys" / "jwks.json").read_bytes()
        roots = load_roots((self.directory / "root" / "roots.json").read_bytes())
        return dict(verify_key_set(document, roots, now=int(time.time())).keys)


@pytest.fixture(scope="session")
def template(postgres_server: PostgresServer) -> str:
    return billing_template(postgres_server)


@pytest.fixture
def database(postgres_server: PostgresServer, template: str) -> Iterator[str]:
    name = postgres_server.create_database(template=template, prefix="billing")
    yield name
    postgres_server.drop_database(name)


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Password hashes that cost little; their form is the same."""
    monkeypatch.setattr(passwords, "LOG2_N", 8)


@pytest.fixture
async def billing(
    postgres_server: PostgresServer, database: str, tmp_path: Path
) -> AsyncIterator[Billing]:
    """A billing API without customers."""
    put_keys(tmp_path)
    clock = Clock()
    settings = ServerSettings(
        database_url=SecretStr(postgres_server.dsn(database, user=API, password=PASSWORDS[API])),
        admin_database_url=SecretStr(
            postgres_server.dsn(database, user=ADMIN, password=PASSWORDS[ADMIN])
        ),
        pepper=SecretStr(PEPPER),
        signing_keys_dir=tmp_path / "keys",
        pool_size=4,
    )
    app = create_app(settings, clock=clock)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://billing") as http:
            yield Billing(postgres_server, database, tmp_path, clock, http, app.state.context)


@pytest.fixture
async def acme(billing: Billing) -> Site:
    """The enrolled instance of the customer acme on the default terms."""
    await billing.customer(CUSTOMER, DEFAULT_TERMS)
    return await billing.site()


@pytest.fixture
async def vendor(billing: Billing) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a credential of the vendor's own."""
    async with billing.admin() as admin:
        credential = await admin.create_operator("tests")
    billing.http.headers["authorization"] = f"Bearer {credential}"
    return billing.http


@pytest.fixture
async def tenant(acme: Site, billing: Billing) -> AsyncIterator[httpx.AsyncClient]:
    """A client with an API key of acme's that may read and write billing."""
    async with billing.tenant_client(CUSTOMER) as client:
        yield client


@pytest.fixture
def run(
    postgres_server: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """Run ``brinkbyte billing ...`` and return what it printed."""
    monkeypatch.setenv(
        "BRINKBYTE_ADMIN_DATABASE_URL",
        postgres_server.dsn(database, user=ADMIN, password=PASSWORDS[ADMIN]),
    )
    monkeypatch.setenv("BRINKBYTE_MIGRATION_DATABASE_URL", postgres_server.dsn(database))
    pepper = tmp_path / "pepper"
    pepper.write_text(PEPPER + "\n")
    monkeypatch.setenv("BRINKBYTE_PEPPER_FILE", str(pepper))
    runner = CliRunner()

    def call(*arguments: str, fails: bool = False) -> str:
        result = runner.invoke(billing_cli, list(arguments))
        assert (result.exit_code != 0) == fails, result.output
        if fails:
            assert "Traceback" not in result.output
        return result.output

    return call
