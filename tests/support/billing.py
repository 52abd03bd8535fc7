"""A real billing API for tests: its own database, keys and process.

``billing_api`` starts ``python -m brinkbyte.billing serve`` on a random loopback port with a fresh
PostgreSQL database, fresh root and signing keys, and the customer ``acme``. Import it into a
conftest together with ``postgres_server``::

    from support.billing import billing_api
    from support.postgres import postgres_server
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from brinkbyte.billing.admin import Admin, with_admin
from brinkbyte.billing.customers.schemas import CustomerCreate
from brinkbyte.billing.licenses.keys import make_root, make_signing_keys
from brinkbyte.billing.migrate import ADMIN, API, WORKER, migrate
from brinkbyte.billing.settings import AdminSettings
from brinkbyte.billing.subscriptions.schemas import SubscriptionSet
from support import programs
from support.postgres import PostgresServer
from support.processes import free_port, stop

OPERATOR_SOURCE = Path(__file__).resolve().parents[2] / "operator"
T = TypeVar("T")
PASSWORDS = {API: "api-password", WORKER: "worker-password", ADMIN: "admin-password"}
PEPPER = "a-pepper-for-tests-only"
CUSTOMER = "acme"
DEFAULT_TERMS: dict[str, Any] = {
    "plans": {"fleet": "professional"},
    "quantities": {
        "vision.base_seat": 10,
        "vision.device.basic": 5,
        "vision.pack.advanced_analytics": 5,
        "vision.pack.retail": 2,
        "vision.integration.api_overage": 1,
    },
    "overrides": {"fleet.plan.professional.price": "199", "vision.pack.retail.price": "15"},
}
"""Professional fleet plan (50 devices), 10 camera seats, two packs."""


def source_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which a child Python finds the source tree."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BRINKBYTE_")}
    return {**kept, "PYTHONPATH": str(OPERATOR_SOURCE), **(extra or {})}


@dataclass
class BillingApi:
    """A billing API.

    Attributes:
        url: base URL, no slash at the end.
        roots: path of the release's ``roots.json``.
        keys: directory of signing keys and ``jwks.json``.
    """

    server: PostgresServer
    database: str
    directory: Path
    port: int
    tls: bool = False
    _process: programs.Program | None = None
    _environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def roots(self) -> Path:
        return self.directory / "root" / "roots.json"

    @property
    def root_pem(self) -> Path:
        return self.directory / "root" / "root.pem"

    @property
    def keys(self) -> Path:
        return self.directory / "keys"

    def dsn(self, role: str) -> str:
        """Return the DSN of brinkbyte_api, brinkbyte_worker or brinkbyte_admin."""
        return self.server.dsn(self.database, user=role, password=PASSWORDS[role])

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every billing program (serve and admin)."""
        return {
            "BRINKBYTE_DATABASE_URL": self.dsn(API),
            "BRINKBYTE_ADMIN_DATABASE_URL": self.dsn(ADMIN),
            "BRINKBYTE_MIGRATION_DATABASE_URL": self.server.dsn(self.database),
            "BRINKBYTE_PEPPER": PEPPER,
            "BRINKBYTE_SIGNING_KEYS_DIR": str(self.keys),
        }

    def start(self, **environment: str) -> None:
        """Start the server and wait until it is healthy; variables such as a failpoint on top."""
        log = self.directory / "billing.log"
        arguments = ["serve", "--port", str(self.port)]
        if self.tls:
            arguments += ["--tls-cert", str(self.directory / "tls.crt")]
            arguments += ["--tls-key", str(self.directory / "tls.key")]
        self._process = programs.start(
            "brinkbyte.billing",
            *arguments,
            cwd=self.directory,
            log=log,
            environment=source_environment({**self.environment, **environment}),
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{self.url}/health", verify=False, timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the billing API did not start:\n{log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server; the database stays. ``start`` brings it back on the same port."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    def kill(self) -> None:
        """Kill the server as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=20)
            self._process = None

    def wait_killed(self) -> None:
        """Wait until a failpoint has killed the server."""
        if self._process is not None:
            self._process.wait(timeout=30)
            self._process = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> str:
        return (self.directory / "billing.log").read_text()

    def run(self, *arguments: str) -> str:
        """Run ``brinkbyte billing <arguments>`` and return what it printed."""
        done = programs.run(
            "brinkbyte.billing", *arguments, environment=source_environment(self.environment)
        )
        if done.returncode:
            raise RuntimeError(f"billing {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def admin(self, *arguments: str) -> Any:
        """Run ``brinkbyte billing admin <arguments> --output json`` and return its answer."""
        return json.loads(self.run("admin", *arguments, "--output", "json"))

    def administer(self, work: Callable[[Admin], Awaitable[T]]) -> T:
        """Run vendor administration in this process (much quicker than the command line)."""
        settings = AdminSettings(
            admin_database_url=SecretStr(self.dsn(ADMIN)), pepper=SecretStr(PEPPER)
        )
        # In a thread of its own: the caller may be inside an event loop.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(with_admin, settings, work).result()

    def create_customer(self, customer: str, terms: Mapping[str, Any] | None = None) -> None:
        """Create a customer that has bought the terms (nothing if None)."""
        request = CustomerCreate(customer_id=customer, name=f"{customer} Ltd")
        self.administer(lambda admin: admin.create_customer(request))
        if terms is not None:
            self.set_terms(customer, terms)

    def set_terms(self, customer: str, terms: Mapping[str, Any], **more: Any) -> None:
        """Set what a customer has bought; more: status, trial_days, hard_end."""
        request = SubscriptionSet(customer_id=customer, terms=dict(terms), **more)
        self.administer(lambda admin: admin.set_subscription(request))

    def enrollment_token(
        self, customer: str = CUSTOMER, *, replace: bool = False, ttl: int = 86_400
    ) -> str:
        """Return a new one-time enrollment token; ``ttl`` in seconds."""
        return self.administer(
            lambda admin: admin.create_enrollment(
                customer, replace=replace, life=timedelta(seconds=ttl)
            )
        )[0]

    def ledger(self, customer: str = CUSTOMER) -> dict[str, Any]:
        """Return events (with keys), batches (with receipts) and quarantined events."""
        return self.administer(lambda admin: admin.ledger(customer))


_templates: dict[int, str] = {}
_key_directory = tempfile.TemporaryDirectory(prefix="brinkbyte-keys-")


def billing_template(server: PostgresServer) -> str:
    """Return the name of a migrated, empty database of this server, made once."""
    if server.port not in _templates:
        name = server.create_database(prefix="billing_template")
        migrate(server.dsn(name), PASSWORDS)
        _templates[server.port] = name
    return _templates[server.port]


def put_keys(target: Path, *, fresh: bool = False) -> None:
    """Put ``root/`` and ``keys/`` into a directory: the session's own, or fresh ones (slow)."""
    source = target if fresh else Path(_key_directory.name)
    if not (source / "root").exists():
        make_root(source / "root", development=True)
        make_signing_keys(source / "keys", (source / "root" / "root.pem").read_bytes())
    if not fresh:
        shutil.copytree(source / "root", target / "root")
        shutil.copytree(source / "keys", target / "keys")


def new_billing_api(
    server: PostgresServer, *, fresh_keys: bool = False, tls: bool = False
) -> BillingApi:
    """Make a billing API that is not started: database, root, signing keys.

    Args:
        server: where its database goes.
        fresh_keys: a root and signing keys of its own (another vendor); else the session's.
        tls: serve HTTPS with a certificate of its own, ``directory / "tls.crt"``.
    """
    directory = Path(tempfile.mkdtemp(prefix="brinkbyte-billing-"))
    database = server.create_database(template=billing_template(server), prefix="billing")
    put_keys(directory, fresh=fresh_keys)
    api = BillingApi(server, database, directory, free_port(), tls)
    if tls:
        make_certificate(directory / "tls.crt", directory / "tls.key")
    return api


def make_certificate(certificate: Path, key: Path) -> None:
    """Make a self-signed certificate for 127.0.0.1 and localhost, good for an hour."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "billing test")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def remove_billing_api(api: BillingApi) -> None:
    """Stop the server and remove its database and files."""
    api.stop()
    api.server.drop_database(api.database)
    shutil.rmtree(api.directory, ignore_errors=True)


@pytest.fixture
def billing_api(postgres_server: PostgresServer) -> Iterator[BillingApi]:
    """A running billing API with the customer ``acme`` on :data:`DEFAULT_TERMS`."""
    api = new_billing_api(postgres_server)
    try:
        api.start()
        api.create_customer(CUSTOMER, DEFAULT_TERMS)
        yield api
    finally:
        remove_billing_api(api)
