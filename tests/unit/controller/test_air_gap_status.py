"""What a Tenant without a line shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from brinkbyte.controller.asking import Asking
from brinkbyte.controller.context import TenantMemory
from brinkbyte.controller.documents import Documents
from brinkbyte.controller.metrics import Metrics
from brinkbyte.controller.reconcile_tenant import _write_status
from brinkbyte.controller.status import TenantView, tenant_status
from brinkbyte.controller.tenant_pass import TenantPass
from brinkbyte.kit.errors import PermanentError
from brinkbyte.resources.conditions import ConditionType, find
from support.licensing import DAY, NOW, license_claims
from support.plans import tenant

from .test_status import state, view


def island() -> Any:
    found = tenant(license={"bundleSecretRef": {"name": "bundle"}})
    return found.model_copy(update={"spec": found.spec.model_copy(update={"billing": None})})


def shown(of: TenantView, kind: ConditionType) -> tuple[str, str, str]:
    found = find(tenant_status(of).conditions, kind)
    assert found is not None
    return found.status, found.reason, found.message


def licensed(days: int) -> Documents:
    return Documents(license=license_claims(exp=NOW + days * DAY))


def test_before_the_bundle_the_tenant_says_what_to_do() -> None:
    missing = PermanentError("run `brinkbyte license request`", reason="BundleMissing")
    of = view(island(), documents=Documents(), enrolled=False, error=missing)
    assert shown(of, ConditionType.LICENSE_VALID)[:2] == ("False", "BundleMissing")
    status, reason, message = shown(of, ConditionType.READY)
    assert (status, reason) == ("Unknown", "BundleMissing")
    assert "license request" in message


def test_a_bundle_that_ends_soon_is_worth_a_word_and_no_alarm() -> None:
    for days, reason in ((200, "LicenseValid"), (20, "BundleEndsSoon")):
        of = view(island(), documents=licensed(days))
        assert shown(of, ConditionType.LICENSE_VALID)[:2] == ("True", reason)
    line = view(documents=licensed(20))
    assert shown(line, ConditionType.LICENSE_VALID)[1] == "LicenseValid"


def test_what_is_wrong_with_a_new_bundle_takes_nothing_away() -> None:
    outdated = PermanentError("a newer bundle was imported before", reason="BundleOutdated")
    of = view(island(), documents=licensed(200), error=outdated)
    assert shown(of, ConditionType.LICENSE_VALID)[:2] == ("True", "BundleOutdated")
    assert shown(of, ConditionType.READY)[0] == "True"


def test_metering_is_calm_and_shows_its_backlog() -> None:
    waiting = state(backlog=7000, oldestUnacknowledgedAt=NOW - 90 * DAY, lastReportedAt=None)
    of = view(island(), state=waiting)
    assert shown(of, ConditionType.METERING_HEALTHY)[:2] == ("True", "AirGapped")
    status = tenant_status(of)
    assert status.metering is not None
    assert status.metering.backlog == 7000
    # The sentence stays the same while events come: a status is not written for a number.
    more = view(island(), state=state(backlog=7001, lastReportedAt=None))
    kind = ConditionType.METERING_HEALTHY
    assert shown(more, kind) == shown(of, kind)
    assert status.headline is not None
    assert status.headline.reason == "Available"


async def test_figures_that_no_report_dates_are_written_once_an_hour() -> None:
    at, written = 0.0, []

    async def apply_status(_live: Any, wire: dict[str, Any]) -> None:
        written.append(wire["metering"]["backlog"])
        run.live["status"] = wire

    ctx: Any = SimpleNamespace(
        metrics=Metrics(),
        cluster=SimpleNamespace(apply_status=apply_status),
        events=SimpleNamespace(emit=lambda *_: None),
        monotonic=lambda: at,
    )
    of = island()
    run = TenantPass(of, {"status": {}})
    memory = TenantMemory(Asking(lambda: at), Asking(lambda: at))
    for now, backlog, expected in (
        (0.0, 5, [5]),
        (600.0, 6, [5]),
        (3599.0, 7, [5]),
        (3600.0, 8, [5, 8]),
        (3700.0, 8, [5, 8]),
        (4200.0, 9, [5, 8]),
    ):
        at = now
        counted = view(of, state=state(backlog=backlog, lastReportedAt=None))
        await _write_status(ctx, run, counted, memory)
        assert written == expected
