"""Terms against the price list, worked out once: what each line costs and what is included."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from brinkbyte.catalog import (
    Allowance,
    Catalog,
    OverrideValue,
    Terms,
    charge_line,
    check_terms,
    plan_sku,
)
from brinkbyte.catalog.compiler import allowances
from brinkbyte.catalog.model import Charge
from brinkbyte.catalog.terms import charge_price

Every = Literal["month", "year", "once"]
_KEPT: Final = 4096
ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Item:
    """One charge of the price list as the terms hold it.

    Attributes:
        line: id of the charge.
        title: for people.
        price: of one unit.
        quantity: units held.
        every: how often.
        position: of the charge in the price list; lines are in its order.
        family: of a plan; None for what is bought in quantities.
        rank: of a plan.
    """

    line: str
    title: str
    price: Decimal
    quantity: int
    every: Every
    position: tuple[int, int, int]
    family: str | None = None
    rank: int = 0


@dataclass(frozen=True, slots=True)
class PriceTable:
    """What terms cost and include, by line id and meter, in the price list's order."""

    items: Mapping[str, Item]
    allowances: Mapping[str, Allowance]

    def every(self, every: Every) -> Iterator[Item]:
        """Yield the items with this interval."""
        return (item for item in self.items.values() if item.every == every)


_Key = tuple[int, object, object, object]
# Terms repeat for months and among customers. The catalog is kept with its entry, so that its
# identity cannot pass to another one.
_tables: OrderedDict[_Key, tuple[Catalog, PriceTable]] = OrderedDict()


def _key(catalog: Catalog, terms: Terms) -> _Key:
    return (
        id(catalog),
        frozenset(terms.plans.items()),
        frozenset(terms.quantities.items()),
        # True and 1 are equal, but not the same value here.
        frozenset((name, type(value), value) for name, value in terms.overrides.items()),
    )


def price_table(catalog: Catalog, terms: Terms) -> PriceTable:
    """Return what the terms cost; worked out once for equal terms.

    Raises:
        CatalogError: the terms cannot be bought; names every value that is missing.
    """
    key = _key(catalog, terms)
    found = _tables.get(key)
    if found is not None:
        return found[1]
    check_terms(catalog, terms)
    table = PriceTable(
        items={item.line: item for item in _items(catalog, terms)},
        allowances=allowances(catalog, terms),
    )
    _tables[key] = (catalog, table)
    while len(_tables) > _KEPT:
        _tables.popitem(last=False)
    return table


def _items(catalog: Catalog, terms: Terms) -> Iterator[Item]:
    for index, (family, spec) in enumerate(catalog.families.items()):
        if family in terms.plans:
            plan = spec.plans[terms.plans[family]]
            sku = plan_sku(family, terms.plans[family])
            for charge in plan.charges:
                yield Item(
                    line=charge_line(sku, charge),
                    title=f"{spec.title} {plan.title}",
                    price=_price(terms, sku, charge),
                    quantity=1,
                    every=charge.every,
                    position=(0, index, plan.rank),
                    family=family,
                    rank=plan.rank,
                )
    for index, (sku, item) in enumerate(catalog.skus.items()):
        quantity = terms.quantities.get(sku, 0)
        if quantity > 0:
            for number, charge in enumerate(item.charges):
                yield Item(
                    line=charge_line(sku, charge),
                    title=item.title,
                    price=_price(terms, sku, charge),
                    quantity=quantity,
                    every=charge.every,
                    position=(1, index, number),
                )


def _price(terms: Terms, sku: str, charge: Charge) -> Decimal:
    # Never empty: the terms have passed their check.
    return charge_price(terms, sku, charge) or ZERO


def highest(catalog: Catalog, wishes: Sequence[Terms]) -> Terms:
    """Return the terms that hold the most of each item that any of the wishes holds.

    Args:
        catalog: the price list, for the ranks of plans.
        wishes: oldest first. The newest one's own values count, except for an item that it does
            not hold: that keeps the own values of the newest wish that does.
    """
    newest = wishes[-1]
    if all(wish == newest for wish in wishes):
        return newest
    plans: dict[str, str] = {}
    quantities: dict[str, int] = {}
    holder: dict[str, Terms] = {}
    for wish in wishes:
        for family, name in wish.plans.items():
            held = plans.get(family)
            rank = catalog.plan(family, name).rank
            if held is None or rank >= catalog.plan(family, held).rank:
                plans[family] = name
                holder[plan_sku(family, name)] = wish
                holder[family] = wish
        for sku, quantity in wish.quantities.items():
            if quantity > 0:
                quantities[sku] = max(quantity, quantities.get(sku, 0))
                holder[sku] = wish
                holder[catalog.sku(sku).family] = wish
    overrides = dict(newest.overrides)
    names = {*quantities, *(plan_sku(family, name) for family, name in plans.items())}
    for family in {name.split(".", 1)[0] for name in names}:
        for key, value in _own_values(holder[family], family):
            overrides.setdefault(key, value)
    for name in names:
        if holder[name] is not newest:
            overrides.update(_own_values(holder[name], name))
    return Terms(plans=plans, quantities=quantities, overrides=overrides)


def _own_values(wish: Terms, scope: str) -> Iterator[tuple[str, OverrideValue]]:
    return ((key, value) for key, value in wish.overrides.items() if key.startswith(f"{scope}."))
