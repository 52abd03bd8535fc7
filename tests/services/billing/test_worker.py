"""The worker as a program: killed anywhere it goes on, it says how it does, it stops when told."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
import psycopg
import pytest

from brinkbyte.billing.migrate import WORKER
from services.billing.conftest import Billing
from support import programs
from support.billing import CUSTOMER, DEFAULT_TERMS, source_environment
from support.processes import free_port


def environment(billing: Billing, **more: str) -> dict[str, str]:
    return source_environment({"BRINKBYTE_WORKER_DATABASE_URL": billing.dsn(WORKER), **more})


def once(billing: Billing, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    given = environment(billing, BRINKBYTE_FAILPOINT=failpoint)
    return programs.run("brinkbyte.billing", "worker", "--once", environment=given)


async def test_killed_after_any_invoice_a_rerun_makes_the_rest(billing: Billing) -> None:
    await billing.customer(CUSTOMER, DEFAULT_TERMS)
    billing.query(
        "UPDATE subscription_changes SET at = at - interval '70 days'; "
        "UPDATE subscriptions SET period_anchor = period_anchor - interval '70 days', "
        "next_boundary = next_boundary - interval '70 days'"
    )
    for died in (1, 2):
        done = await asyncio.to_thread(once, billing, f"invoice.written:{died}")
        assert done.returncode == -signal.SIGKILL
        # What was written when it died is gone with its transaction.
        found = billing.query("SELECT number FROM invoices ORDER BY boundary")
        assert len(found) == died - 1
    done = await asyncio.to_thread(once, billing)
    assert done.returncode == 0, done.stderr
    rows = billing.query("SELECT number, boundary, total, status FROM invoices ORDER BY boundary")
    assert [row["number"] for row in rows] == ["acme-0001", "acme-0002", "acme-0003"]
    assert {row["total"] for row in rows} == {117_900}
    lines = billing.query("SELECT invoice_id, sum(amount) AS n FROM invoice_lines GROUP BY 1")
    assert [int(line["n"]) for line in lines] == [117_900] * 3


async def test_it_serves_its_figures_and_stops_when_told(billing: Billing, tmp_path: Path) -> None:
    await billing.customer(CUSTOMER, DEFAULT_TERMS)
    port = free_port()
    log = tmp_path / "worker.log"
    process = programs.start(
        "brinkbyte.billing",
        *("worker", "--port", str(port)),
        environment=environment(billing),
        cwd=tmp_path,
        log=log,
    )
    try:
        pattern = r'worker_runs_total\{job="subscriptions",outcome="done"\} 1\.0'
        text, deadline = "", time.monotonic() + 60
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=5) as http:
            while not re.search(pattern, text):
                assert time.monotonic() < deadline, text
                assert process.poll() is None
                try:
                    text = (await http.get("/metrics")).text
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
            assert (await http.get("/health")).json() == {"status": "ok"}
            text = (await http.get("/metrics")).text
        assert "brinkbyte_billing_worker_lag_seconds 0.0" in text
        assert 'brinkbyte_billing_worker_failing_customers{job="subscriptions"} 0.0' in text
    finally:
        process.terminate()
        code = await asyncio.to_thread(process.wait, 30)
    assert code in {0, -signal.SIGTERM}, log.read_text()
    assert len(billing.query("SELECT 1 FROM invoices")) == 1


def test_worker_sees_nobody_without_a_tenant_and_no_secrets(billing: Billing) -> None:
    with psycopg.connect(billing.dsn(WORKER)) as connection:
        for table in ("audit_log", "subscription_changes", "closed_periods", "agreed_values"):
            try:
                assert connection.execute(f"SELECT 1 FROM {table}").fetchall() == []
            except psycopg.errors.InsufficientPrivilege:
                connection.rollback()
        for table in ("credentials", "licenses", "audit_log"):
            with (
                pytest.raises(psycopg.errors.InsufficientPrivilege),
                connection.transaction(),
            ):
                connection.execute(f"SELECT 1 FROM {table}")
