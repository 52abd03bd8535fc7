"""Every unsafe operation of the document writes the audit log, or says why it does not.

A new one fails here until it has a line in ``CALLS`` or in ``NOT_AUDITED``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx

from services.billing.conftest import Billing
from services.billing.people import PASSWORD, browser, invite, last_link
from services.billing.site import camera, device, key_pair
from services.billing.world import UNSAFE, World, world
from support.billing import DEFAULT_TERMS

Call = Callable[[World], Awaitable[httpx.Response]]
NOT_AUDITED = {
    "POST /api/v1/heartbeat": "a sign of life; its newest is in the instance's row",
    "POST /api/v1/licenses/validate": "reads only",
    "POST /api/v1/entitlements/check": "reads only",
    "POST /api/v1/usage/batch": "the ledger is a record itself, sealed and receipted",
    "POST /api/usage/report": "the ledger is a record itself",
    "POST /api/billing/subscription/preview": "writes nothing",
    "POST /api/billing/webhooks/stripe": "an inbox; what comes of it is audited where it is done",
    "POST /api/v1/quotas/reserve": "counts use, as the ledger does",
    "POST /api/v1/gateway/authorize": "counts use, as the ledger does",
}
ADMIN = "/api/v1/admin/customers/acme"
TARGETS = "/api/billing/notifications/targets"
THE_CUSTOMERS_TARGETS = "/api/v1/admin/customers/{customer_id}/notifications/targets"
WISH = {
    "plans": {"fleet": "professional"},
    "quantities": {"vision.base_seat": 12, "vision.device.basic": 5},
}


async def _enroll(world: World) -> httpx.Response:
    token = await world.billing.token("acme", replace=True)
    return await world.mine.site.enroll(token)


async def _register_key(world: World) -> httpx.Response:
    site = world.mine.site
    site.key = key_pair(7)
    body = {
        "publicKey": site.key.jwk.model_dump(mode="json"),
        "proof": site.proof(site.instance_id),
    }
    return await site.call("PUT", "/api/v1/instance/key", json=body)


async def _inventory(world: World) -> httpx.Response:
    return await world.mine.site.put([device(9)], [camera(9, hardwareId="hw-9")])


async def _acknowledge(world: World) -> httpx.Response:
    beat = {"version": "0.1.0", "devicesOnline": 0, "backlog": 0, "licenseSequence": 0}
    for cluster in ("cluster-1", "cluster-2"):
        answer = await world.mine.site.call(
            "POST",
            "/api/v1/heartbeat",
            json={**beat, "clusterFingerprint": cluster, "keySetNumber": 1},
        )
        assert answer.status_code == 200, answer.text
    return await world.vendor.post(f"{ADMIN}/clone-alarms/acknowledge", json={"note": "moved"})


async def _sign_in(world: World) -> httpx.Response:
    async with browser(world.billing) as found:
        return await found.sign_in("sign-in", {"email": "owner@acme.example", "password": PASSWORD})


async def _sign_in_by_link(world: World) -> httpx.Response:
    await invite(world.billing, world.vendor, "new@acme.example", "viewer")
    async with browser(world.billing) as found:
        token = last_link(world.billing, "new@acme.example", "user_invited")
        return await found.sign_in("sign-in/token", {"token": token})


async def _end_session(world: World) -> httpx.Response:
    answer = await _sign_in(world)
    path = f"/api/account/sessions/{answer.json()['sessionId']}"
    return await world.mine.owner.call("DELETE", path)


async def _release(world: World) -> httpx.Response:
    site = world.other.site
    early = site.event(ahead=25 * 3600)
    claims = await site.report([early], world.billing.keys)
    assert len(claims.quarantined) == 1
    # As if its clock had been right: what it was set aside for is gone.
    world.billing.query("UPDATE usage_quarantine SET received_at = received_at + interval '3 h'")
    path = f"/api/v1/admin/customers/{world.other.customer}/quarantine/release"
    return await world.vendor.post(path)


def _vendor(method: str, path: str, body: object = None) -> Call:
    return lambda w: w.vendor.request(method, path.format(**w.mine.ids), json=body)


def _owner(method: str, path: str, body: object = None) -> Call:
    return lambda w: w.mine.owner.call(method, path.format(**w.mine.ids), json=body)


async def _user(world: World) -> str:
    email = f"user{len(world.billing.query('SELECT 1 FROM tenant_users'))}@acme.example"
    found: str = (await invite(world.billing, world.vendor, email, "viewer"))["userId"]
    return found


async def _key(world: World) -> str:
    answer = await world.vendor.post(f"{ADMIN}/keys", json={"name": "x"})
    found: str = answer.json()["keyId"]
    return found


def _new_user(call: Callable[[World, str], Awaitable[httpx.Response]]) -> Call:
    async def run(world: World) -> httpx.Response:
        return await call(world, await _user(world))

    return run


def _new_key(call: Callable[[World, str], Awaitable[httpx.Response]]) -> Call:
    async def run(world: World) -> httpx.Response:
        return await call(world, await _key(world))

    return run


def _new_target(call: Callable[[World, str], Awaitable[httpx.Response]]) -> Call:
    async def run(world: World) -> httpx.Response:
        body = {"channel": "email", "address": "gone@acme.example"}
        made = await world.vendor.post(f"{ADMIN}/notifications/targets", json=body)
        return await call(world, made.json()["id"])

    return run


def _disabled(call: Call) -> Call:
    async def run(world: World) -> httpx.Response:
        world.billing.query(
            "UPDATE notification_targets SET disabled_at = now(), disabled_reason = 'gone'"
        )
        return await call(world)

    return run


CALLS: dict[str, tuple[str, Call]] = {
    "POST /api/customers": (
        "customer.created",
        _vendor("POST", "/api/customers", {"customerId": "third", "name": "Third"}),
    ),
    "POST /api/subscriptions": (
        "subscription.set",
        _vendor("POST", "/api/subscriptions", {"customerId": "acme", "terms": DEFAULT_TERMS}),
    ),
    "PUT /api/customers/{customer_id}/agreed": (
        "subscription.agreed",
        _vendor(
            "PUT",
            "/api/customers/acme/agreed",
            {"overrides": DEFAULT_TERMS["overrides"], "annualPercent": "5"},
        ),
    ),
    "PUT /api/v1/inventory": ("inventory.changed", _inventory),
    "PUT /api/v1/instance/key": ("instance.key_registered", _register_key),
    "POST /api/v1/instance/credential": (
        "credential.rotated",
        lambda w: w.mine.site.call("POST", "/api/v1/instance/credential"),
    ),
    "POST /api/v1/admin/customers/{customer_id}/clone-alarms/acknowledge": (
        "clone_alarm.acknowledged",
        _acknowledge,
    ),
    "PATCH /api/v1/admin/customers/{customer_id}/flags": (
        "flags.set",
        _vendor("PATCH", f"{ADMIN}/flags", {"offlineMode": False}),
    ),
    "POST /api/v1/admin/customers/{customer_id}/payment": (
        "subscription.payment_failed",
        _vendor("POST", f"{ADMIN}/payment", {"state": "failed", "dueAt": 1_700_000_000}),
    ),
    "POST /api/v1/admin/customers/{customer_id}/keys": (
        "api_key.created",
        _vendor("POST", f"{ADMIN}/keys", {"name": "x"}),
    ),
    "POST /api/v1/admin/customers/{customer_id}/keys/{key_id}/rotate": (
        "api_key.rotated",
        _new_key(lambda w, key: w.vendor.post(f"{ADMIN}/keys/{key}/rotate", json={})),
    ),
    "DELETE /api/v1/admin/customers/{customer_id}/keys/{key_id}": (
        "api_key.revoked",
        _new_key(lambda w, key: w.vendor.delete(f"{ADMIN}/keys/{key}")),
    ),
    "POST /api/billing/keys": (
        "api_key.created",
        _owner("POST", "/api/billing/keys", {"name": "x"}),
    ),
    "POST /api/billing/keys/{key_id}/rotate": (
        "api_key.rotated",
        _owner("POST", "/api/billing/keys/{key_id}/rotate", {}),
    ),
    "DELETE /api/billing/keys/{key_id}": (
        "api_key.revoked",
        _owner("DELETE", "/api/billing/keys/{key_id}"),
    ),
    "POST /api/v1/admin/customers/{customer_id}/users": (
        "user.invited",
        _vendor("POST", f"{ADMIN}/users", {"email": "a@acme.example"}),
    ),
    "POST /api/v1/admin/customers/{customer_id}/users/{user_id}/invitation": (
        "user.invited",
        _new_user(lambda w, user: w.vendor.post(f"{ADMIN}/users/{user}/invitation")),
    ),
    "PATCH /api/v1/admin/customers/{customer_id}/users/{user_id}": (
        "user.changed",
        _new_user(lambda w, user: w.vendor.patch(f"{ADMIN}/users/{user}", json={"role": "owner"})),
    ),
    "DELETE /api/v1/admin/customers/{customer_id}/users/{user_id}": (
        "user.removed",
        _new_user(lambda w, user: w.vendor.delete(f"{ADMIN}/users/{user}")),
    ),
    "POST /api/billing/users": (
        "user.invited",
        _owner("POST", "/api/billing/users", {"email": "b@acme.example"}),
    ),
    "POST /api/billing/users/{user_id}/invitation": (
        "user.invited",
        _owner("POST", "/api/billing/users/{user_id}/invitation"),
    ),
    "PATCH /api/billing/users/{user_id}": (
        "user.changed",
        _owner("PATCH", "/api/billing/users/{user_id}", {"name": "Vera"}),
    ),
    "DELETE /api/billing/users/{user_id}": (
        "user.removed",
        _owner("DELETE", "/api/billing/users/{user_id}"),
    ),
    "POST /api/billing/cost-alerts": (
        "cost_alert.created",
        _owner("POST", "/api/billing/cost-alerts", {"amount": "100"}),
    ),
    "DELETE /api/billing/cost-alerts/{alert}": (
        "cost_alert.deleted",
        _owner("DELETE", "/api/billing/cost-alerts/{alert}"),
    ),
    f"POST {TARGETS}": (
        "notification_target.created",
        _owner("POST", TARGETS, {"channel": "email", "address": "told@acme.example"}),
    ),
    f"PUT {TARGETS}/{{target}}": (
        "notification_target.changed",
        _owner("PUT", f"{TARGETS}/{{target}}", {"kinds": ["limit_reached"]}),
    ),
    f"POST {TARGETS}/{{target}}/roll-secret": (
        "notification_target.secret_rolled",
        _owner("POST", f"{TARGETS}/{{target}}/roll-secret"),
    ),
    f"POST {TARGETS}/{{target}}/enable": (
        "notification_target.enabled",
        _disabled(_owner("POST", f"{TARGETS}/{{target}}/enable")),
    ),
    f"POST {THE_CUSTOMERS_TARGETS}": (
        "notification_target.created",
        _vendor("POST", THE_CUSTOMERS_TARGETS, {"channel": "sms", "address": "+61412345678"}),
    ),
    f"PUT {THE_CUSTOMERS_TARGETS}/{{target}}": (
        "notification_target.changed",
        _vendor("PUT", f"{THE_CUSTOMERS_TARGETS}/{{target}}", {"kinds": []}),
    ),
    f"POST {THE_CUSTOMERS_TARGETS}/{{target}}/roll-secret": (
        "notification_target.secret_rolled",
        _vendor("POST", f"{THE_CUSTOMERS_TARGETS}/{{target}}/roll-secret"),
    ),
    f"POST {THE_CUSTOMERS_TARGETS}/{{target}}/enable": (
        "notification_target.enabled",
        _disabled(_vendor("POST", f"{THE_CUSTOMERS_TARGETS}/{{target}}/enable")),
    ),
    f"DELETE {TARGETS}/{{target}}": (
        "notification_target.deleted",
        _owner("DELETE", f"{TARGETS}/{{target}}"),
    ),
    f"DELETE {THE_CUSTOMERS_TARGETS}/{{target}}": (
        "notification_target.deleted",
        _new_target(lambda w, target: w.vendor.delete(f"{ADMIN}/notifications/targets/{target}")),
    ),
    "PUT /api/billing/subscription": (
        "subscription.changed",
        _owner("PUT", "/api/billing/subscription", WISH),
    ),
    "DELETE /api/billing/subscription": (
        "subscription.canceled",
        _owner("DELETE", "/api/billing/subscription"),
    ),
    "POST /api/billing/subscription": (
        "subscription.created",
        _owner("POST", "/api/billing/subscription", WISH),
    ),
    "POST /api/account/sign-in": ("session.opened", _sign_in),
    "POST /api/account/sign-in/token": ("session.opened", _sign_in_by_link),
    "POST /api/account/sign-in/link": (
        "sign_in_link.sent",
        _owner("POST", "/api/account/sign-in/link", {"email": "owner@acme.example"}),
    ),
    "DELETE /api/account/sessions/{session_id}": ("session.ended", _end_session),
    "PUT /api/account/password": (
        "password.set",
        _owner(
            "PUT",
            "/api/account/password",
            {"current": PASSWORD, "password": "another horse battery"},
        ),
    ),
    "POST /api/account/sign-out": ("session.ended", _owner("POST", "/api/account/sign-out")),
    "POST /api/v1/enrollments": ("instance.enrolled", _enroll),
    "DELETE /api/v1/instance": (
        "instance.ended",
        lambda w: w.mine.site.call("DELETE", "/api/v1/instance"),
    ),
    "POST /api/v1/admin/customers/{customer_id}/quarantine/release": (
        "quarantine.released",
        _release,
    ),
}
"""Operation → the action in the log, and a call that changes something; in this order."""


async def test_every_change_is_in_the_audit_log(
    vendor: httpx.AsyncClient, billing: Billing
) -> None:
    async with world(billing, vendor) as found:
        unsafe = {name for name, _ in found.operations() if name.split()[0] in UNSAFE}
        assert unsafe == set(CALLS) | set(NOT_AUDITED)
        assert not set(CALLS) & set(NOT_AUDITED)
        wrong: list[str] = []
        for name, (action, call) in CALLS.items():
            (before,) = billing.query("SELECT coalesce(max(id::text), '') AS id FROM audit_log")
            answer = await call(found)
            if not answer.is_success:
                wrong.append(f"{name}: {answer.status_code} {answer.text[:200]}")
            rows = billing.query(
                "SELECT action, actor FROM audit_log WHERE id::text > %s", before["id"]
            )
            if action not in {row["action"] for row in rows}:
                wrong.append(f"{name}: wrote {[row['action'] for row in rows]}, not {action}")
            if not all(row["actor"] for row in rows):
                wrong.append(f"{name}: says not who")
        assert wrong == []
