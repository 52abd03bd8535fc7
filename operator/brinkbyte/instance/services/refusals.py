"""Refusals of the license as HTTP problems: why, and where to fix it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from brinkbyte.catalog import Catalog
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.modes import FULL_MODES, UPGRADE_URL
from brinkbyte.store.policy import CameraDecision

_PAYMENT_REQUIRED: Final = 402
_FORBIDDEN: Final = 403
_MEMBER: Final = {"Model": "models", "Analytic": "analytics", "Output": "outputs"}


def camera_refused(decision: CameraDecision) -> ProblemError:
    """Return the refusal of a camera: 402 where a seat would help, 403 where the license must."""
    return ProblemError(
        _PAYMENT_REQUIRED if decision.mode in FULL_MODES else _FORBIDDEN,
        decision.message,
        reason=decision.reason,
        mode=decision.mode.value,
        cameraId=decision.camera_id,
        upgradeUrl=UPGRADE_URL,
    )


def check_granted(
    catalog: Catalog,
    decision: CameraDecision,
    *,
    models: Iterable[str] = (),
    analytics: Iterable[str] = (),
    outputs: Iterable[str] = (),
    status: int | None = None,
) -> list[str]:
    """Refuse names that the camera's license lacks.

    Args:
        catalog: what exists at all, and which pack brings it.
        decision: what the camera may do.
        models: model names asked for.
        analytics: analytic names asked for.
        outputs: output names asked for.
        status: HTTP status of a refusal; by default 402 under a valid license, else 403.

    Returns:
        Reasons of the refusals that switched-off validation keeps back, the camera's own included.

    Raises:
        InvalidInputError: a name that no catalog has; reason ``UnknownModel`` and so on.
        ProblemError: reason ``ModelNotLicensed``, ``AnalyticNotLicensed``, ``OutputNotLicensed``.
    """
    waived = [decision.waived] if decision.waived else []
    licensed = decision.licensed or decision.grant
    kinds = (
        ("Model", models, frozenset(catalog.models), decision.grant.models),
        ("Analytic", analytics, frozenset(catalog.analytics), decision.grant.analytics),
        ("Output", outputs, frozenset(catalog.outputs), decision.grant.outputs),
    )
    for kind, wanted, known, granted in kinds:
        listed = list(wanted)
        for name in listed:
            if name not in known:
                raise InvalidInputError(
                    f"there is no {kind.lower()} {name!r}; known: {', '.join(sorted(known))}",
                    reason=f"Unknown{kind}",
                )
        for name in listed:
            if name not in granted:
                raise _not_licensed(catalog, decision, kind, name, status)
        if not set(listed) <= set(getattr(licensed, _MEMBER[kind])) and not decision.waived:
            waived.append(f"{kind}NotLicensed")
    return waived


def _not_licensed(
    catalog: Catalog, decision: CameraDecision, kind: str, name: str, status: int | None
) -> ProblemError:
    full = decision.mode in FULL_MODES
    packs = packs_with(catalog, kind, name)
    what = f"Camera {decision.camera_id} is not licensed for {kind.lower()} {name}"
    cure = (
        f"add the growth pack {' or '.join(packs)}"
        if full and packs
        else "its license allows the base set only until the license is in force again"
    )
    return ProblemError(
        status or (_PAYMENT_REQUIRED if full else _FORBIDDEN),
        f"{what}: {cure}. See {UPGRADE_URL}",
        reason=f"{kind}NotLicensed",
        mode=decision.mode.value,
        licenseReason=decision.reason,
        cameraId=decision.camera_id,
        packs=packs,
        upgradeUrl=UPGRADE_URL,
    )


def packs_with(catalog: Catalog, kind: str, name: str) -> list[str]:
    """Return the packs that bring a model, analytic or output."""
    return [ref.name for ref in catalog.pack_refs() if name in getattr(ref.adds, _MEMBER[kind])]
