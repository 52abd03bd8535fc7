"""The billing client: what it sends, when it tries again, what it makes of an answer."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from brinkbyte.client import (
    BillingClient,
    BillingRefusedError,
    BillingUnavailableError,
    BillingUnreachableError,
    RetryPolicy,
)
from brinkbyte.client.retry import parse_retry_after
from brinkbyte.client.transport import check_url
from brinkbyte.kit.errors import BrinkByteError, InvalidInputError, PermanentError, TemporaryError
from brinkbyte.license.wire import (
    EnrollmentRequest,
    EntitlementCheck,
    Heartbeat,
    Held,
    InstanceKeyRequest,
    InventoryRequest,
    ValidateRequest,
)
from brinkbyte.metering.batches import NO_HASH, seal
from support.licensing import INSTANCE, vendor
from unit.metering.test_events import event

pytestmark = pytest.mark.unit

URL = "https://billing.test"
SECRET = "bbi_0123456789abcdef"
Answer = httpx.Response | Exception


class Api:
    """Answers in turn; the last answer stays. Remembers requests and waits."""

    def __init__(self, *answers: Answer, credential: Callable[[], str] = lambda: SECRET) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []
        self.client = BillingClient(
            URL,
            credential,
            retry=RetryPolicy(random=lambda: 0.5),
            sleep=self._sleep,
            transport=httpx.MockTransport(self._answer),
        )

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def ok(body: Any = None, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


def problem(status: int, reason: str, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    body = {"status": status, "reason": reason, "detail": f"{reason}: do this", **more}
    return httpx.Response(
        status, json=body, headers={"content-type": "application/problem+json", **headers}
    )


HEAD = {"serverTime": 5, "epoch": None, "batchNo": 0, "chainHash": None}
USE = {"used": 1, "limit": 2}
TOKENS = {"serverTime": 5, "license": "jws"}
ENROLL = EnrollmentRequest(
    token="t" * 16,
    customer_id="acme",
    public_key=vendor().instance_key.jwk,
    proof="p",
    name="ns.acme",
    uid="u",
    cluster_fingerprint="c",
    version="0.1.0",
)
BATCH = seal(
    [event()],
    vendor().instance_key,
    instance=INSTANCE,
    epoch="01890000-0000-7000-8000-000000000001",
    batch_no=1,
    previous_hash=NO_HASH,
)


@pytest.mark.parametrize(
    ("call", "method", "path", "answer", "authorized"),
    [
        (lambda c: c.keys(), "GET", "/api/v1/keys", {"keys": []}, False),
        (lambda c: c.health(), "GET", "/health", {}, False),
        (
            lambda c: c.enroll(ENROLL),
            "POST",
            "/api/v1/enrollments",
            {
                "instanceId": "i",
                "customerId": "acme",
                "credential": "x",
                "credentialExpiresAt": 9,
                "keySet": {},
            },
            False,
        ),
        (
            lambda c: c.rotate_credential(),
            "POST",
            "/api/v1/instance/credential",
            {"credential": "x", "credentialExpiresAt": 9},
            True,
        ),
        (
            lambda c: c.register_key(
                InstanceKeyRequest(public_key=vendor().instance_key.jwk, proof="p")
            ),
            "PUT",
            "/api/v1/instance/key",
            None,
            True,
        ),
        (
            lambda c: c.put_inventory(InventoryRequest()),
            "PUT",
            "/api/v1/inventory",
            {**TOKENS, "revision": 1, "deviceUse": USE, "cameraUse": USE},
            True,
        ),
        (lambda c: c.end_instance(), "DELETE", "/api/v1/instance", None, True),
        (lambda c: c.tokens(Held()), "GET", "/api/v1/instance/tokens", TOKENS, True),
        (
            lambda c: c.heartbeat(Heartbeat(version="1", cluster_fingerprint="c")),
            "POST",
            "/api/v1/heartbeat",
            {"serverTime": 5},
            True,
        ),
        (
            lambda c: c.validate_license(
                ValidateRequest(camera_id="c", tenant_id="t", device_id="d")
            ),
            "POST",
            "/api/v1/licenses/validate",
            {
                "is_valid": True,
                "license_mode": "base",
                "enabled_growth_packs": [],
                "valid_until": None,
                "cameras_allowed": 1,
            },
            True,
        ),
        (
            lambda c: c.check_entitlement(EntitlementCheck(kind="model", name="person")),
            "POST",
            "/api/v1/entitlements/check",
            {"allowed": True},
            True,
        ),
        (lambda c: c.usage_head(), "GET", "/api/v1/usage/head", HEAD, True),
        (lambda c: c.send_batch(BATCH), "POST", "/api/v1/usage/batch", {"receipt": "r"}, True),
    ],
)
async def test_every_call_goes_where_the_table_says(
    call: Callable[[BillingClient], Any],
    method: str,
    path: str,
    answer: Any,
    authorized: bool,
) -> None:
    api = Api(ok(answer) if answer is not None else httpx.Response(204))
    async with api.client as client:
        await call(client)
    (request,) = api.requests
    assert (request.method, request.url.path) == (method, path)
    assert request.headers.get("authorization") == (f"Bearer {SECRET}" if authorized else None)
    assert request.headers["user-agent"].startswith("brinkbyte/")


async def test_the_batch_goes_out_byte_for_byte() -> None:
    api = Api(ok({"receipt": "r"}))
    assert (await api.client.send_batch(BATCH)).receipt == "r"
    assert api.requests[0].content == BATCH.to_wire()
    assert api.requests[0].headers["content-type"] == "application/json"


async def test_a_request_in_the_old_devices_form() -> None:
    api = Api(httpx.Response(500))
    with pytest.raises(TemporaryError):
        await api.client.validate_license(
            ValidateRequest(camera_id="c", tenant_id="t", device_id="d")
        )
    assert json.loads(api.requests[0].content) == {
        "camera_id": "c",
        "tenant_id": "t",
        "device_id": "d",
    }


async def test_held_sequences_are_the_query_and_304_is_nothing_new() -> None:
    api = Api(httpx.Response(304))
    assert await api.client.tokens(Held(license_sequence=7)) is None
    assert dict(api.requests[0].url.params) == {
        "licenseSequence": "7",
        "seatsSequence": "0",
        "revocationSequence": "0",
        "keySetNumber": "0",
    }


async def test_three_retries_then_the_line_counts_as_down() -> None:
    api = Api(httpx.ConnectError("no route"))
    with pytest.raises(BillingUnreachableError, match=r"billing\.test cannot be reached") as failed:
        await api.client.usage_head()
    assert failed.value.reason == "BillingUnreachable"
    assert api.waits == pytest.approx([0.1, 0.2, 0.4])
    assert len(api.requests) == 4


async def test_a_line_that_swallows_everything_is_tried_twice() -> None:
    api = Api(httpx.ConnectTimeout("nothing came back"))
    with pytest.raises(BillingUnreachableError):
        await api.client.usage_head()
    assert len(api.requests) == 2
    assert api.waits == pytest.approx([0.1])
    # Such a one between others counts by itself.
    api = Api(httpx.ConnectTimeout("x"), httpx.ConnectError("y"), httpx.ReadTimeout("z"), ok(HEAD))
    assert (await api.client.usage_head()).server_time == 5


async def test_only_long_calls_have_long_timeouts_and_none_to_connect() -> None:
    api = Api(
        ok({**TOKENS, "revision": 1, "deviceUse": USE, "cameraUse": USE}),
        ok({"receipt": "r"}),
        ok(HEAD),
    )
    await api.client.put_inventory(InventoryRequest())
    await api.client.send_batch(BATCH)
    await api.client.usage_head()
    timeouts = [request.extensions["timeout"] for request in api.requests]
    assert [each["read"] for each in timeouts] == [30.0, 30.0, 5.0]
    assert {(each["connect"], each["pool"]) for each in timeouts} == {(5.0, 5.0)}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
async def test_what_may_pass_is_tried_again_until_it_does(status: int) -> None:
    api = Api(httpx.Response(status), httpx.ReadTimeout("slow"), ok(HEAD))
    assert (await api.client.usage_head()).server_time == 5
    assert api.waits == pytest.approx([0.1, 0.2])


async def test_retry_after_is_honoured_within_bounds() -> None:
    api = Api(problem(429, "Behind", headers={"retry-after": "3"}), ok(HEAD))
    await api.client.usage_head()
    assert api.waits == [3.0]


async def test_a_long_retry_after_is_handed_to_the_caller_at_once() -> None:
    api = Api(problem(429, "Behind", headers={"retry-after": "60"}, queued=9))
    with pytest.raises(BillingUnavailableError) as failed:
        await api.client.usage_head()
    assert api.waits == []
    assert (failed.value.reason, failed.value.retry_after) == ("Behind", 60.0)
    assert failed.value.details == {"queued": 9}
    assert failed.value.status == 429


@pytest.mark.parametrize(
    "header", [None, "", "soon", "-3", "1.5", "٣", "9" * 100, "Mon, 99 Foo 2020 00:00:00 GMT"]
)
def test_an_unreadable_retry_after_counts_as_none(header: str | None) -> None:
    assert parse_retry_after(header, datetime.now(UTC)) is None


def test_retry_after_may_be_a_date() -> None:
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert parse_retry_after(format_datetime(now + timedelta(seconds=7), usegmt=True), now) == 7.0
    assert parse_retry_after(format_datetime(now - timedelta(days=1)), now) == 0.0
    assert parse_retry_after("Fri, 20 Nov 2026 12:00:02 -0000", now) == 2.0


@pytest.mark.parametrize("value", [0.0, 0.25, 0.999])
def test_delays_have_jitter(value: float) -> None:
    policy = RetryPolicy(random=lambda: value)
    waits = [policy.wait(attempt, None) or 0.0 for attempt in range(3)]
    for wait, delay in zip(waits, (0.1, 0.2, 0.4), strict=True):
        assert 0.75 * delay <= wait <= 1.25 * delay
    assert policy.wait(3, None) is None
    assert 0.075 <= (RetryPolicy().wait(0, None) or 0.0) <= 0.125


async def test_a_refusal_is_not_tried_again_and_carries_everything() -> None:
    api = Api(problem(409, "Gap", missing=[3, 4], title="Gap", instance="x"))
    with pytest.raises(BillingRefusedError, match="do this") as refused:
        await api.client.send_batch(BATCH)
    assert (refused.value.status, refused.value.reason) == (409, "Gap")
    assert refused.value.details == {"missing": [3, 4]}
    assert isinstance(refused.value, PermanentError)
    assert api.waits == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>Log in to the hotel</html>"),
        httpx.Response(200, json=["a list"]),
        httpx.Response(200, json={"serverTime": "noon"}),
        httpx.Response(302, headers={"location": "https://elsewhere.test"}),
        httpx.Response(403, text="blocked by your administrator"),
        httpx.Response(403, json={"detail": "no reason"}),
        httpx.Response(403, text="[1", headers={"content-type": "application/json"}),
        httpx.Response(403, json=["x"]),
    ],
)
async def test_whatever_does_not_speak_our_protocol_is_told_apart(answer: httpx.Response) -> None:
    api = Api(answer)
    with pytest.raises(BillingRefusedError, match=r"check billing\.url") as refused:
        await api.client.usage_head()
    assert refused.value.reason == "UnexpectedAnswer"


async def test_a_key_set_that_is_no_object_is_refused() -> None:
    for answer in (ok([1]), httpx.Response(200, text="{")):
        with pytest.raises(BillingRefusedError):
            await Api(answer).client.keys()


async def test_members_of_a_newer_server_are_passed_over() -> None:
    api = Api(ok({**HEAD, "somethingNew": [1]}))
    assert (await api.client.usage_head()).batch_no == 0


async def test_a_credential_rotated_meanwhile_is_used_at_once() -> None:
    secrets = ["old", "new", "new"]
    api = Api(problem(401, "Unauthorized"), ok(HEAD), credential=lambda: secrets.pop(0))
    await api.client.usage_head()
    assert [r.headers["authorization"] for r in api.requests] == ["Bearer old", "Bearer new"]
    assert api.waits == []


async def test_a_wrong_credential_is_a_refusal() -> None:
    api = Api(problem(401, "CredentialRevoked"))
    with pytest.raises(BillingRefusedError) as refused:
        await api.client.usage_head()
    assert refused.value.reason == "CredentialRevoked"
    assert len(api.requests) == 1


@pytest.mark.parametrize("secret", ["", "two words", "line\nbreak", "schlüssel"])
async def test_a_broken_credential_is_named_without_being_shown(secret: str) -> None:
    api = Api(ok(HEAD), credential=lambda: secret)
    with pytest.raises(PermanentError) as refused:
        await api.client.usage_head()
    assert refused.value.reason == "MalformedCredential"
    assert not secret or secret not in refused.value.message
    assert api.requests == []


async def test_a_credential_that_is_not_there_yet_is_the_callers_error() -> None:
    def missing() -> str:
        raise TemporaryError("wait", reason="NotEnrolled", retry_after=60)

    with pytest.raises(TemporaryError, match="wait"):
        await Api(ok(HEAD), credential=missing).client.usage_head()


async def test_a_client_without_credential_makes_only_open_calls() -> None:
    client = BillingClient(URL, transport=httpx.MockTransport(lambda _: ok({"keys": []})))
    assert await client.keys() == {"keys": []}
    with pytest.raises(RuntimeError, match="without a credential"):
        await client.usage_head()


@pytest.mark.parametrize(
    "answer", [httpx.ConnectError(f"x {SECRET}"), problem(403, "No"), httpx.Response(500)]
)
async def test_no_secret_in_logs(answer: Answer, capfd: pytest.CaptureFixture[str]) -> None:
    api = Api(answer)
    with pytest.raises(BrinkByteError):
        await api.client.heartbeat(Heartbeat(version="1", cluster_fingerprint="c"))
    captured = capfd.readouterr()
    assert SECRET not in captured.out + captured.err


@pytest.mark.parametrize(
    "url",
    [
        "https://billing.example.com",
        "https://billing.example.com:8443/base",
        "http://127.0.0.1:8000",
        "http://127.8.9.1",
        "http://[::1]:8000",
        "http://localhost:8000",
    ],
)
def test_secrets_go_over_https_or_stay_on_this_machine(url: str) -> None:
    assert str(check_url(url)).startswith(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://billing.example.com", "InsecureBillingUrl"),
        ("http://10.0.0.1", "InsecureBillingUrl"),
        ("http://localhost.example.com", "InsecureBillingUrl"),
        ("http://127.0.0.1.example.com", "InsecureBillingUrl"),
        ("ftp://127.0.0.1", "InsecureBillingUrl"),
        ("", "InvalidBillingUrl"),
        ("billing.example.com", "InvalidBillingUrl"),
        ("https://", "InvalidBillingUrl"),
        ("https://user:pw@billing.example.com", "InvalidBillingUrl"),
        ("https://billing.example.com?x=1", "InvalidBillingUrl"),
        ("https://billing.example.com#x", "InvalidBillingUrl"),
        ("https://[::1", "InvalidBillingUrl"),
    ],
)
def test_any_other_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        BillingClient(url)
    assert refused.value.reason == reason
    assert "pw" not in refused.value.message


def test_a_broken_ca_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("not a certificate")
    for name in ("ca.crt", "missing.crt"):
        with pytest.raises(InvalidInputError, match="caSecretRef"):
            BillingClient(URL, ca_file=tmp_path / name)


async def test_an_untrusted_certificate_points_to_the_ca() -> None:
    error = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    with pytest.raises(BillingUnreachableError, match="caSecretRef"):
        await Api(error).client.usage_head()


async def test_a_changed_ca_file_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []
    real = ssl.create_default_context

    def record(*, cafile: Path | None = None) -> ssl.SSLContext:
        opened.append(cafile.read_bytes() if cafile else b"")
        return real()

    monkeypatch.setattr(ssl, "create_default_context", record)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(b"one")
    client = BillingClient(
        URL, ca_file=ca, transport=httpx.MockTransport(lambda _: ok({"keys": []}))
    )
    await client.keys()
    ca.write_bytes(b"two")
    await client.keys()
    await client.keys()
    ca.unlink()
    await client.keys()
    await client.aclose()
    assert opened == [b"one", b"two"]
