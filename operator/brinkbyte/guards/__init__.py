"""What the vendor's own services import: guards, entitlement enforcement, usage tracking.

Such services run beside the instance, on its database. In: a request or a call to be guarded. Out:
leave to go on, or a refusal with its reason; metering events in the outbox. May import:
``brinkbyte.store``, ``brinkbyte.client``, the domain, ``brinkbyte.kit``.

- ``context``: opened in a service's lifespan; holds what checks stand on.
- ``license``: the license in force, followed without a restart. ``standing``: what it allows.
- ``guard``: dependencies and decorators.
- ``tracker``: records what was used. ``writer``: many events, one commit.
- ``enforcer``: check and record, atomic. ``quotas``: signed quotas as counters.
- ``answers``: answers, refusals, failures.
"""

from brinkbyte.guards.answers import Answer, BillingProviderError, EntitlementEnforcementError
from brinkbyte.guards.context import Guards, current_guards, guards_in_thread, open_guards
from brinkbyte.guards.enforcer import EntitlementEnforcer
from brinkbyte.guards.guard import (
    Guard,
    check_device_limit,
    check_entitlement_or_raise,
    get_entitlement_enforcer,
    get_usage_tracker,
    require_active_subscription,
    require_entitlement,
    require_feature,
)
from brinkbyte.guards.settings import GuardSettings
from brinkbyte.guards.tracker import TrackerFullError, UsageTracker
from brinkbyte.kit.problem import install_problem_handlers

__all__ = [
    "Answer",
    "BillingProviderError",
    "EntitlementEnforcementError",
    "EntitlementEnforcer",
    "Guard",
    "GuardSettings",
    "Guards",
    "TrackerFullError",
    "UsageTracker",
    "check_device_limit",
    "check_entitlement_or_raise",
    "current_guards",
    "get_entitlement_enforcer",
    "get_usage_tracker",
    "guards_in_thread",
    "install_problem_handlers",
    "open_guards",
    "require_active_subscription",
    "require_entitlement",
    "require_feature",
]
