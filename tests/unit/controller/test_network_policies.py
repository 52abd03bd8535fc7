"""The generated NetworkPolicies against a table of who may talk to whom, written by hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from brinkbyte.controller.children import network_policies
from support.network import CASES, Policy, allowed, expand
from support.plans import plan, tenant


def policies_of(case: str) -> list[Policy]:
    return network_policies.build(CASES[case][0])


@pytest.mark.parametrize("case", CASES)
def test_exactly_the_table_gets_through(case: str) -> None:
    wanted = expand(CASES[case][1])
    found = allowed(policies_of(case))
    assert found - wanted == set(), "too much gets through"
    assert wanted - found == set(), "something needed does not get through"


def pieces(policies: list[Policy]) -> Iterator[tuple[str, list[Any], int]]:
    """Yield (what, list, index) of every rule, peer and port of every policy."""
    for policy in policies:
        name = policy["metadata"]["name"]
        for which in ("ingress", "egress"):
            rules = policy["spec"][which]
            for i, rule in enumerate(rules):
                yield f"{name} {which}[{i}]", rules, i
                for part in ("from", "to", "ports"):
                    parts = rule.get(part, [])
                    if len(parts) > 1:  # the last of a list would mean everybody
                        for j in range(len(parts)):
                            yield f"{name} {which}[{i}].{part}[{j}]", parts, j


def test_removing_any_single_rule_peer_port_or_policy_is_noticed() -> None:
    """Each piece is needed in at least one of the cases; each policy holds something back."""
    needed: dict[str, bool] = {}
    for of, table in CASES.values():
        wanted = expand(table)
        original = network_policies.build(of)
        for number, (what, _, _) in enumerate(list(pieces(original))):
            mutant = copy.deepcopy(original)
            _, parts, index = list(pieces(mutant))[number]
            removed = parts.pop(index)
            key = f"{what} {removed}"
            needed[key] = needed.get(key, False) or allowed(mutant) != wanted
        for i, policy in enumerate(original):
            mutant = original[:i] + original[i + 1 :]
            key = f"policy {policy['metadata']['name']}"
            needed[key] = needed.get(key, False) or allowed(mutant) != wanted
        for i, policy in enumerate(original):
            for kind in ("Ingress", "Egress"):
                mutant = copy.deepcopy(original)
                mutant[i]["spec"]["policyTypes"].remove(kind)
                key = f"{kind} of {policy['metadata']['name']}"
                needed[key] = needed.get(key, False) or allowed(mutant) != wanted
    assert [key for key, is_needed in needed.items() if not is_needed] == []
    assert len(needed) > 30


def test_no_policy_stands_for_a_database_that_the_customer_runs() -> None:
    external = {"external": {"secretRef": {"name": "dsn"}}}
    built = network_policies.build(plan(tenant(postgres=external, redis=external)))
    assert [each["metadata"]["name"] for each in built] == [
        "acme-btn-triton",
        "acme-btn-instance",
        "acme-btn-reporter",
    ]
