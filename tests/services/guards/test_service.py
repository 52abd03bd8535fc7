"""The example service, and programs without an event loop."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from brinkbyte.guards import (
    EntitlementEnforcementError,
    context,
    current_guards,
    guards_in_thread,
    require_entitlement,
)
from brinkbyte.license.modes import UPGRADE_URL
from services.guards.conftest import FREE, TOKENS, guard_settings
from support.instance_api import eventually
from support.instance_site import REPOSITORY, Site
from support.licensing import vendor

pytestmark = pytest.mark.services
EXAMPLE = REPOSITORY / "examples" / "guarded-service" / "app.py"


def example() -> FastAPI:
    spec = importlib.util.spec_from_file_location("guarded_service", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app: FastAPI = module.app
    return app


@pytest.fixture
async def http(site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """The example as it is, with the settings and roots of this test."""
    site.install(quotas={"vision.llm_tokens": 100, "vision.agent_executions": 1})
    for name, value in site.environment().items():
        if name.startswith("BRINKBYTE_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(context, "trusted_roots", lambda: vendor().roots)
    app = example()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://example") as client,
    ):
        yield client


def test_the_example_is_small() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 80


async def test_the_example_lets_in_and_refuses(http: httpx.AsyncClient, site: Site) -> None:
    assert (await http.get("/health")).status_code == 200
    exported = (await http.post("/exports")).json()
    assert exported.pop("event")
    assert exported == {"exported": "everything"}
    assert (await http.post("/devices")).json() == {"added": "one"}
    assert (await http.post("/reports")).json() == {"report": "written"}
    second = await http.post("/reports")
    assert second.status_code == 429
    assert int(second.headers["retry-after"]) > 0
    body = second.json()
    assert body["entitlement"] == "vision.agent_executions"
    assert (body["used"], body["limit"], body["remaining"]) == (1, 1, 0)
    assert body["upgradeUrl"] == UPGRADE_URL
    headers = {"Idempotency-Key": "q-1"}
    for _ in range(2):
        answer = await http.post("/questions", params={"text": "x" * 200}, headers=headers)
        assert answer.json() == {"answer": "42", "remaining": 50, "warning": False}
    refused = await http.post("/questions", params={"text": "x" * 300})
    assert (refused.status_code, refused.json()["used"]) == (429, 50)


async def test_the_example_refuses_everything_without_a_license(
    http: httpx.AsyncClient, site: Site
) -> None:
    site.install(sequence=8, subscription={"status": "suspended", "currentPeriodEnd": None})
    await eventually(lambda: not current_guards().subscription().allowed)
    answer = await http.post("/exports")
    assert (answer.status_code, answer.json()["reason"]) == (403, "SubscriptionSuspended")
    assert answer.json()["entitlement"] == "subscription"


def test_a_program_without_an_event_loop(site: Site) -> None:
    site.install(**FREE)

    @require_entitlement(TOKENS, quantity=lambda text, **_: len(text))
    def tell(text: str, **_: Any) -> str:
        return text

    with guards_in_thread(guard_settings(site), roots=vendor().roots):
        assert tell("0123456789") == "0123456789"
        assert tell("01", loud=True) == "01"
        with pytest.raises(EntitlementEnforcementError) as caught:
            tell("0")
    assert (caught.value.answer.used, caught.value.answer.limit) == (12, 10)


async def test_async_callers_of_another_loop(site: Site) -> None:
    site.install(**FREE)

    @require_entitlement(TOKENS)
    async def tell() -> str:
        return "told"

    with guards_in_thread(guard_settings(site), roots=vendor().roots):
        assert await tell() == "told"
