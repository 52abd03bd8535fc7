"""Pure builders of a Tenant's children: a :class:`~.common.Plan` in, Kubernetes objects out.

Each module builds one component whole: service account, service, workload. Nothing here reads or
writes anything. ``networking`` builds the NetworkPolicies of all of them.
"""

from __future__ import annotations

from brinkbyte.controller.children import (
    instance,
    network_policies,
    postgres,
    redis,
    reporter,
    triton,
)
from brinkbyte.controller.children.common import Object, Plan


def build(plan: Plan) -> list[Object]:
    """Return every child of a Tenant but its Secrets, in the order in which to apply them."""
    objects = network_policies.build(plan)
    for component in (postgres, redis, triton, instance, reporter):
        objects.extend(component.build(plan))
    return objects


__all__ = ["Plan", "build"]
