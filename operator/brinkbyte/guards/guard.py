"""Guards as FastAPI dependencies and as decorators: the same object is both.

``Depends(require_feature("canExportData"))`` and ``@require_feature("canExportData")``, over sync
and async functions. Whoever is refused does not get in: the function is not called.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias, TypeVar, cast, overload

from brinkbyte.catalog import load_catalog
from brinkbyte.guards.answers import Amount, Answer
from brinkbyte.guards.context import Guards, current_guards
from brinkbyte.guards.enforcer import EntitlementEnforcer
from brinkbyte.guards.standing import known_features, unknown_feature
from brinkbyte.guards.tracker import UsageTracker

F = TypeVar("F", bound=Callable[..., Any])
Quantity: TypeAlias = Amount | Callable[..., Amount]
"""A number, or what returns it from the arguments of the guarded call (decorators only)."""
Pending: TypeAlias = Coroutine[Any, Any, Answer]
_Check: TypeAlias = Callable[[Guards, tuple[Any, ...], dict[str, Any]], Answer | Pending]


class Guard:
    """One guard.

    Args:
        check: returns the answer, or what has to be awaited for it.
    """

    def __init__(self, check: _Check) -> None:
        self._check = check
        # What inspect.signature, and with it FastAPI, sees: an async function of no arguments.
        self.__wrapped__ = self._checked

    @overload
    def __call__(self) -> Answer | Pending: ...
    @overload
    def __call__(self, function: F) -> F: ...
    def __call__(self, function: F | None = None) -> F | Answer | Pending:
        """Guard a function; without one (FastAPI), check now.

        In an event loop the check must be awaited, in a thread it has been made.

        Raises:
            EntitlementEnforcementError: the license refuses.
            BillingProviderError: it could not be decided.
            TypeError: an async generator cannot be guarded.
        """
        if function is not None:
            return self._guarded(function)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._allowed_blocking((), {})
        return self._checked()

    async def _checked(self) -> Answer:
        return await self._allowed()

    async def _allowed(self, *args: Any, **kwargs: Any) -> Answer:
        guards = current_guards()
        answer = self._check(guards, args, kwargs)
        if not isinstance(answer, Answer):
            answer = await guards.await_here(answer)
        return answer.or_raise()

    def _allowed_blocking(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer:
        guards = current_guards()
        answer = self._check(guards, args, kwargs)
        if not isinstance(answer, Answer):
            answer = guards.wait_for(answer)
        return answer.or_raise()

    def _guarded(self, function: F) -> F:
        if inspect.isasyncgenfunction(function):
            raise TypeError("an async generator cannot be guarded; guard who makes it")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                await self._allowed(*args, **kwargs)
                return await function(*args, **kwargs)

            return cast("F", awaited)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            self._allowed_blocking(args, kwargs)
            return function(*args, **kwargs)

        return cast("F", called)


def require_feature(name: str) -> Guard:
    """Return the guard of a feature: a flag of the plan, a tenant's pack, or what one adds.

    Args:
        name: such as ``canExportData``, ``integration.cloud_export``, ``premium_connectors``.

    Raises:
        InvalidInputError: there is no such feature; reason ``UnknownFeature``.
    """
    catalog = load_catalog()
    if name not in known_features(catalog):
        raise unknown_feature(name, catalog)
    return Guard(lambda guards, _args, _kwargs: guards.feature(name))


def require_entitlement(resource: str, quantity: Quantity = 1) -> Guard:
    """Return the guard that counts a quantity and records its usage event before each call.

    What was counted stays so when the call fails. To have both or neither, call
    ``check_and_record(connection=…)`` inside the transaction of the work instead.

    Args:
        resource: a meter, or what a tracker counts, see :class:`EntitlementEnforcer`.
        quantity: of each call.
    """

    def check(guards: Guards, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pending:
        amount = quantity(*args, **kwargs) if callable(quantity) else quantity
        return guards.enforcer.check_and_record(resource, amount)

    return Guard(check)


check_device_limit: Final = Guard(lambda guards, _args, _kwargs: guards.device_limit())
"""Guards what adds a device: one more must fit the license's limit."""
require_active_subscription: Final = Guard(lambda guards, _args, _kwargs: guards.subscription())
"""Guards what needs a license in force: active, on trial, or in grace."""


async def get_entitlement_enforcer() -> EntitlementEnforcer:
    """FastAPI dependency: the enforcer of this service.

    Raises:
        BillingProviderError: the guards are not open.
    """
    return current_guards().enforcer


async def get_usage_tracker() -> UsageTracker:
    """FastAPI dependency: the tracker of this service.

    Raises:
        BillingProviderError: the guards are not open.
    """
    return current_guards().tracker


async def check_entitlement_or_raise(resource: str, quantity: Amount = 1) -> Answer:
    """Return whether a quantity would be allowed now; nothing is counted or recorded.

    Raises:
        EntitlementEnforcementError: it does not fit.
        InvalidInputError: no such resource or quantity.
        BillingProviderError: the database does not answer.
    """
    guards = current_guards()
    return await guards.await_here(guards.enforcer.check_entitlement_or_raise(resource, quantity))
