"""A rotation of signing keys as a rollout: who has seen the new ones, who needs the old."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest

from brinkbyte.billing.administration import commands
from brinkbyte.billing.licenses import rotation
from brinkbyte.billing.rollout import repository as rollout_rows
from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.license.claims import LicenseClaims, TokenKind
from brinkbyte.license.documents import Snapshot, Verifier
from brinkbyte.license.keys import load_roots, verify_key_set
from brinkbyte.license.tokens import verify
from brinkbyte.metering.batches import verify_receipt
from services.billing.conftest import Billing
from services.billing.site import Site, camera, device, key_pair
from support.billing import CUSTOMER, DEFAULT_TERMS

DAY = 86_400
KEYS = "/api/v1/admin/keys"


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch, billing: Billing) -> None:
    """The command line has the server's clock, and the server looks at its keys at once."""
    monkeypatch.setattr("brinkbyte.billing.licenses.keys._RELOAD_SECONDS", 0.0)
    monkeypatch.setattr(commands, "_now", lambda: billing.clock.now)


class Holder:
    """What an instance holds, taken in and verified as the instance does it."""

    def __init__(self, site: Site, billing: Billing) -> None:
        self.site, self.billing = site, billing
        roots = load_roots((billing.directory / "root" / "roots.json").read_bytes())
        self.verifier = Verifier(roots, site.instance_id, site.customer)
        self.snapshot = Snapshot()

    async def ask(self) -> None:
        """Ask for what is newer; fail if anything of it is refused, or if nothing is held then."""
        answer = await self.site.tokens(**self.snapshot.held.model_dump(mode="json"))
        if answer.status_code == 304:
            return
        assert answer.status_code == 200, answer.text
        body = answer.json()
        documents = {
            TokenKind.KEY_SET: json.dumps(body["keySet"]) if body["keySet"] else None,
            TokenKind.REVOCATIONS: body["revocations"],
            TokenKind.LICENSE: body["license"],
            TokenKind.SEATS: body["seats"],
        }
        given = {kind: text for kind, text in documents.items() if text is not None}
        taken = self.verifier.take_in(self.snapshot, given, now=self.billing.clock.now)
        # What was held may be dropped with a key that is gone; what came with the set never is.
        came = {sha256_hex(text.encode()) for text in given.values()}
        assert [each for each in taken.refused if each.fingerprint in came] == []
        self.snapshot = taken.snapshot
        assert self.snapshot.license is not None
        assert self.snapshot.seats is not None

    @property
    def number(self) -> int:
        return self.snapshot.sequence(TokenKind.KEY_SET)


async def rollout(vendor: httpx.AsyncClient) -> dict[str, Any]:
    answer = await vendor.get(KEYS)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def root_of(billing: Billing) -> bytes:
    return (billing.directory / "root" / "root.pem").read_bytes()


def command(billing: Billing, name: str, *more: str) -> tuple[str, ...]:
    given = ("keys", name, "--dir", str(billing.directory / "keys"))
    needs_root = name in ("publish", "retire")
    root = ("--root", str(billing.directory / "root" / "root.pem")) if needs_root else ()
    return (*given, *root, *more)


async def published(billing: Billing) -> set[str]:
    answer = await billing.http.get("/.well-known/jwks.json")
    return {key["kid"] for key in answer.json()["keys"]}


