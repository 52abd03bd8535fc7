"""Token buckets: how often one credential, and one address, may call.

Kept in Redis when there is one, so that all servers count together; in this process without it, or
while it does not answer: losing it costs precision only.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.types import ASGIApp, Receive, Scope, Send

from brinkbyte.kit.logging import get_logger
from brinkbyte.kit.problem import problem

EXEMPT: Final = frozenset({"/health", "/stats", "/metrics"})
SIGN_IN: Final = "/api/account/sign-in"
GATEWAY: Final = "/api/v1/gateway/"
"""One credential asks here for each call of all its customers."""
_GATEWAY_TIMES: Final = 25
_REMEMBERED: Final = 50_000
_PAUSE_SECONDS: Final = 5.0
_log = get_logger(__name__)

# KEYS: buckets; ARGV: for each its rate per second and its size. Takes one token of each, or none.
# Returns how many seconds to wait, as text: 0 when the tokens were taken.
_SCRIPT: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local levels, wait = {}, 0
for i, key in ipairs(KEYS) do
  local rate, size = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local held = redis.call('HMGET', key, 'level', 'at')
  local level = tonumber(held[1] or size)
  level = math.min(size, level + math.max(0, now - tonumber(held[2] or now)) * rate)
  levels[i] = level
  if level < 1 then wait = math.max(wait, (1 - level) / rate) end
end
for i, key in ipairs(KEYS) do
  local rate, size = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local level = levels[i]
  if wait == 0 then level = level - 1 end
  redis.call('HSET', key, 'level', string.format('%.6f', level), 'at', string.format('%.6f', now))
  redis.call('EXPIRE', key, math.ceil(size / rate) + 1)
end
return string.format('%.3f', wait)
"""


@dataclass(frozen=True)
class Bucket:
    """One bucket: tokens come back at ``rate`` a second, up to ``size``."""

    name: str
    rate: float
    size: float


class Limiter:
    """Takes a token of each of a call's buckets.

    Args:
        per_second: calls of one credential; an address has five times as many, sign-in is limited
            apart; 0 limits nothing.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        per_second: float,
        *,
        redis: Redis | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.per_second = per_second
        self.redis = redis
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._paused_until = -math.inf

    def buckets(self, path: str, credential: str | None, address: str) -> list[Bucket]:
        """Return the buckets of a call."""
        if self.per_second <= 0 or path in EXEMPT:
            return []
        rate = self.per_second * (_GATEWAY_TIMES if path.startswith(GATEWAY) else 1)
        area = "gateway-" if path.startswith(GATEWAY) else ""
        found = [Bucket(f"{area}address:{address}", 5 * rate, 50 * rate)]
        if credential is not None:
            digest = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()[:32]
            found.append(Bucket(f"{area}credential:{digest}", rate, 10 * rate))
        if path.startswith(SIGN_IN):
            found.append(Bucket(f"sign-in:{address}", 1 / 3, 20))
        return found

    async def take(self, buckets: Sequence[Bucket]) -> float:
        """Take a token of each, or of none; returns the seconds to wait, 0 when they were taken."""
        if not buckets:
            return 0.0
        if self.redis is not None and self._clock() >= self._paused_until:
            try:
                return await self._take_shared(self.redis, buckets)
            except (RedisError, OSError, TimeoutError) as error:
                self._paused_until = self._clock() + _PAUSE_SECONDS
                _log.warning("rate limits are counted in this process", error=str(error))
        return self._take_own(buckets)

    async def _take_shared(self, redis: Redis, buckets: Sequence[Bucket]) -> float:
        arguments: list[Any] = [f"brinkbyte:rate:{bucket.name}" for bucket in buckets]
        for bucket in buckets:
            arguments += [bucket.rate, bucket.size]
        found: Any = await redis.eval(_SCRIPT, len(buckets), *arguments)
        return float(found)

    def _take_own(self, buckets: Sequence[Bucket]) -> float:
        now = self._clock()
        levels: list[float] = []
        wait = 0.0
        for bucket in buckets:
            level, at = self._levels.get(bucket.name, (bucket.size, now))
            level = min(bucket.size, level + max(0.0, now - at) * bucket.rate)
            levels.append(level)
            if level < 1:
                wait = max(wait, (1 - level) / bucket.rate)
        for bucket, level in zip(buckets, levels, strict=True):
            self._levels[bucket.name] = (level - 1 if wait == 0 else level, now)
            self._levels.move_to_end(bucket.name)
        while len(self._levels) > _REMEMBERED:
            self._levels.popitem(last=False)
        return wait


class RateLimits:
    """ASGI middleware: 429 ``TooManyRequests`` with ``Retry-After`` once a bucket is empty."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the call through, or answer 429."""
        if scope["type"] == "http":
            limiter: Limiter = scope["app"].state.limiter
            client = scope.get("client")
            address = str(client[0]) if client else "unknown"
            wait = await limiter.take(limiter.buckets(scope["path"], _credential(scope), address))
            if wait > 0:
                seconds = max(1, math.ceil(wait))
                answer = problem(
                    429,
                    f"too many calls at once; wait {seconds} s and send it again",
                    reason="TooManyRequests",
                    headers={"Retry-After": str(seconds)},
                )
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _credential(scope: Scope) -> str | None:
    cookie = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            text: str = value.decode("latin-1")
            return text
        if name == b"cookie":
            cookie = value.decode("latin-1")
    return cookie
