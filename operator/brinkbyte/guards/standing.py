"""What a license allows between two moments, worked out once: a check is a look-up then. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from brinkbyte.catalog import Catalog
from brinkbyte.catalog.model import FEATURE_FLAGS
from brinkbyte.guards.answers import PAYMENT_REQUIRED, Answer
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.license.confirmation import confirmed_until
from brinkbyte.license.documents import Snapshot
from brinkbyte.license.modes import UPGRADE_URL
from brinkbyte.store.policy import Policy

_EVER: Final = 2**53


@dataclass(frozen=True)
class Standing:
    """What holds of a license between two moments of the offline clock.

    Attributes:
        since: Unix seconds; an earlier clock judges anew.
        until: Unix seconds; from then on it is judged anew.
        features: the answer for each feature by its name.
    """

    policy: Policy
    since: int
    until: int
    subscription: Answer
    features: Mapping[str, Answer]


def stand(snapshot: Snapshot, now: int, catalog: Catalog) -> Standing:
    """Return what holds.

    Args:
        snapshot: the documents held.
        now: Unix seconds by the offline clock.
        catalog: what exists, and what holds without a license.
    """
    policy = Policy(snapshot, now, catalog)
    claims = snapshot.license
    ends = [] if claims is None else [claims.exp, claims.exp + claims.grace_seconds]
    if claims is not None and not claims.flags.offline_mode:
        ends.append(confirmed_until(claims))
    held = _held(policy)
    return Standing(
        policy=policy,
        since=now,
        until=min((end for end in ends if end > now), default=_EVER),
        subscription=by_mode(policy, "subscription"),
        features={name: _feature(policy, name, held) for name in known_features(catalog)},
    )


def by_mode(policy: Policy, entitlement: str) -> Answer:
    """Return the answer that the license's mode gives: 403 with its reason out of force."""
    decision = policy.decision
    message = decision.message
    if not decision.full:
        message = f"{entitlement} needs a license in force. {message}"
    return Answer(decision.full, entitlement, decision.mode, decision.reason, message)


def known_features(catalog: Catalog) -> frozenset[str]:
    """Return every feature there is, by its name in licenses and catalog.

    Flags of plans (``canExportData`` …), packs of a tenant (``intelligence``,
    ``integration.sms`` …), and what these add to the language model (``analyst_seat_full`` …).
    """
    packs = (ref.name for ref in catalog.pack_refs() if ref.per == "tenant")
    return frozenset({*FEATURE_FLAGS, *packs, *catalog.llm})


def unknown_feature(name: str, catalog: Catalog) -> InvalidInputError:
    """Return the error of a name that is no feature's."""
    known = ", ".join(sorted(known_features(catalog)))
    return InvalidInputError(
        f"there is no feature {name!r}; known: {known}", reason="UnknownFeature"
    )


def _held(policy: Policy) -> frozenset[str]:
    flags = policy.features.model_dump(mode="json")
    names = {name for name in FEATURE_FLAGS if flags[name]}
    claims = policy.snapshot.license
    if policy.decision.full and claims is not None:
        names.update(claims.tenant_packs)
        for ref in policy.catalog.pack_refs():
            if ref.name in claims.tenant_packs:
                names.update(ref.adds.llm)
    return frozenset(names)


def _feature(policy: Policy, name: str, held: frozenset[str]) -> Answer:
    if name in held or not policy.decision.full:
        return by_mode(policy, name)
    refused = Answer(
        False,
        name,
        policy.decision.mode,
        "FeatureNotLicensed",
        f"The plan {policy.plan} does not include {name}. Upgrade at {UPGRADE_URL}",
        status=PAYMENT_REQUIRED,
    )
    return refused if policy.flags.license_validation else refused.waived()