def signer(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def test_a_rotation_from_publishing_to_the_end_with_one_site_away(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing, run: Any
) -> None:
    """The site that was away for all of it comes back, and nothing of it ever fails."""
    await billing.customer("far", DEFAULT_TERMS)
    far_site = await billing.site("far", key=key_pair(1))
    near, far = Holder(acme, billing), Holder(far_site, billing)
    for holder in (near, far):
        await holder.site.inventory([device(1)], [camera(1)])
        await holder.ask()
        await holder.ask()
    waiting = far_site.seal([far_site.event()])
    lost = await far_site.send(waiting)  # its receipt never arrives
    assert lost.status_code == 200
    start = await rollout(vendor)
    assert (start["phase"], start["instances"], start["seen"]) == ("settled", 2, 2)
    assert {key["state"] for key in start["keys"]} == {"signing"}
    old = {key["keyId"] for key in start["keys"]}

    assert "key set 2" in await asyncio.to_thread(run, *command(billing, "publish"))
    published = await rollout(vendor)
    assert (published["phase"], published["target"], published["seen"]) == ("published", 2, 0)
    assert published["waiting"] == 2
    # Refused while sites that are in touch have not seen the set; both are named.
    refused = await asyncio.to_thread(run, *command(billing, "switch"), fails=True)
    assert "NotSeenYet" in refused
    assert acme.instance_id in refused.replace("\n", "")
    assert far_site.instance_id in refused.replace("\n", "")

    # The line of the far site goes down. The near one takes the set, and says so with its next ask.
    billing.clock.advance(hours=25)
    await near.ask()
    assert near.number == 2
    assert (await rollout(vendor))["seen"] == 0
    await near.ask()
    found = await rollout(vendor)
    assert (found["seen"], found["waiting"]) == (1, 0)
    (away,) = found["lacking"]
    assert (away["customerId"], away["keySetNumber"], away["inTouch"]) == ("far", 1, False)
    text = (await vendor.get("/metrics")).text
    assert 'brinkbyte_billing_key_set_instances{state="seen"} 1.0' in text
    assert 'brinkbyte_billing_key_set_instances{state="offline"} 1.0' in text
    out = await asyncio.to_thread(run, *command(billing, "status"))
    assert "1 of 2 live instances" in out
    assert "far" in out

    assert "signs with" in await asyncio.to_thread(run, *command(billing, "switch"))
    overlap = await rollout(vendor)
    assert overlap["phase"] == "overlap"
    assert {key["keyId"] for key in overlap["keys"] if key["state"] == "retired"} == old
    # Both hold what the old keys signed: they stay.
    assert {row["customerId"] for row in overlap["needing"]} == {CUSTOMER, "far"}
    refused = await asyncio.to_thread(run, *command(billing, "retire"), fails=True)
    assert "OldKeyNeeded" in refused
    assert "far" in refused

    # What is renewed is signed by the new keys; who holds the set checks it.
    billing.clock.advance(days=15)
    await near.ask()
    await near.site.inventory([device(1)], [camera(1)])
    receipt = await acme.report([acme.event()], near.snapshot.key_set.keys)
    assert receipt.count == 1
    renewed = await rollout(vendor)
    assert [row["customerId"] for row in renewed["needing"]] == ["far"]

    # 40 days more: what the far site holds has ended, grace and all, and the old keys go.
    for _ in range(2):
        billing.clock.advance(days=20)
        await near.site.rotate()
        await near.ask()
        await near.site.inventory([device(1)], [camera(1)])
    assert (await rollout(vendor))["needing"] == []
    assert "without the old keys" in await asyncio.to_thread(run, *command(billing, "retire"))
    ended = await rollout(vendor)
    assert (ended["phase"], ended["number"]) == ("settled", 3)
    assert not old & {key["keyId"] for key in ended["keys"]}

    # The far site is back: its credential is good, its one ask brings set and documents together.
    await far.ask()
    assert far.number == 3
    assert far.snapshot.license is not None
    assert far.snapshot.license.exp > billing.clock.now
    await near.ask()
    await far.ask()
    final = await rollout(vendor)
    assert (final["seen"], final["lacking"]) == (2, [])
    # The batch whose receipt was lost, under a key that is gone, gets one that verifies.
    again = (await far_site.send(waiting)).json()["receipt"]
    assert signer(lost.json()["receipt"]) in old
    keys = far.snapshot.key_set.keys
    claims = verify_receipt(again, waiting.header, keys, now=billing.clock.now)
    assert claims.jti == jwt.decode(again, options={"verify_signature": False})["jti"]
    steps = billing.query("SELECT action, details FROM own_audit_log WHERE action LIKE 'keys%%'")
    assert [(s["action"], s["details"]["forced"]) for s in steps] == [
        ("keys.switch", False),
        ("keys.retire", False),
    ]


async def test_a_step_that_is_forced_names_who_is_passed_over_and_cuts_nobody_off(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing, run: Any
) -> None:
    """A leaked key: at once, also the camera's license is cut anew under the new one."""
    holder = Holder(acme, billing)
    first = await acme.inventory([device(1)], [camera(1)])
    await holder.ask()
    rotation.publish(billing.directory / "keys", root_of(billing), now=billing.clock.now)
    out = await asyncio.to_thread(run, *command(billing, "switch", "--force"))
    assert f"passed over: {CUSTOMER} ({acme.instance_id})" in out
    out = await asyncio.to_thread(run, *command(billing, "retire", "--force"))
    assert f"passed over: {CUSTOMER} ({acme.instance_id})" in out
    steps = billing.query("SELECT details FROM own_audit_log WHERE action LIKE 'keys%%'")
    assert [(s["details"]["forced"], s["details"]["passedOver"]) for s in steps] == [
        (True, [acme.instance_id])
    ] * 2
    before = holder.snapshot.held
    await holder.ask()
    assert holder.number == 3
    assert holder.snapshot.held.license_sequence > before.license_sequence
    assert holder.snapshot.held.seats_sequence > before.seats_sequence
    fresh = await acme.inventory([device(1)], [camera(1)])
    assert fresh["cameras"][0]["status"] == "issued"
    token = fresh["cameras"][0]["token"]
    assert signer(token) in holder.snapshot.key_set.keys
    assert signer(first["cameras"][0]["token"]) not in holder.snapshot.key_set.keys
    # Once: nothing is cut anew again.
    await holder.ask()
    assert (await acme.tokens(**holder.snapshot.held.model_dump(mode="json"))).status_code == 304
    held = holder.snapshot.held.model_dump(mode="json")
    again = await acme.inventory([device(1)], [camera(1)], held=held)
    assert again["cameras"][0]["status"] == "unchanged"


async def test_only_what_came_with_the_credential_and_was_signed_counts_as_seen(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing
) -> None:
    rotation.publish(billing.directory / "keys", root_of(billing), now=billing.clock.now)
    # A number that nobody signed yet, and a call without the credential.
    await acme.tokens(keySetNumber=2**53 - 1)
    params = {"keySetNumber": 2}
    assert (await billing.http.get("/api/v1/instance/tokens", params=params)).status_code == 403
    assert (await rollout(vendor))["seen"] == 0
    for held in ("heartbeat", "inventory"):
        billing.query("UPDATE instances SET seen_key_set_number = NULL")
        if held == "heartbeat":
            beat = {"version": "1", "clusterFingerprint": "cluster-1", "keySetNumber": 2}
            await acme.call("POST", "/api/v1/heartbeat", json=beat)
        else:
            await acme.inventory([device(1)], [], held={"keySetNumber": 2})
        assert (await rollout(vendor))["seen"] == 1
    # An older number that is said later, by a replica that lags, takes nothing back.
    await acme.tokens(keySetNumber=1)
    assert (await rollout(vendor))["seen"] == 1


async def test_a_site_behind_an_air_gap_is_counted_by_its_last_bundle(
    acme: Site, vendor: httpx.AsyncClient, billing: Billing, run: Any
) -> None:
    keys = billing.directory / "keys"
    old = rotation.read_state(keys).signing

    async def bundle(number: int, signed: frozenset[str]) -> None:
        async with billing.context.database.tenant(CUSTOMER) as connection:
            await rollout_rows.note_bundle(
                connection,
                CUSTOMER,
                acme.instance_id,
                number=number,
                key_ids=signed,
                expires_at=datetime.fromtimestamp(billing.clock.now + 300 * DAY, UTC),
            )

    await bundle(1, old)
    rotation.publish(keys, root_of(billing), now=billing.clock.now)
    rotation.switch(keys, now=billing.clock.now)
    found = await rollout(vendor)
    (row,) = found["needing"]
    assert (row["via"], row["keySetNumber"], row["seen"]) == ("bundle", 1, False)
    assert row["needsOldKeyUntil"] == pytest.approx(billing.clock.now + 307 * DAY, abs=5)
    assert "OldKeyNeeded" in await asyncio.to_thread(run, *command(billing, "retire"), fails=True)
    await bundle(2, rotation.read_state(keys).signing)
    found = await rollout(vendor)
    assert (found["seen"], found["needing"]) == (1, [])


async def test_the_set_on_the_server_holds_both_while_keys_overlap(
    acme: Site, billing: Billing
) -> None:
    """The plain JWKS and the signed set show the next keys before anything is signed with them."""
    before = await published(billing)
    rotation.publish(billing.directory / "keys", root_of(billing), now=billing.clock.now)
    both = await published(billing)
    assert before < both
    token = (await acme.tokens()).json()["license"]
    assert signer(token) in before
    roots = load_roots((billing.directory / "root" / "roots.json").read_bytes())
    document = json.dumps((await billing.http.get("/api/v1/keys")).json())
    assert set(verify_key_set(document, roots, now=billing.clock.now).keys) == both
    rotation.switch(billing.directory / "keys", now=billing.clock.now)
    await billing.buy(CUSTOMER, DEFAULT_TERMS, status="suspended")
    fresh = (await acme.tokens()).json()["license"]
    assert signer(fresh) in both - before
    verify(fresh, LicenseClaims, billing.keys, now=billing.clock.now)
