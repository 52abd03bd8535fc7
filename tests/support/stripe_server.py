"""A strict stand-in for Stripe: HTTP on loopback, state, idempotency keys, failures on demand.

Every call and every answer is checked against Stripe's published description. What the stand-in
itself gets wrong is in ``faults``; the fixture fails on any. ::

    from support.stripe_server import stripe_server
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

from support.stripe_account import RefusalError, StripeAccount
from support.stripe_description import API_VERSION, DescriptionError, description

API_KEY = "sk_test_standin"
WEBHOOK_SECRET = "whsec_first"
KEY_LIFE = 24 * 3600
Mode = Literal[
    "busy",  # 429 with Retry-After, nothing done
    "fault",  # 500, nothing done; kept under the key
    "fault_after",  # 500 though the work is done; kept under the key
    "reset",  # the connection is reset, nothing done
    "reset_after",  # the work is done, then the connection is reset
    "silent",  # the work is done, and no answer ever comes
]
MODES: tuple[Mode, ...] = ("busy", "fault", "fault_after", "reset", "reset_after")


@dataclass
class Answer:
    """What goes back, and what was asked for under the same key."""

    status: int
    body: Any
    asked: str = ""
    kept_at: float = 0.0


@dataclass
class StripeServer:
    """The stand-in.

    Attributes:
        calls: ``METHOD path`` of each call, in order.
        failures: what happens to the call of a number (from 0, counted in ``calls``).
        faults: what the stand-in did wrong.
    """

    account: StripeAccount
    url: str = ""
    calls: list[str] = field(default_factory=list)
    failures: dict[int, Mode] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    keys: dict[str, Answer] = field(default_factory=dict)
    fail_all: Mode | None = None
    fail_posts: Mode | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)
    delivered: int = 0

    def forget_customers(self) -> None:
        """Be as if no customer and no key had ever been there."""
        self.account.customers.clear()
        self.keys.clear()

    def fail(self, mode: Mode, *, after: int = 0) -> None:
        """Let a call fail: the next one, or the one after so many."""
        self.failures[len(self.calls) + after] = mode

    # ---- one call ------------------------------------------------------------------------------

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: str
    ) -> tuple[Answer, Mode | None, bool]:
        """Return the answer, how it fails on the way back, and whether it was kept before."""
        with self.lock:
            parts = urlsplit(target)
            number = len(self.calls)
            self.calls.append(f"{method} {parts.path}")
            always = (self.fail_posts if method == "POST" else None) or self.fail_all
            mode = self.failures.get(number, always)
            if mode == "busy":
                error = {"type": "invalid_request_error", "code": "rate_limit", "message": "busy"}
                return Answer(429, {"error": error}), None, False
            if mode == "reset":
                return Answer(500, None), "reset", False
            text = parts.query if method == "GET" else body
            answer, replayed = self._keyed(method, parts.path, text, headers, mode)
            back = "reset" if mode == "reset_after" else mode if mode == "silent" else None
            return answer, back, replayed

    def _keyed(
        self, method: str, path: str, text: str, headers: Mapping[str, str], mode: Mode | None
    ) -> tuple[Answer, bool]:
        now = self.account.clock()
        self.keys = {k: v for k, v in self.keys.items() if now - v.kept_at < KEY_LIFE}
        refused = self._refused(headers)
        if refused is not None:
            return refused, False
        key = headers.get("idempotency-key") if method == "POST" else None
        asked = f"{method} {path}\n{text}"
        if key is not None and key in self.keys:
            kept = self.keys[key]
            if kept.asked != asked:
                message = (
                    "Keys for idempotent requests can only be used with the same parameters they "
                    "were first used with."
                )
                error = {"type": "idempotency_error", "message": message}
                return Answer(400, {"error": error}), False
            return kept, True
        if mode == "fault":
            answer, kept_too = _fault(), True
        else:
            answer, kept_too = self._worked(method, path, text)
            if mode == "fault_after":
                answer, kept_too = _fault(), True
        if key is not None and kept_too:
            self.keys[key] = Answer(answer.status, answer.body, asked, now)
        return answer, False

    def _refused(self, headers: Mapping[str, str]) -> Answer | None:
        if headers.get("authorization") != f"Bearer {API_KEY}":
            error = {"type": "invalid_request_error", "message": "Invalid API Key provided"}
            return Answer(401, {"error": error})
        if headers.get("stripe-version") != API_VERSION:
            error = {"type": "invalid_request_error", "message": f"send {API_VERSION}"}
            return Answer(400, {"error": error})
        if len(headers.get("idempotency-key", "")) > 255:
            error = {"type": "invalid_request_error", "message": "the key is too long"}
            return Answer(400, {"error": error})
        return None

    def _worked(self, method: str, path: str, text: str) -> tuple[Answer, bool]:
        """Return the answer, and whether Stripe would keep it under the key."""
        known = description()
        try:
            template, parts = known.find(method, path)
        except DescriptionError as error:
            body = {"error": {"type": "invalid_request_error", "message": str(error)}}
            return Answer(404, body), False
        status = 200
        kept = True
        try:
            given = known.parameters(method, template, text)
            found = self._perform(method, template, parts, given)
        except DescriptionError as error:
            # Parameters that are wrong are refused before the work begins: not kept.
            refusal = RefusalError(str(error), param=error.param)
            status, found, kept = refusal.status, refusal.body, False
        except RefusalError as error:
            status, found = error.status, error.body
        except Exception as error:  # noqa: BLE001 - a fault of the stand-in's own fails the test
            self.faults.append(f"{method} {path}: {type(error).__name__}: {error}")
            return _fault(), False
        found = json.loads(json.dumps(found))
        try:
            known.check_answer(method, template, status, found)
        except DescriptionError as error:
            self.faults.append(f"{method} {path}: {error}")
        return Answer(status, found), kept

    def _perform(
        self, method: str, template: str, parts: Sequence[str], given: Mapping[str, Any]
    ) -> Any:
        account = self.account
        work: dict[str, Callable[[], Any]] = {
            "POST /v1/customers": lambda: account.create_customer(given),
            "GET /v1/customers": lambda: _page(
                [
                    each
                    for each in reversed(account.customers.values())
                    if each["created"] >= given.get("created", {}).get("gte", 0)
                    and "deleted" not in each
                ],
                given,
                "/v1/customers",
            ),
            "GET /v1/customers/search": lambda: _found(account.search_customers(given["query"])),
            "GET /v1/customers/{customer}": lambda: account.customer(parts[0]),
            "POST /v1/customers/{customer}": lambda: account.update_customer(parts[0], given),
            "POST /v1/invoices": lambda: account.create_invoice(given),
            "GET /v1/invoices": lambda: _page(
                [
                    each
                    for each in reversed(account.invoices.values())
                    if given.get("customer") in {None, each["customer"]}
                ],
                given,
                "/v1/invoices",
            ),
            "GET /v1/invoices/{invoice}": lambda: account.invoice(parts[0]),
            "POST /v1/invoices/{invoice}": lambda: account.update_invoice(parts[0], given),
            "DELETE /v1/invoices/{invoice}": lambda: account.delete_invoice(parts[0]),
            "GET /v1/invoices/{invoice}/lines": lambda: _page(
                account.lines[account.invoice(parts[0])["id"]],
                given,
                f"/v1/invoices/{parts[0]}/lines",
            ),
            "POST /v1/invoices/{invoice}/finalize": lambda: account.finalize(parts[0], given),
            "POST /v1/invoices/{invoice}/void": lambda: account.void(parts[0]),
            "POST /v1/invoiceitems": lambda: account.create_item(given),
            "GET /v1/events": lambda: _page(self._events(given), given, "/v1/events"),
        }
        chosen = work.get(f"{method} {template}")
        if chosen is None:
            raise NotImplementedError(f"{method} {template} is not in the stand-in")
        return chosen()

    def _events(self, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        since = given.get("created", {}).get("gte", 0)
        oldest = max(since, self.account.now - 30 * 86_400)
        return [
            each
            for each in reversed(self.account.events)
            if each["created"] >= oldest and each["type"] in given.get("types", [each["type"]])
        ]

    # ---- webhooks ------------------------------------------------------------------------------

    def deliveries(
        self,
        *,
        secret: str = WEBHOOK_SECRET,
        order: random.Random | None = None,
        twice: bool = False,
    ) -> list[tuple[bytes, dict[str, str]]]:
        """Return body and headers of what has not been delivered yet.

        Args:
            secret: signs them, with the time of now.
            order: shuffles them.
            twice: each comes two times.
        """
        for event in self.account.events:
            description().check_object("event", event)
        events = self.account.events[self.delivered :]
        self.delivered = len(self.account.events)
        events = events * (2 if twice else 1)
        if order is not None:
            order.shuffle(events)
        return [signed(json.dumps(each).encode(), [secret], self.account.now) for each in events]


def signed(body: bytes, secrets: Sequence[str], at: int) -> tuple[bytes, dict[str, str]]:
    """Return a body with its ``Stripe-Signature``, one for each secret."""
    made = [
        hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        for secret in secrets
    ]
    value = ",".join([f"t={at}", *(f"v1={each}" for each in made), "v0=ignored"])
    return body, {"Stripe-Signature": value, "Content-Type": "application/json"}


def _fault() -> Answer:
    return Answer(500, {"error": {"type": "api_error", "message": "An unknown error occurred"}})


def _found(rows: Sequence[Any]) -> dict[str, Any]:
    return {
        "object": "search_result",
        "url": "/v1/customers/search",
        "has_more": False,
        "data": list(rows),
        "next_page": None,
    }


def _page(rows: Sequence[Any], given: Mapping[str, Any], url: str) -> dict[str, Any]:
    limit = given.get("limit", 10)
    if not 1 <= limit <= 100:
        raise RefusalError("This value must be between 1 and 100.", param="limit")
    start = 0
    after = given.get("starting_after")
    if after is not None:
        places = [at for at, row in enumerate(rows) if row["id"] == after]
        if not places:
            raise RefusalError(f"No such object: '{after}'", param="starting_after")
        start = places[0] + 1
    page = list(rows[start : start + limit])
    return {"object": "list", "url": url, "has_more": start + limit < len(rows), "data": page}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without it, Nagle and a delayed acknowledgement cost 40 ms a call.
    disable_nagle_algorithm = True
    standin: StripeServer

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer, mode, replayed = self.standin.answer(self.command, self.path, headers, body)
        if mode == "silent":
            self.standin.ended.wait(30)
        if mode is not None:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
            return
        payload = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("Request-Id", f"req_{len(self.standin.calls)}")
        if answer.status == 429:
            self.send_header("Retry-After", "7")
        if replayed:
            self.send_header("Idempotent-Replayed", "true")
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - the library's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    standin: StripeServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error; all else fails the test."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.standin.faults.append(f"{type(error).__name__}: {error}")


@contextmanager
def stripe_server(clock: Callable[[], float], *, tax_percent: int = 0) -> Iterator[StripeServer]:
    """Run a stand-in of its own; fails when it did something wrong itself."""
    description()
    standin = StripeServer(StripeAccount(clock, tax_percent=tax_percent))
    handler = type("Handler", (_Handler,), {"standin": standin})
    server = _Quiet(("127.0.0.1", 0), handler)
    server.standin = standin
    standin.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield standin
    finally:
        standin.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
    if standin.faults:
        raise AssertionError(f"the stand-in did wrong: {standin.faults}")
