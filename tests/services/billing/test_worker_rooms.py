"""The worker as a program does every room's job: an invoice is made, collected and told of."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from brinkbyte.billing.customers.schemas import CustomerCreate
from brinkbyte.billing.jobs import all_jobs
from brinkbyte.billing.migrate import WORKER
from services.billing.conftest import Billing
from services.billing.mailbox import mail_server
from services.billing.quota_callers import bearer, tenant_key
from support import programs
from support.billing import CUSTOMER, DEFAULT_TERMS, PEPPER, source_environment

pytestmark = pytest.mark.services


def run_once(billing: Billing, smtp_port: int) -> subprocess.CompletedProcess[str]:
    return programs.run(
        "brinkbyte.billing",
        *("worker", "--once"),
        environment=source_environment(
            {
                "BRINKBYTE_WORKER_DATABASE_URL": billing.dsn(WORKER),
                "BRINKBYTE_BILLING_PROVIDER": "local",
                "BRINKBYTE_PEPPER": PEPPER,
                "BRINKBYTE_SMTP_HOST": "127.0.0.1",
                "BRINKBYTE_SMTP_PORT": str(smtp_port),
                "BRINKBYTE_SMTP_SECURITY": "none",
            }
        ),
    )


async def test_every_job_of_every_room(billing: Billing) -> None:
    request = CustomerCreate(customer_id=CUSTOMER, name="acme Ltd", email="pay@acme.example")
    async with billing.admin() as admin:
        await admin.create_customer(request)
    await billing.buy(CUSTOMER, DEFAULT_TERMS)
    answer = await billing.http.post(
        "/api/billing/cost-alerts",
        json={"amount": "0.01", "basis": "so_far"},
        headers=bearer(await tenant_key(billing)),
    )
    assert answer.status_code in (200, 201), answer.text
    # As if the amount had been set before anything was to be paid.
    billing.query("DELETE FROM notification_deliveries; DELETE FROM notifications")
    with mail_server() as (box, port):
        done = await asyncio.to_thread(run_once, billing, port)
        assert done.returncode == 0, done.stdout + done.stderr
        again = await asyncio.to_thread(run_once, billing, port)
        assert again.returncode == 0, again.stdout
    [invoice] = billing.query("SELECT * FROM invoices")
    assert invoice["provider_ref"] == f"local:{CUSTOMER}:{invoice['invoice_id']}"
    [held] = billing.query("SELECT state FROM local_invoices")
    assert held["state"] == "open"
    kinds = [row["kind"] for row in billing.query("SELECT kind FROM notifications ORDER BY kind")]
    assert kinds == ["cost_alert", "invoice_issued"]
    assert {message["To"] for message in box.messages} == {"pay@acme.example"}
    assert len(box.messages) == 2
    assert any(invoice["number"] in message["Subject"] for message in box.messages)


def test_jobs_have_names_of_their_own() -> None:
    names = [job.name for job in all_jobs()]
    assert len(set(names)) == len(names) == 7
