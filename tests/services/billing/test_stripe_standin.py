"""The stand-in for Stripe refuses what Stripe refuses, and keeps what Stripe keeps."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from support.stripe_description import DescriptionError, decoded, description
from support.stripe_server import API_KEY, API_VERSION, StripeServer, stripe_server

NOW = 1_800_000_000


@dataclass
class Hand:
    """Calls the stand-in by hand, and moves its clock."""

    http: httpx.Client
    now: float = NOW

    def clock(self) -> float:
        return self.now

    def post(self, path: str, key: str | None = None, **fields: Any) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        data = {name.replace("__", "[").replace("_E", "]"): v for name, v in fields.items()}
        return self.http.post(f"/v1/{path}", data=data, headers=headers)

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(f"/v1/{path}", params=query)

    def customer(self) -> str:
        return str(self.post("customers", email="a@b.example").json()["id"])

    def draft(self, customer: str, **more: Any) -> str:
        fields = {
            "customer": customer,
            "currency": "usd",
            "collection_method": "send_invoice",
            "due_date": str(int(self.now) + 86_400),
            **more,
        }
        answer = self.post("invoices", **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def item(self, customer: str, invoice: str, amount: str, **more: Any) -> httpx.Response:
        fields = {"customer": customer, "invoice": invoice, "currency": "usd", **more}
        return self.post("invoiceitems", amount=amount, **fields)


@pytest.fixture
def hand() -> Iterator[Hand]:
    with httpx.Client() as http:
        yield Hand(http)


@pytest.fixture
def stripe(hand: Hand) -> Iterator[StripeServer]:
    with stripe_server(hand.clock) as server:
        hand.http.base_url = httpx.URL(server.url)
        hand.http.headers.update(
            {"Authorization": f"Bearer {API_KEY}", "Stripe-Version": API_VERSION}
        )
        yield server


def refused(answer: httpx.Response, status: int, part: str) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, part in json.dumps(error)) == (status, True), answer.text
    return error


def test_calls_that_the_description_lacks(stripe: StripeServer, hand: Hand) -> None:
    refused(hand.post("nothing"), 404, "Unrecognized request URL")
    refused(hand.post("customers", colour="red"), 400, "colour")
    refused(hand.post("customers", metadata__a_E__b_E="x"), 400, "metadata")
    customer = hand.customer()
    refused(hand.post("invoices", customer=customer, auto_advance="perhaps"), 400, "auto_advance")
    refused(
        hand.post("invoices", customer=customer, automatic_tax__on_E="true"), 400, "automatic_tax"
    )
    refused(hand.get("invoices", limit="many"), 400, "limit")
    refused(hand.get("invoices", limit="101"), 400, "between 1 and 100")
    refused(hand.get("invoices", starting_after="in_x"), 400, "in_x")
    assert stripe.account.invoices == {}


def test_keys_and_versions(stripe: StripeServer, hand: Hand) -> None:
    hand.http.headers["Authorization"] = "Bearer sk_test_other"
    refused(hand.get("invoices"), 401, "Invalid API Key")
    hand.http.headers["Authorization"] = f"Bearer {API_KEY}"
    hand.http.headers["Stripe-Version"] = "2020-08-27"
    refused(hand.get("invoices"), 400, API_VERSION)


@pytest.mark.parametrize("amount", ["10.5", "1e3", "ten", ""])
def test_amounts_that_are_no_whole_cents(stripe: StripeServer, hand: Hand, amount: str) -> None:
    customer = hand.customer()
    draft = hand.draft(customer)
    refused(hand.item(customer, draft, amount), 400, "amount")
    assert hand.get(f"invoices/{draft}/lines").json()["data"] == []


def test_item_251(stripe: StripeServer, hand: Hand) -> None:
    customer = hand.customer()
    draft = hand.draft(customer)
    for _ in range(250):
        stripe.account.create_item(
            {"customer": customer, "invoice": draft, "currency": "usd", "amount": 1}
        )
    refused(hand.item(customer, draft, "1"), 400, "at most 250")
    assert hand.get(f"invoices/{draft}").json()["total"] == 250


def test_items_of_another_currency_or_customer(stripe: StripeServer, hand: Hand) -> None:
    customer, other = hand.customer(), hand.customer()
    draft = hand.draft(customer)
    refused(hand.item(customer, draft, "1", currency="eur"), 400, "currency")
    refused(hand.item(other, draft, "1"), 400, "customer")


def test_final_invoices_do_not_change(stripe: StripeServer, hand: Hand) -> None:
    customer = hand.customer()
    draft = hand.draft(customer)
    refused(hand.post(f"invoices/{draft}/finalize"), 400, "no items")
    assert hand.item(customer, draft, "5").status_code == 200
    refused(hand.post(f"invoices/{draft}/finalize", colour="red"), 400, "colour")
    refused(hand.post(f"invoices/{draft}/void"), 400, "only void")
    assert hand.post(f"invoices/{draft}/finalize").json()["status"] == "open"
    refused(hand.post(f"invoices/{draft}/finalize"), 400, "no longer editable")
    refused(hand.item(customer, draft, "5"), 400, "no longer editable")
    refused(hand.post(f"invoices/{draft}", description="x"), 400, "no longer editable")
    refused(hand.http.delete(f"/v1/invoices/{draft}"), 400, "no longer editable")
    assert hand.get(f"invoices/{draft}").json()["total"] == 5
    stripe.account.pay(draft)
    refused(hand.post(f"invoices/{draft}/void"), 400, "only void")


def test_invoices_that_cannot_be_sent(stripe: StripeServer, hand: Hand) -> None:
    nameless = str(hand.post("customers").json()["id"])
    fields = {"currency": "usd", "collection_method": "send_invoice"}
    due = str(NOW + 100)
    refused(hand.post("invoices", customer=nameless, due_date=due, **fields), 400, "Missing email")
    customer = hand.customer()
    refused(hand.post("invoices", customer=customer, **fields), 400, "due_date")
    refused(
        hand.post("invoices", customer=customer, due_date=str(NOW), **fields), 400, "in the future"
    )
    refused(hand.post("invoices", customer="cus_x", due_date=due, **fields), 400, "customer")
    refused(hand.post("customers", email="nonsense"), 400, "email_invalid")


def test_idempotency_keys_are_kept_for_a_day(stripe: StripeServer, hand: Hand) -> None:
    first = hand.post("customers", "k", email="a@b.example")
    again = hand.post("customers", "k", email="a@b.example")
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    error = refused(hand.post("customers", "k", email="c@d.example"), 400, "same parameters")
    assert error["type"] == "idempotency_error"
    hand.now += 24 * 3600 - 1
    assert hand.post("customers", "k", email="a@b.example").json() == first.json()
    hand.now += 2
    assert hand.post("customers", "k", email="c@d.example").json()["id"] != first.json()["id"]


def test_faults_are_kept_and_wrong_parameters_are_not(stripe: StripeServer, hand: Hand) -> None:
    refused(hand.post("customers", "k", colour="red"), 400, "colour")
    stripe.fail("fault_after")
    assert hand.post("customers", "k").status_code == 500
    assert len(stripe.account.customers) == 1
    again = hand.post("customers", "k")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (500, "true")
    assert len(stripe.account.customers) == 1


def test_connections_are_reset_before_or_after_the_work(stripe: StripeServer, hand: Hand) -> None:
    for mode, made in (("reset", 0), ("reset_after", 1)):
        stripe.fail(mode)  # type: ignore[arg-type]  # two of them
        with pytest.raises(httpx.TransportError):
            hand.post("customers")
        assert len(stripe.account.customers) == made
    stripe.fail("busy")
    answer = hand.post("customers")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert len(stripe.account.customers) == 1


def test_search_lags_and_lists_do_not(stripe: StripeServer, hand: Hand) -> None:
    hand.post("customers", metadata__key_E="it's")
    query = "metadata['key']:'it\\'s'"
    assert hand.get("customers/search", query=query).json()["data"] == []
    hand.now += 61
    assert len(hand.get("customers/search", query=query).json()["data"]) == 1
    refused(hand.get("customers/search", query="anything"), 400, "parse")
    customer = hand.customer()
    drafts = [hand.draft(customer) for _ in range(12)]
    first = hand.get("invoices", customer=customer).json()
    assert [each["id"] for each in first["data"]] == drafts[:1:-1]
    assert first["has_more"]
    rest = hand.get("invoices", customer=customer, starting_after=drafts[2]).json()
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (drafts[1::-1], False)


def test_its_own_mistakes_fail_the_test() -> None:
    def wrong() -> None:
        with httpx.Client() as http, stripe_server(lambda: NOW) as server:
            hand = Hand(http)
            http.base_url = httpx.URL(server.url)
            http.headers.update(
                {"Authorization": f"Bearer {API_KEY}", "Stripe-Version": API_VERSION}
            )
            customer = hand.customer()
            server.account.customers[customer]["balance"] = "much"
            assert hand.get(f"customers/{customer}").status_code == 200

    with pytest.raises(AssertionError, match="balance"):
        wrong()


def test_deliveries_are_signed_and_come_twice_and_in_any_order(
    stripe: StripeServer, hand: Hand
) -> None:
    hand.draft(hand.customer())
    made = [event["id"] for event in stripe.account.events]
    sent = [
        json.loads(body)["id"] for body, _ in stripe.deliveries(order=random.Random(3), twice=True)
    ]
    assert sorted(sent) == sorted(made * 2)
    assert sent != made * 2
    assert stripe.deliveries() == []


@pytest.mark.parametrize("text", ["a[=1", "a=1&a[b]=2", "a[b]=1&a[b]=2", "[a]=1"])
def test_forms_that_are_not_well_formed(text: str) -> None:
    with pytest.raises(DescriptionError):
        decoded(text)


def test_forms_with_nested_keys() -> None:
    assert decoded("a[b][0][c]=1&a[b][1][c]=&d[]=x&d[]=y") == {
        "a": {"b": [{"c": "1"}, {"c": ""}]},
        "d": ["x", "y"],
    }


def test_objects_with_unknown_fields_are_refused() -> None:
    with pytest.raises(DescriptionError, match="colour"):
        description().check_object(
            "deleted_customer",
            {"id": "cus_1", "object": "customer", "deleted": True, "colour": "red"},
        )
