"""Which models, analytics and outputs a set of packs unlocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.catalog import CatalogError, grants, load_catalog

pytestmark = pytest.mark.unit

CATALOG = load_catalog()
PACKS = sorted(ref.name for ref in CATALOG.pack_refs())
PackSets = st.sets(st.sampled_from(PACKS))


@given(PackSets, PackSets)
def test_grants_of_a_union_are_the_union_of_grants(left: set[str], right: set[str]) -> None:
    both, a, b = (grants(CATALOG, packs) for packs in (left | right, left, right))
    assert both.models == a.models | b.models
    assert both.analytics == a.analytics | b.analytics
    assert both.outputs == a.outputs | b.outputs
    assert both.llm == a.llm | b.llm


@given(PackSets)
def test_base_is_added_and_never_taken(packs: set[str]) -> None:
    without, base = grants(CATALOG, packs, base=False), grants(CATALOG, [])
    assert grants(CATALOG, packs).models == without.models | base.models
    assert grants(CATALOG, sorted(packs) * 2) == grants(CATALOG, packs)


def test_shared_models_need_any_one_pack() -> None:
    for pack in ("retail", "airports"):
        assert "trolley" in grants(CATALOG, [pack], base=False).models
    assert "car" in grants(CATALOG, ["advanced_vehicles"], base=False).models
    assert grants(CATALOG, [], base=False).models == frozenset()


def test_a_pack_bought_by_the_part_is_not_granted_whole() -> None:
    with pytest.raises(CatalogError, match=r"bought by the part.*integration\.sms"):
        grants(CATALOG, ["integration"])
