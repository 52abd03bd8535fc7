"""A customer's people: invitations, roles, passwords, links, sessions, CSRF, guessing."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from services.billing.conftest import Billing
from services.billing.people import COOKIE, PASSWORD, browser, invite, last_link, person
from services.billing.site import reason
from support.billing import CUSTOMER, DEFAULT_TERMS

OLIVE = "olive@example.com"
KEYS = "/api/billing/keys"
USERS = "/api/billing/users"


@pytest.fixture
async def company(billing: Billing, vendor: httpx.AsyncClient) -> httpx.AsyncClient:
    """The vendor's client, with the customer acme."""
    await billing.customer(CUSTOMER, DEFAULT_TERMS)
    return vendor


async def test_an_owner_is_invited_sets_a_password_and_signs_in(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    async with person(billing, company, password=PASSWORD) as owner:
        assert owner.session["role"] == "owner"
        (cookie,) = owner.http.cookies.jar
        assert (cookie.name, cookie.secure, cookie.path) == (COOKIE, True, "/")
        assert cookie._rest == {"HttpOnly": None, "SameSite": "lax"}  # type: ignore[attr-defined]
        assert cookie.value is not None
        stored = str(
            [billing.query(f"SELECT * FROM {t}") for t in ("user_sessions", "user_links")]
            + billing.query("SELECT * FROM tenant_users")
            + billing.query("SELECT * FROM notifications")
            + billing.query("SELECT * FROM audit_log")
        )
        for secret in (cookie.value, PASSWORD, last_link(billing, OLIVE, "user_invited")):
            assert secret not in stored
    async with browser(billing) as again:
        answer = await again.sign_in(
            "sign-in", {"email": "Olive@Example.com", "password": PASSWORD}
        )
        assert answer.status_code == 200, answer.text
        assert (await again.call("GET", "/api/account/session")).json() == again.session
    actions = [row["action"] for row in billing.query("SELECT action FROM audit_log ORDER BY id")]
    for action in ("user.invited", "password.set", "session.opened"):
        assert action in actions


async def test_an_invitation_is_good_once_and_for_a_week(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    user = await invite(billing, company, OLIVE, "owner")
    first = last_link(billing, OLIVE, "user_invited")
    again = f"/api/v1/admin/customers/{CUSTOMER}/users/{user['userId']}/invitation"
    assert (await company.post(again)).status_code == 200
    second = last_link(billing, OLIVE, "user_invited")
    async with browser(billing) as found:
        assert reason(await found.sign_in("sign-in/token", {"token": first})) == (401, "LinkEnded")
        assert (await found.sign_in("sign-in/token", {"token": second})).status_code == 200
        assert reason(await found.sign_in("sign-in/token", {"token": second})) == (401, "LinkEnded")
    assert reason(await company.post(again)) == (409, "UserVerified")
    other = await invite(billing, company, "late@example.com", "viewer")
    assert other["verifiedAt"] is None
    billing.clock.advance(days=7, seconds=1)
    async with browser(billing) as found:
        token = last_link(billing, "late@example.com", "user_invited")
        assert reason(await found.sign_in("sign-in/token", {"token": token})) == (401, "LinkEnded")


async def test_two_uses_of_a_link_at_once_open_one_session(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    await invite(billing, company, OLIVE, "owner")
    token = {"token": last_link(billing, OLIVE, "user_invited")}
    async with browser(billing) as a, browser(billing) as b:
        answers = await asyncio.gather(
            a.sign_in("sign-in/token", token), b.sign_in("sign-in/token", token)
        )
    assert sorted(answer.status_code for answer in answers) == [200, 401]


async def test_roles_are_what_a_person_may_do(company: httpx.AsyncClient, billing: Billing) -> None:
    portal = f"/api/portal/{CUSTOMER}"
    async with person(billing, company) as owner:
        for role in ("billing", "viewer"):
            async with person(billing, company, email=f"{role}@example.com", role=role) as found:
                assert (await found.call("GET", portal)).status_code == 200
                for method, path in (("GET", KEYS), ("POST", KEYS), ("GET", USERS)):
                    answer = await found.call(method, path, json={"name": "x"})
                    assert reason(answer) == (403, "MissingScope")
                # A new role counts at the next call of the session that is there.
                path = f"{USERS}/{found.session['userId']}"
                changed = await owner.call("PATCH", path, json={"role": "owner"})
                assert changed.json()["role"] == "owner"
                assert (await found.call("GET", KEYS)).status_code == 200
                assert (await owner.call("DELETE", path)).status_code == 204
                assert reason(await found.call("GET", portal)) == (401, "SessionEnded")
        last = f"{USERS}/{owner.session['userId']}"
        assert reason(await owner.call("DELETE", last)) == (409, "LastOwner")
        assert reason(await owner.call("PATCH", last, json={"role": "viewer"})) == (
            409,
            "LastOwner",
        )


async def test_two_owners_cannot_remove_each_other_at_once(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    async with (
        person(billing, company) as one,
        person(billing, company, email="otto@example.com") as two,
    ):
        answers = await asyncio.gather(
            one.call("DELETE", f"{USERS}/{two.session['userId']}"),
            two.call("DELETE", f"{USERS}/{one.session['userId']}"),
        )
    # The second finds itself removed, or the last one.
    assert min(answer.status_code for answer in answers) == 204
    (left,) = billing.query(
        "SELECT count(*) AS n FROM tenant_users WHERE role = 'owner' AND removed_at IS NULL"
    )
    assert left["n"] == 1


async def test_an_unsafe_call_without_the_csrf_token_changes_nothing(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    async with person(billing, company) as owner:
        for token in ("", "wrong", owner.csrf[:-1], owner.csrf + "x", "\u00e9"):
            answer = await owner.http.post(
                KEYS, json={"name": "x"}, headers={b"x-csrf-token": token.encode()}
            )
            assert reason(answer) == (403, "CsrfTokenMissing")
        assert billing.query("SELECT 1 FROM credentials WHERE kind = 'tenant'") == []
        assert (await owner.call("POST", KEYS, json={"name": "x"})).status_code == 201


async def test_a_session_ends_idle_and_at_last_and_by_signing_out(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    url = "/api/account/session"
    async with person(billing, company, password=PASSWORD) as owner:
        for _ in range(13):
            billing.clock.advance(hours=11)
            assert (await owner.call("GET", url)).status_code == 200
        billing.clock.advance(hours=12)
        assert reason(await owner.call("GET", url)) == (401, "SessionEnded")
        signed = {"email": OLIVE, "password": PASSWORD}
        assert (await owner.sign_in("sign-in", signed)).status_code == 200
        for _ in range(16):
            billing.clock.advance(hours=10.5)
            answer = await owner.call("GET", url)
        assert reason(answer) == (401, "SessionEnded")
        assert (await owner.sign_in("sign-in", signed)).status_code == 200
        kept = owner.http.cookies[COOKIE]
        assert (await owner.call("POST", "/api/account/sign-out")).status_code == 204
        assert COOKIE not in owner.http.cookies
        answer = await owner.http.get(url, headers={"cookie": f"{COOKIE}={kept}"})
        assert reason(answer) == (401, "SessionEnded")


async def test_sessions_are_listed_and_ended_by_their_person_alone(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    async with (
        person(billing, company, password=PASSWORD) as owner,
        person(billing, company, email="vera@example.com", role="viewer") as viewer,
        browser(billing) as second,
    ):
        second.http.headers["user-agent"] = "a telephone"
        await second.sign_in("sign-in", {"email": OLIVE, "password": PASSWORD})
        listed = (await owner.call("GET", "/api/account/sessions")).json()["sessions"]
        assert (listed[0]["agent"], listed[0]["current"]) == ("a telephone", False)
        path = f"/api/account/sessions/{second.session['sessionId']}"
        assert reason(await viewer.call("DELETE", path)) == (404, "UnknownSession")
        assert (await owner.call("DELETE", path)).status_code == 204
        assert (await owner.call("DELETE", path)).status_code == 204
        assert reason(await second.call("GET", "/api/account/session")) == (401, "SessionEnded")
        # A new password ends the others, and needs the old one, unless by a fresh link.
        await second.sign_in("sign-in", {"email": OLIVE, "password": PASSWORD})
        change = {"password": "another horse battery"}
        assert reason(await second.call("PUT", "/api/account/password", json=change)) == (
            403,
            "WrongPassword",
        )
        answer = await second.call(
            "PUT", "/api/account/password", json={**change, "current": PASSWORD}
        )
        assert answer.status_code == 204
        assert reason(await owner.call("GET", "/api/account/session")) == (401, "SessionEnded")
        assert (await second.call("GET", "/api/account/session")).status_code == 200


async def test_a_magic_link_signs_in_and_says_nothing_to_strangers(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    async with person(billing, company, password=PASSWORD), browser(billing) as found:
        known = await found.http.post("/api/account/sign-in/link", json={"email": OLIVE})
        unknown = await found.http.post("/api/account/sign-in/link", json={"email": "x@y.z"})
        assert (known.status_code, known.json()) == (unknown.status_code, unknown.json())
        assert known.status_code == 202
        token = {"token": last_link(billing, OLIVE, "sign_in_link")}
        assert (await found.sign_in("sign-in/token", token)).status_code == 200
        # More than five an hour are not sent.
        for _ in range(7):
            await found.http.post("/api/account/sign-in/link", json={"email": OLIVE})
        (sent,) = billing.query("SELECT count(*) AS n FROM user_links")
        assert sent["n"] == 5
        token = {"token": last_link(billing, OLIVE, "sign_in_link")}
        billing.clock.advance(seconds=20 * 60)
        assert reason(await found.sign_in("sign-in/token", token)) == (401, "LinkEnded")


async def test_guessing_has_to_wait_alike_for_known_and_unknown_addresses(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    async with person(billing, company, password=PASSWORD), browser(billing) as found:
        for email in (OLIVE, "nobody@example.com"):
            guess = {"email": email, "password": "guess guess guess"}
            for _ in range(5):
                assert reason(await found.sign_in("sign-in", guess)) == (401, "SignInFailed")
            for _ in range(2):
                answer = await found.sign_in("sign-in", guess)
                assert reason(answer) == (429, "TooManyAttempts")
                assert 0 < int(answer.headers["retry-after"]) <= 61
        right = {"email": OLIVE, "password": PASSWORD}
        assert reason(await found.sign_in("sign-in", right)) == (429, "TooManyAttempts")
        # Who owns the address gets in by a link meanwhile.
        await found.http.post("/api/account/sign-in/link", json={"email": OLIVE})
        token = {"token": last_link(billing, OLIVE, "sign_in_link")}
        assert (await found.sign_in("sign-in/token", token)).status_code == 200
        assert (await found.sign_in("sign-in", right)).status_code == 200


async def test_many_guesses_at_once_are_no_more_than_one_after_the_other(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    async with browser(billing) as found:
        guess = {"email": OLIVE, "password": "guess guess guess"}
        answers = await asyncio.gather(*(found.sign_in("sign-in", guess) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 7


async def test_a_person_of_two_customers_says_which(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    await billing.customer("other", DEFAULT_TERMS)
    async with person(billing, company, password=PASSWORD):
        pass
    async with person(billing, company, customer="other", password=PASSWORD):
        pass
    async with browser(billing) as found:
        both = {"email": OLIVE, "password": PASSWORD}
        answer = await found.sign_in("sign-in", both)
        assert reason(answer) == (409, "ChooseCustomer")
        assert answer.json()["customers"] == ["acme", "other"]
        answer = await found.sign_in("sign-in", {**both, "customerId": "other"})
        assert answer.json()["customerId"] == "other"


async def test_neither_sessions_nor_links_are_bearer_secrets(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    async with person(billing, company) as owner, browser(billing) as found:
        await found.http.post("/api/account/sign-in/link", json={"email": OLIVE})
        for secret in (owner.http.cookies[COOKIE], last_link(billing, OLIVE, "sign_in_link")):
            headers = {"authorization": f"Bearer {secret}"}
            for path in (KEYS, f"/api/portal/{CUSTOMER}", "/api/v1/usage/head"):
                assert reason(await found.http.get(path, headers=headers)) == (401, "Unauthorized")
        # An API key is no session, and makes no keys.
        async with billing.tenant_client() as program:
            assert reason(await program.post(KEYS, json={"name": "x"})) == (403, "MissingScope")
            key = program.headers["authorization"].removeprefix("Bearer ")
        answer = await found.http.get("/api/account/session", headers={"cookie": f"{COOKIE}={key}"})
        assert reason(answer) == (401, "SessionEnded")


async def test_another_sites_page_signs_nobody_in(
    company: httpx.AsyncClient, billing: Billing
) -> None:
    await invite(billing, company, OLIVE, "owner")
    token = {"token": last_link(billing, OLIVE, "user_invited")}
    async with browser(billing) as found:
        found.http.headers["sec-fetch-site"] = "cross-site"
        assert reason(await found.sign_in("sign-in/token", token)) == (403, "CrossSite")
        found.http.headers["sec-fetch-site"] = "same-origin"
        assert (await found.sign_in("sign-in/token", token)).status_code == 200
