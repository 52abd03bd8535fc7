from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import Depends, FastAPI

from brinkbyte.catalog import load_catalog
from brinkbyte.guards import (
    BillingProviderError,
    EntitlementEnforcementError,
    Guard,
    Guards,
    check_device_limit,
    context,
    install_problem_handlers,
    require_active_subscription,
    require_entitlement,
    require_feature,
)
from brinkbyte.guards.answers import Answer
from brinkbyte.guards.enforcer import EntitlementEnforcer
from brinkbyte.guards.license import FollowedLicense
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.pools import Pool
from brinkbyte.license.documents import Snapshot, Verifier
from brinkbyte.license.modes import UPGRADE_URL, LicenseMode
from brinkbyte.store.directories import WatchedDirectory
from support.licensing import CUSTOMER, DAY, license_claims

pytestmark = pytest.mark.unit


class Counting:
    """Stands for the enforcer: lets so many through."""

    def __init__(self, limit: int) -> None:
        self.used, self.limit = 0, limit

    async def check_and_record(self, resource: str, quantity: int) -> Answer:
        allowed = self.used + quantity <= self.limit
        self.used += quantity if allowed else 0
        return Answer(
            allowed, resource, LicenseMode.ACTIVE, "QuotaExceeded", "", self.used, self.limit
        )

    async def devices(self) -> int:
        return 50


def followed(snapshot: Snapshot, *, wall: list[float] | None = None) -> FollowedLicense:
    made = FollowedLicense(
        verifier=lambda: Verifier({}, None, CUSTOMER),
        customer_id=CUSTOMER,
        pool=cast("Pool", None),
        directory=WatchedDirectory(Path("/nowhere")),
        catalog=load_catalog(),
        wall=time.time if wall is None else lambda: wall[0],
        monotonic=lambda: 0.0,
    )
    made.documents.snapshot = snapshot
    return made


def licensed(**over: Any) -> Snapshot:
    now = int(time.time())
    return Snapshot(license=license_claims(**{"iat": now, "exp": now + 45 * DAY, **over}))


@pytest.fixture
def enforcer() -> Counting:
    return Counting(1)


def unopened(
    license_: FollowedLicense, enforcer: EntitlementEnforcer, loop: asyncio.AbstractEventLoop
) -> Guards:
    """Guards without a tracker."""
    nothing = cast("Any", None)
    return Guards(license_, enforcer, load_catalog(), loop, nothing, nothing)


@pytest.fixture
def guards(enforcer: Counting, monkeypatch: pytest.MonkeyPatch) -> Guards:
    """Of no event loop: enough for what memory answers."""
    loop = cast("asyncio.AbstractEventLoop", None)
    made = unopened(followed(licensed()), cast("EntitlementEnforcer", enforcer), loop)
    monkeypatch.setattr(context, "_open", [made])
    return made


@pytest.fixture
async def running(guards: Guards, monkeypatch: pytest.MonkeyPatch) -> Guards:
    """The same within this test's event loop."""
    loop = asyncio.get_running_loop()
    made = unopened(guards.license, guards.enforcer, loop)
    monkeypatch.setattr(context, "_open", [made])
    return made


def test_sync_functions_are_called_when_allowed_and_never_otherwise(guards: Guards) -> None:
    calls: list[str] = []

    @require_feature("canExportData")
    def export(name: str) -> str:
        """Export."""
        calls.append(name)
        return name.upper()

    @require_feature("hasCustomBranding")
    def brand() -> None:
        calls.append("brand")

    assert export("a") == "A"
    assert (export.__name__, export.__doc__) == ("export", "Export.")
    with pytest.raises(EntitlementEnforcementError) as caught:
        brand()
    assert caught.value.answer.entitlement == "hasCustomBranding"
    assert calls == ["a"]


