"""The outer layer: rate limits, body sizes, headers, and errors that are all of one kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from redis.asyncio import Redis

from brinkbyte.billing.http import read_body
from brinkbyte.billing.rate_limits import Bucket, Limiter, RateLimits
from brinkbyte.billing.shield import Shield
from brinkbyte.kit.problem import install_problem_handlers
from services.billing.site import reason
from support.redis import RedisServer, redis_server, redis_url

__all__ = ["redis_server", "redis_url"]


class Ticks:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def client(app: FastAPI, address: str = "192.0.2.1", **more: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 1), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, **{"base_url": "http://api", **more})


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def app(ticks: Ticks) -> FastAPI:
    made = FastAPI()
    made.state.limiter = Limiter(2, clock=ticks)
    install_problem_handlers(made)
    made.add_middleware(RateLimits)
    made.add_middleware(Shield, limit=1000)

    @made.get("/things")
    async def things() -> dict[str, str]:
        return {}

    @made.post("/things")
    async def take(request: Request) -> int:
        return len(await read_body(request, 10_000))

    @made.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret inside")

    @made.get("/health")
    async def health() -> str:
        return "ok"

    @made.post("/api/account/sign-in")
    async def sign_in() -> str:
        return "ok"

    return made


async def test_a_credential_has_its_rate_and_its_burst(app: FastAPI, ticks: Ticks) -> None:
    async with client(app, headers={"authorization": "Bearer a"}) as http:
        for _ in range(20):
            assert (await http.get("/things")).status_code == 200
        answer = await http.get("/things")
        assert reason(answer) == (429, "TooManyRequests")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-content-type-options"] == "nosniff"
        # Another credential of the same address goes on, and so do probes.
        other = await http.get("/things", headers={"authorization": "Bearer b"})
        assert other.status_code == 200
        assert (await http.get("/health")).status_code == 200
        ticks.now += 0.6
        assert (await http.get("/things")).status_code == 200
        assert (await http.get("/things")).status_code == 429


async def test_an_address_has_a_rate_over_all_its_credentials(app: FastAPI) -> None:
    async with client(app) as http:
        codes = [
            (await http.get("/things", headers={"authorization": f"Bearer {n}"})).status_code
            for n in range(110)
        ]
    assert codes == [200] * 100 + [429] * 10
    async with client(app, "192.0.2.2") as http:
        assert (await http.get("/things")).status_code == 200


async def test_sign_in_has_a_rate_of_its_own(app: FastAPI) -> None:
    async with client(app) as http:
        codes = [(await http.post("/api/account/sign-in")).status_code for _ in range(22)]
        assert codes == [200] * 20 + [429] * 2
        assert (await http.get("/things")).status_code == 200


async def test_nothing_is_limited_when_the_rate_is_zero(app: FastAPI) -> None:
    app.state.limiter = Limiter(0)
    async with client(app) as http:
        for _ in range(150):
            assert (await http.get("/things")).status_code == 200


async def test_servers_with_a_redis_count_together(redis_url: str) -> None:
    buckets = [Bucket("credential:x", 2, 5), Bucket("address:y", 100, 1000)]
    async with Redis.from_url(redis_url) as one, Redis.from_url(redis_url) as two:
        servers = [Limiter(2, redis=one), Limiter(2, redis=two)]
        waits = [await servers[n % 2].take(buckets) for n in range(7)]
        assert waits[:5] == [0.0] * 5
        assert all(0 < wait <= 0.5 for wait in waits[5:])


async def test_a_redis_that_is_away_costs_precision_only(
    app: FastAPI, redis_server: RedisServer, redis_url: str, ticks: Ticks
) -> None:
    async with Redis.from_url(redis_url, socket_connect_timeout=0.2, socket_timeout=0.2) as redis:
        app.state.limiter = Limiter(2, redis=redis, clock=ticks)
        async with client(app, headers={"authorization": "Bearer a"}) as http:
            assert (await http.get("/things")).status_code == 200
            redis_server.kill()
            try:
                codes = [(await http.get("/things")).status_code for _ in range(22)]
            finally:
                redis_server.start()
            assert codes == [200] * 20 + [429] * 2
            ticks.now += 6
            assert (await http.get("/things")).status_code == 200


async def test_a_body_has_a_limit_announced_or_not(app: FastAPI) -> None:
    async with client(app) as http:
        assert (await http.post("/things", content=b"x" * 1000)).json() == 1000
        answer = await http.post("/things", content=b"x" * 1001)
        assert reason(answer) == (413, "BodyTooLarge")

        async def trickle() -> AsyncIterator[bytes]:
            for _ in range(11):
                yield b"x" * 100

        assert reason(await http.post("/things", content=trickle())) == (413, "BodyTooLarge")


async def test_every_error_is_a_problem_with_the_security_headers(app: FastAPI) -> None:
    async with client(app, base_url="https://api") as http:
        for method, path, expected in (
            ("GET", "/nothing", (404, "NotFound")),
            ("DELETE", "/things", (405, "MethodNotAllowed")),
            ("GET", "/broken", (500, "InternalError")),
        ):
            answer = await http.request(method, path)
            assert reason(answer) == expected
            assert "secret inside" not in answer.text
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            assert answer.headers["strict-transport-security"].startswith("max-age=")
    async with client(app) as http:
        assert "strict-transport-security" not in (await http.get("/things")).headers
