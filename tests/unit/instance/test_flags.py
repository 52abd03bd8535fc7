"""What the vendor's switches make of a license."""

from __future__ import annotations

from typing import Any

import pytest

from brinkbyte.catalog import load_catalog
from brinkbyte.instance.services.refusals import check_granted
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.problem import ProblemError
from brinkbyte.store.policy import Policy
from support.licensing import DAY, NOW
from unit.instance.test_policy import policy

pytestmark = pytest.mark.unit
CATALOG = load_catalog()
HOUR = 3600


def switched(now: int = NOW, **flags: bool) -> Policy:
    return policy(now=now, flags={_camel(name): value for name, value in flags.items()})


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def test_validation_off_refuses_nothing_and_says_what_it_would() -> None:
    judged = switched(license_validation=False)
    own = judged.camera("cam-1")
    assert (own.allowed, own.reason, own.waived) == (True, "LicenseValid", "")
    assert own.licensed is not None
    assert own.licensed.models == ("person", "trolley")
    assert set(own.grant.models) == set(CATALOG.models)
    stranger = judged.camera("cam-9", "hw-7")
    assert (stranger.allowed, stranger.waived) == (True, "CameraNotLicensed")
    assert stranger.hardware_id == "hw-7"
    assert "switched off by the vendor" in stranger.message
    assert judged.licensed_models == set(CATALOG.models)
    assert judged.tenant_grant == judged.everything


def test_validation_off_waives_names_and_still_knows_what_there_is() -> None:
    judged = switched(license_validation=False)
    own = judged.camera("cam-1")
    assert check_granted(CATALOG, own, models=["person", "trolley"]) == []
    waived = check_granted(CATALOG, own, models=["boat"], analytics=["near_miss"], outputs=["api"])
    assert waived == ["ModelNotLicensed", "AnalyticNotLicensed"]
    stranger = judged.camera("cam-9")
    assert check_granted(CATALOG, stranger, models=["boat"]) == ["CameraNotLicensed"]
    with pytest.raises(InvalidInputError, match="unicorn"):
        check_granted(CATALOG, own, models=["unicorn"])
    with pytest.raises(ProblemError, match="not licensed"):
        check_granted(CATALOG, policy().camera("cam-1"), models=["boat"])


def test_enforcement_in_triton_off_keeps_every_model_and_refuses_as_before() -> None:
    judged = switched(triton_enforcement=False)
    assert judged.licensed_models == set(CATALOG.models)
    assert not judged.camera("cam-9").allowed
    assert "boat" not in judged.camera("cam-1").grant.models


@pytest.mark.parametrize(
    "made",
    [
        {"now": NOW + 60 * DAY},
        {"entries": [{"kind": "license", "subject": "acme", "upTo": 7}]},
        {"subscription": {"status": "suspended", "currentPeriodEnd": None}},
    ],
)
def test_the_switches_of_a_license_out_of_force_count_no_more(made: dict[str, Any]) -> None:
    off = dict.fromkeys(("licenseValidation", "usageTracking", "tritonEnforcement"), False)
    judged = policy(flags=off, **made)
    assert (judged.flags.license_validation, judged.flags.usage_tracking) == (True, True)
    assert judged.licensed_models == {"person"}
    assert not judged.camera("cam-4").allowed


def test_without_offline_use_a_camera_says_how_long_it_holds() -> None:
    judged = switched(offline_mode=False)
    until = judged.camera("cam-1").valid_until
    assert until is not None
    assert NOW + 2 * HOUR < until < NOW + 3 * HOUR
    assert switched(now=until, offline_mode=False).decision.reason == "LicenseUnconfirmed"
