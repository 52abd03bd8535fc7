"""Telling people: a real SMTP server, real HTTP servers that fail, a process that is killed."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.controller import Controller
from pydantic import SecretStr

from brinkbyte.billing.db import Database
from brinkbyte.billing.migrate import WORKER
from brinkbyte.billing.notifications.delivery import deliver
from brinkbyte.billing.notifications.outbox import Kind, enqueue
from brinkbyte.billing.notifications.settings import NotificationSettings
from brinkbyte.billing.notifications.signing import verify
from brinkbyte.kit.pools import postgres_pool
from services.billing.conftest import Billing
from services.billing.mailbox import Mailbox, mail_server
from services.billing.quota_callers import FREE, bearer, emitter, reserve, tenant_key
from support import programs
from support.billing import CUSTOMER, PEPPER, make_certificate, source_environment
from support.deliver_once import Worker
from support.processes import free_port
from support.served import served

pytestmark = pytest.mark.services
TARGETS = "/api/billing/notifications/targets"
FACTS = {
    "title": "API calls",
    "percent": 80,
    "used": "800",
    "included": "1000",
    "periodEnd": "2026-12-01T00:00:00+00:00",
}


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    with mail_server() as served_box:
        yield served_box


@dataclass
class Receiver:
    """A webhook's other side: answers what it is told to, remembers what came."""

    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        self.got.append(({k.decode(): v.decode() for k, v in scope["headers"]}, body))
        status = self.statuses.pop(0) if self.statuses else 200
        headers = [(k.encode(), v.encode()) for k, v in self.headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def settings(**more: Any) -> NotificationSettings:
    given: dict[str, Any] = {
        "pepper": SecretStr(PEPPER),
        "smtp_security": "none",
        "webhook_allow_private": True,
        "notification_timeout": 3,
        **more,
    }
    return NotificationSettings(**given)


@asynccontextmanager
async def worker(billing: Billing) -> AsyncIterator[Worker]:
    async with postgres_pool(billing.dsn(WORKER), max_size=4) as pool:
        yield Worker(Database(pool))


async def tell(billing: Billing, key: str = "1", **payload: Any) -> bool:
    async with billing.context.database.tenant(CUSTOMER) as connection:
        return await enqueue(
            connection,
            CUSTOMER,
            Kind.LIMIT_APPROACHING,
            key=key,
            payload={**FACTS, **payload},
            now=billing.clock.now,
        )


async def run(billing: Billing, **more: Any) -> int:
    async with worker(billing) as context:
        return await deliver(context, billing.clock.now, settings(**more))


async def add(billing: Billing, channel: str, address: str, **more: Any) -> dict[str, Any]:
    object.__setattr__(billing.context, "webhook_allow_private", True)
    if "authorization" not in billing.http.headers:
        billing.http.headers.update(bearer(await tenant_key(billing)))
    answer = await billing.http.post(TARGETS, json={"channel": channel, "address": address, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def states(billing: Billing) -> list[tuple[str, int]]:
    answer = await billing.http.get("/api/billing/notifications")
    assert answer.status_code == 200, answer.text
    return [
        (delivery["state"], delivery["attempts"])
        for notification in answer.json()["notifications"]
        for delivery in notification["deliveries"]
    ]


async def test_a_limit_that_is_reached_is_mailed_once(
    billing: Billing, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    await billing.customer(CUSTOMER, FREE)
    await add(billing, "email", "ops@example.com")
    await add(billing, "email", "money@example.com", kinds=["payment_failed"])
    key = await emitter(billing)
    await reserve(billing, key, quantity=850)
    mail = {"smtp_host": "127.0.0.1", "smtp_port": port}
    assert await run(billing, **mail) == 1
    assert await run(billing, **mail) == 0
    (message,) = box.messages
    assert message["To"] == "ops@example.com"
    assert message["Subject"] == "API calls: 80 % used"
    plain = message.get_body(("plain",))
    page = message.get_body(("html",))
    assert plain is not None
    assert page is not None
    assert "850 of 1,000" in plain.get_content()
    assert "See usage and plans: https://" in plain.get_content()
    assert "<a href=" in page.get_content()
    assert await states(billing) == [("delivered", 1)]


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mail_goes_encrypted_to_the_server_that_is_trusted(
    billing: Billing, tmp_path: Path, security: str
) -> None:
    make_certificate(tmp_path / "mail.crt", tmp_path / "mail.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "mail.crt", tmp_path / "mail.key")
    box, port = Mailbox(), free_port()
    encrypted: dict[str, Any] = (
        {"ssl_context": context}
        if security == "tls"
        else {"tls_context": context, "require_starttls": True}
    )
    controller = Controller(box, hostname="127.0.0.1", port=port, **encrypted)
    controller.start()
    try:
        await billing.customer(CUSTOMER)
        await add(billing, "email", "ops@example.com")
        await tell(billing)
        mail = {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_security": security}
        assert await run(billing, **mail) == 0
        assert await states(billing) == [("pending", 1)]
        billing.clock.advance(hours=1)
        assert await run(billing, **mail, smtp_ca_file=tmp_path / "mail.crt") == 1
    finally:
        controller.stop()
    assert len(box.messages) == 1


async def test_recipients_that_are_refused_are_disabled_and_those_put_off_come_again(
    billing: Billing, mailbox: tuple[Mailbox, int]
) -> None:
    box, port = mailbox
    box.refusals = {"gone@example.com": "550 no such user", "later@example.com": "451 later"}
    await billing.customer(CUSTOMER)
    await add(billing, "email", "gone@example.com")
    await add(billing, "email", "later@example.com")
    await tell(billing)
    mail = {"smtp_host": "127.0.0.1", "smtp_port": port}
    assert await run(billing, **mail) == 0
    shown = (await billing.http.get(TARGETS)).json()["targets"]
    found = {t["address"]: t for t in shown}
    assert "550" in found["gone@example.com"]["disabledReason"]
    assert found["later@example.com"]["disabledAt"] is None
    assert found["later@example.com"]["failingSince"]
    box.refusals = {}
    billing.clock.advance(seconds=40)
    assert await run(billing, **mail) == 1
    # Who is disabled is told nothing until somebody says so.
    await tell(billing, "2")
    assert await run(billing, **mail) == 1
    await billing.http.post(f"{TARGETS}/{found['gone@example.com']['id']}/enable")
    await tell(billing, "3")
    assert await run(billing, **mail) == 2
    audited = billing.query("SELECT action FROM audit_log WHERE actor = 'worker'")
    assert [row["action"] for row in audited] == ["notification_target.disabled"]


async def test_webhook_is_signed_and_retried_under_one_id(billing: Billing) -> None:
    await billing.customer(CUSTOMER)
    receiver = Receiver([500, 302, 429], {"Retry-After": "600", "Location": "http://127.0.0.1/"})
    async with served(receiver) as port:
        target = await add(billing, "webhook", f"http://127.0.0.1:{port}/hook?x=1")
        await tell(billing)
        assert await run(billing) == 0
        assert await run(billing) == 0
        assert len(receiver.got) == 1, "a try waits for its time"
        for _ in range(3):
            billing.clock.advance(seconds=700)
            await run(billing)
    assert await states(billing) == [("delivered", 4)]
    ids = {headers["brinkbyte-delivery"] for headers, _ in receiver.got}
    assert len(ids) == 1
    for headers, body in receiver.got:
        assert headers["host"] == f"127.0.0.1:{port}"
        stamp = int(headers["brinkbyte-signature"].split(",")[0][2:])
        assert verify(body, headers["brinkbyte-signature"], target["secret"], stamp)
        assert not verify(body + b" ", headers["brinkbyte-signature"], target["secret"], stamp)
        assert not verify(body, headers["brinkbyte-signature"], "whsec_x", stamp)
        assert not verify(body, headers["brinkbyte-signature"], target["secret"], stamp + 301)
        said = json.loads(body)
        assert (said["id"], said["kind"], said["customerId"]) == (
            ids.copy().pop(), "limit_approaching", CUSTOMER,
        )  # fmt: skip
        assert said["data"]["used"] == "800"


async def test_both_secrets_sign_during_a_roll(billing: Billing) -> None:
    await billing.customer(CUSTOMER)
    receiver = Receiver()
    async with served(receiver) as port:
        old = await add(billing, "webhook", f"http://127.0.0.1:{port}/")
        rolled = (await billing.http.post(f"{TARGETS}/{old['id']}/roll-secret")).json()
        assert rolled["secret"] != old["secret"]
        await tell(billing, "1")
        await run(billing)
        billing.clock.advance(hours=25)
        await tell(billing, "2")
        await run(billing)
    shown = (await billing.http.get(TARGETS)).text
    assert "whsec_" not in shown
    stored = billing.query("SELECT to_jsonb(t)::text AS t FROM notification_targets t")
    assert old["secret"] not in stored[0]["t"]
    good = [
        [
            verify(body, headers["brinkbyte-signature"], secret, billing.clock.now - age)
            for secret in (old["secret"], rolled["secret"])
        ]
        for (headers, body), age in zip(receiver.got, (25 * 3600, 0), strict=True)
    ]
    assert good == [[True, True], [False, True]]


async def test_three_days_of_failures_disable_a_target(billing: Billing) -> None:
    await billing.customer(CUSTOMER)
    port = free_port()
    await add(billing, "webhook", f"http://127.0.0.1:{port}/")
    await tell(billing)
    tries = 0
    while (await states(billing))[0][0] == "pending" and tries < 60:
        await run(billing)
        billing.clock.advance(hours=7)
        tries += 1
    assert (await states(billing))[0][0] == "failed"
    assert tries > 8
    (target,) = (await billing.http.get(TARGETS)).json()["targets"]
    assert "three days" in target["disabledReason"]


async def test_gone_disables_at_once_and_gives_up_what_waits(billing: Billing) -> None:
    await billing.customer(CUSTOMER)
    receiver = Receiver([410])
    async with served(receiver) as port:
        await add(billing, "webhook", f"http://127.0.0.1:{port}/")
        await tell(billing, "1")
        await run(billing)
        await tell(billing, "2")
        await run(billing)
    assert len(receiver.got) == 1
    assert await states(billing) == [("failed", 1)]


async def test_a_webhook_inside_is_refused_when_set_and_when_reached(billing: Billing) -> None:
    await billing.customer(CUSTOMER)
    receiver = Receiver()
    async with served(receiver) as port:
        # Set while it was allowed; the worker does not allow it.
        await add(billing, "webhook", f"https://localhost:{port}/")
        await tell(billing)
        await run(billing, webhook_allow_private=False)
    assert receiver.got == []
    (target,) = (await billing.http.get(TARGETS)).json()["targets"]
    assert "not of the open internet" in target["disabledReason"]
    object.__setattr__(billing.context, "webhook_allow_private", False)
    for address in (
        "http://example.com/", "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/",
        "https://10.0.0.1/", "https://user@example.com/", "ftp://example.com", "https://",
        "https://[::ffff:10.0.0.1]/",
    ):  # fmt: skip
        refused = await billing.http.post(TARGETS, json={"channel": "webhook", "address": address})
        assert (refused.status_code, refused.json()["reason"]) == (422, "InvalidTarget"), address
    for channel, address in (("email", "x"), ("email", "a@b\r\nBcc: c@d.e"), ("sms", "12345")):
        refused = await billing.http.post(TARGETS, json={"channel": channel, "address": address})
        assert refused.status_code == 422, address


async def test_text_messages_go_over_http(billing: Billing) -> None:
    await billing.customer(CUSTOMER)
    receiver = Receiver([503])
    async with served(receiver) as port:
        await add(billing, "sms", "+61412345678", kinds=["limit_approaching"])
        await tell(billing)
        sms = {"sms_url": f"http://127.0.0.1:{port}/sms", "sms_token": SecretStr("t0ken")}
        assert await run(billing) == 0, "not set up: it waits"
        billing.clock.advance(seconds=601)
        assert await run(billing, **sms) == 0
        billing.clock.advance(seconds=700)
        assert await run(billing, **sms) == 1
    first, second = receiver.got
    assert first[0]["idempotency-key"] == second[0]["idempotency-key"]
    assert second[0]["authorization"] == "Bearer t0ken"
    said = json.loads(second[1])
    assert (said["to"], said["from"]) == ("+61412345678", "BrinkByte")
    assert said["text"].startswith("API calls: 80 % used. ")
    assert len(said["text"]) <= 300


@pytest.mark.parametrize("point", ["deliver.claimed", "deliver.sent", "deliver.settled"])
async def test_killed_at_any_point_it_is_told_and_once_for_the_reader(
    billing: Billing, point: str
) -> None:
    await billing.customer(CUSTOMER)
    receiver = Receiver()

    async def process(failpoint: str | None) -> int:
        environment = {"BRINKBYTE_PEPPER": PEPPER, "BRINKBYTE_WEBHOOK_ALLOW_PRIVATE": "true"}
        if failpoint:
            environment["BRINKBYTE_FAILPOINT"] = failpoint
        done = await asyncio.to_thread(
            programs.run,
            "support.deliver_once",
            billing.dsn(WORKER),
            str(billing.clock.now),
            environment=source_environment(environment),
        )
        return done.returncode

    async with served(receiver) as port:
        await add(billing, "webhook", f"http://127.0.0.1:{port}/")
        await tell(billing)
        assert await process(point) == -9
        billing.clock.advance(seconds=181)
        assert await process(None) == 0
    assert (await states(billing))[0][0] == "delivered"
    assert len(receiver.got) == (2 if point == "deliver.sent" else 1)
    assert len({headers["brinkbyte-delivery"] for headers, _ in receiver.got}) == 1


async def test_two_workers_tell_each_target_once(billing: Billing) -> None:
    await billing.customer(CUSTOMER)
    receiver = Receiver()
    async with served(receiver) as port:
        await add(billing, "webhook", f"http://127.0.0.1:{port}/")
        for number in range(20):
            await tell(billing, str(number))
        async with worker(billing) as one, worker(billing) as other:
            counts = await asyncio.gather(
                *(deliver(w, billing.clock.now, settings()) for w in (one, other))
            )
    assert sum(counts) == len(receiver.got) == 20


async def test_what_is_for_one_person_goes_to_that_person_alone(billing: Billing) -> None:
    await billing.customer(CUSTOMER)
    await add(billing, "email", "ops@example.com")
    async with billing.context.database.tenant(CUSTOMER) as connection:
        facts = {"to": "new@example.com", "linkId": "x", "expiresAt": billing.clock.now + 60}
        await enqueue(
            connection, CUSTOMER, Kind.USER_INVITED, key="link:x", payload=facts,
            now=billing.clock.now,
        )  # fmt: skip
    rows = billing.query(
        "SELECT t.address, t.direct FROM notification_deliveries d "
        "JOIN notification_targets t ON t.id = d.target_id"
    )
    assert rows == [{"address": "new@example.com", "direct": True}]
    assert [t["address"] for t in (await billing.http.get(TARGETS)).json()["targets"]] == [
        "ops@example.com"
    ]
    assert await states(billing) == []
    billing.clock.advance(seconds=61)
    await run(billing)
    (row,) = billing.query("SELECT state, last_error FROM notification_deliveries")
    assert row == {"state": "failed", "last_error": "its link has ended"}


async def test_customers_and_vendor_manage_targets(billing: Billing) -> None:
    await billing.customer(CUSTOMER)
    await billing.customer("other")
    mine = await add(billing, "email", "ops@example.com")
    again = await add(billing, "email", "ops@example.com", kinds=["trial_ended"])
    assert (again["id"], again["kinds"]) == (mine["id"], ["trial_ended"])
    changed = await billing.http.put(f"{TARGETS}/{mine['id']}", json={"kinds": ["cost_alert"]})
    assert changed.json()["kinds"] == ["cost_alert"]
    roll = await billing.http.post(f"{TARGETS}/{mine['id']}/roll-secret")
    assert (roll.status_code, roll.json()["reason"]) == (422, "InvalidTarget")
    wrong = await billing.http.post(
        TARGETS, json={"channel": "email", "address": "a@b.c", "kinds": ["user_invited"]}
    )
    assert wrong.status_code == 422
    other = bearer(await tenant_key(billing, "other"))
    for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/enable")):
        refused = await billing.http.request(
            method, f"{TARGETS}/{mine['id']}{path}", headers=other, json={"kinds": []}
        )
        assert (refused.status_code, refused.json()["reason"]) == (404, "UnknownTarget")
    vendor = bearer(await emitter(billing))
    path = f"/api/v1/admin/customers/{CUSTOMER}/notifications/targets"
    shown = await billing.http.get(path, headers=vendor)
    assert [t["id"] for t in shown.json()["targets"]] == [mine["id"]]
    assert (await billing.http.get(path)).status_code == 403
    unknown = await billing.http.get(path.replace(CUSTOMER, "nobody"), headers=vendor)
    assert unknown.status_code == 404
    gone = await billing.http.delete(f"{path}/{mine['id']}", headers=vendor)
    assert gone.status_code == 204
    actions = billing.query("SELECT action FROM audit_log WHERE action LIKE %s", "notif%")
    assert len(actions) == 4
    assert UUID(mine["id"])