async def test_async_functions_are_called_when_allowed_and_never_otherwise(
    running: Guards, enforcer: Counting
) -> None:
    calls = []

    @require_active_subscription
    @require_entitlement("llm_tokens", quantity=len)
    async def ask(text: str) -> str:
        calls.append(text)
        return text

    assert await ask("x") == "x"
    with pytest.raises(EntitlementEnforcementError):
        await ask("y")
    assert (calls, enforcer.used) == (["x"], 1)


async def test_a_sync_function_in_the_event_loop_is_told_not_to_wait_for_itself(
    running: Guards, enforcer: Counting
) -> None:
    @require_entitlement("llm_tokens")
    def ask() -> int:
        return 1

    with pytest.raises(RuntimeError, match="to_thread"):
        ask()
    assert await asyncio.to_thread(ask) == 1
    assert enforcer.used == 1


def test_an_async_generator_cannot_be_guarded() -> None:
    async def numbers() -> Any:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        require_active_subscription(numbers)


def test_a_misspelt_feature_is_told_when_the_program_starts() -> None:
    with pytest.raises(InvalidInputError, match="canExportData"):
        require_feature("canExport")


def test_closed_guards_let_nothing_through() -> None:
    @require_active_subscription
    def work() -> None:
        raise AssertionError

    with pytest.raises(BillingProviderError) as caught:
        work()
    assert caught.value.reason == "GuardsNotOpen"


def application() -> FastAPI:
    app = FastAPI()
    install_problem_handlers(app)

    def route(path: str, guard: Guard) -> None:
        @app.get(f"/async{path}", dependencies=[Depends(guard)])
        async def asynchronous() -> str:
            return "in"

        @app.get(f"/sync{path}")
        def synchronous(answer: Answer = Depends(guard)) -> str:
            return "in" if answer.allowed else "out"

    route("/export", require_feature("canExportData"))
    route("/brand", require_feature("hasCustomBranding"))
    route("/subscription", require_active_subscription)
    route("/devices", check_device_limit)
    route("/tokens", require_entitlement("llm_tokens"))
    return app


def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://service")


@pytest.mark.parametrize("style", ["async", "sync"])
async def test_dependencies_let_in_or_answer_a_problem(running: Guards, style: str) -> None:
    async with client(application()) as http:
        for path in ("export", "subscription", "tokens"):
            assert (await http.get(f"/{style}/{path}")).json() == "in"
        refused = [await http.get(f"/{style}/{path}") for path in ("brand", "devices", "tokens")]
    assert [(answer.status_code, answer.json()["reason"]) for answer in refused] == [
        (402, "FeatureNotLicensed"),
        (402, "DeviceLimitReached"),
        (403, "QuotaExceeded"),
    ]
    for answer in refused:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["upgradeUrl"] == UPGRADE_URL
    devices = refused[1].json()
    assert (devices["entitlement"], devices["used"], devices["limit"]) == ("maxDevices", 50, 50)
    assert devices["remaining"] == 0


async def test_dependencies_without_guards_answer_503() -> None:
    async with client(application()) as http:
        answer = await http.get("/async/subscription")
    assert (answer.status_code, answer.json()["reason"]) == (503, "GuardsNotOpen")


async def test_a_dependency_that_a_thread_runs_is_checked_there(running: Guards) -> None:
    """Whatever FastAPI makes of a guard, it never passes unchecked."""
    with pytest.raises(EntitlementEnforcementError):
        await asyncio.to_thread(check_device_limit)
    with pytest.raises(EntitlementEnforcementError):
        await cast("Any", check_device_limit())


def test_time_alone_ends_what_a_license_gave() -> None:
    wall = [1_800_000_000.0]
    license_ = followed(Snapshot(license=license_claims()), wall=wall)
    held = license_.standing
    assert license_.standing is held
    wall[0] += 52 * DAY
    assert license_.standing.subscription.reason == "LicenseExpired"
    wall[0] -= 52 * DAY
    assert license_.standing.subscription.allowed
