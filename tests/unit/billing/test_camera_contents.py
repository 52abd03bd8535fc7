"""What a camera license says, written piece by piece: the same bytes as canonical JSON."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.billing.licenses.holdings import HeldSeat
from brinkbyte.billing.licenses.issue import CameraContents, Customer, Instance
from brinkbyte.billing.subscriptions.standing import Standing
from brinkbyte.catalog import Terms, compile_entitlements, load_catalog
from brinkbyte.kit.canonical import canonical_json
from brinkbyte.license.claims import CameraMode, SubscriptionStatus

pytestmark = pytest.mark.unit
CATALOG = load_catalog()
PACKS = sorted(pack.name for pack in CATALOG.pack_refs())
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
seats = st.builds(
    HeldSeat,
    camera_id=text,
    seat_id=text,
    request_name=text,
    hardware_id=text,
    mode=st.sampled_from(CameraMode),
    packs=st.lists(st.sampled_from(PACKS), max_size=3, unique=True).map(sorted).map(tuple),
    taken_at=st.integers(0, 2**40),
    until=st.none() | st.integers(0, 2**40),
)


def customer(instance_id: str, key_id: str) -> Customer:
    terms = Terms()
    return Customer(
        tenant_id="acme",
        name="Acme",
        flags={},
        standing=Standing(
            "s", terms, SubscriptionStatus.ACTIVE, datetime(2026, 1, 1, tzinfo=UTC),
            trial_ends_at=None, hard_end=None,
        ),
        entitlements=compile_entitlements(CATALOG, terms),
        instance=Instance(instance_id, key_id, "cluster"),
    )  # fmt: skip


@given(text, text, st.lists(seats, min_size=1, max_size=4))
def test_hash_is_that_of_canonical_json(
    instance_id: str, key_id: str, some: list[HeldSeat]
) -> None:
    whose = customer(instance_id, key_id)
    contents = CameraContents(CATALOG, whose)
    for seat in some:
        grant = contents.grant(seat.packs)
        said = [
            instance_id,
            key_id,
            seat.camera_id,
            seat.hardware_id,
            seat.seat_id,
            seat.mode.value,
            list(seat.packs),
            seat.until,
            [list(grant.models), list(grant.analytics), list(grant.outputs)],
            whose.standing.grace_seconds,
        ]
        assert contents.hash(seat) == hashlib.sha256(canonical_json(said)).digest()


def test_packs_add_to_what_a_camera_may_use() -> None:
    contents = CameraContents(CATALOG, customer("inst-1", "key-1"))
    bare = set(contents.grant(()).analytics)
    assert all(bare <= set(contents.grant((pack,)).analytics) for pack in PACKS)
    assert any(bare < set(contents.grant((pack,)).analytics) for pack in PACKS)
