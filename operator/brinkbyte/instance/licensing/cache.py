"""The Redis tier: raw signed documents, shared by replicas. Losing it costs speed only.

Nothing is believed because it stands in Redis: what is read is verified like any other document.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import redis.asyncio as redis
from redis.exceptions import RedisError

from brinkbyte.kit.logging import get_logger
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.documents import ORDER

_KEPT_SECONDS: Final = 86_400
_TIMEOUT_SECONDS: Final = 0.5
_REST_SECONDS: Final = 5.0
_Encodable: TypeAlias = "bytes | bytearray | memoryview[int] | str | int | float"
_log = get_logger(__name__)


class DocumentCache:
    """Signed documents in Redis; every failure is an empty answer and a short rest.

    Args:
        url: returns the URL of Redis as it is now, None without Redis.
        prefix: of every key.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        url: Callable[[], str | None],
        *,
        prefix: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._key = f"{prefix}:documents"
        self._monotonic = monotonic
        self._client: redis.Redis | None = None
        self._client_url: str | None = None
        self._rest_until = float("-inf")
        self.failures = 0

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = self._client_url = None

    async def newer(self, held: Mapping[TokenKind, int]) -> dict[TokenKind, str]:
        """Return the cached documents that say to be newer than the given sequences."""
        client = await self._ready()
        if client is None:
            return {}
        try:
            numbers = await client.hmget(self._key, [f"{kind.value}:sequence" for kind in ORDER])
            newer = [
                kind
                for kind, number in zip(ORDER, numbers, strict=True)
                if number is not None and number.isdigit() and int(number) > held[kind]
            ]
            if not newer:
                return {}
            texts = await client.hmget(self._key, [kind.value for kind in newer])
        except (RedisError, OSError) as error:
            self._rest(error)
            return {}
        return {
            kind: text if isinstance(text, str) else text.decode("ascii", "replace")
            for kind, text in zip(newer, texts, strict=True)
            if text is not None
        }

    async def store(self, documents: Mapping[TokenKind, tuple[int, str]]) -> None:
        """Keep documents with their sequences; a failure is forgotten."""
        client = await self._ready()
        if client is None or not documents:
            return
        fields: dict[_Encodable, _Encodable] = {}
        for kind, (sequence, text) in documents.items():
            fields |= {kind.value: text, f"{kind.value}:sequence": str(sequence)}
        try:
            async with client.pipeline(transaction=True) as pipeline:
                pipeline.hset(self._key, mapping=fields)
                pipeline.expire(self._key, _KEPT_SECONDS)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            self._rest(error)

    async def _ready(self) -> redis.Redis | None:
        if self._monotonic() < self._rest_until:
            return None
        url = self._url()
        if url != self._client_url:
            await self.aclose()
            if url is not None:
                try:
                    self._client = redis.Redis.from_url(
                        url,
                        socket_timeout=_TIMEOUT_SECONDS,
                        socket_connect_timeout=_TIMEOUT_SECONDS,
                    )
                except ValueError as error:
                    self._rest(error)
                    return None
                self._client_url = url
        return self._client

    def _rest(self, error: Exception) -> None:
        self.failures += 1
        self._rest_until = self._monotonic() + _REST_SECONDS
        _log.warning("redis is passed over for a while", error=type(error).__name__)
