"""An ASGI application of this process on a real loopback port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from support.processes import free_port


@asynccontextmanager
async def served(app: Any, *, port: int | None = None) -> AsyncIterator[int]:
    """Serve until the block ends; the value is the port. The caller runs the app's lifespan."""
    chosen = port or free_port()
    config = uvicorn.Config(
        app, port=chosen, lifespan="off", ws="none", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # pytest's own stay
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                task.result()
                raise RuntimeError("the server ended")
            await asyncio.sleep(0.01)
        yield chosen
    finally:
        server.should_exit = True
        await task


class _no_signals:  # noqa: N801 - stands in for a function
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass
