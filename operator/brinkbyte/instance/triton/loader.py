"""The model loader: pod by pod, makes the loaded models exactly the licensed ones.

Level-triggered: each pass looks at what is there and does what is missing, so passes of several
replicas, killed passes and new pods need no agreement.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from brinkbyte.instance.triton.client import ModelLoadError, TritonClient, TritonUnavailableError
from brinkbyte.kit.logging import get_logger
from brinkbyte.resources.state import TritonState

Resolve = Callable[[str, int], Awaitable[list[str]]]
_LOADS_AT_ONCE: Final = 4
_PASS_SECONDS: Final = 5.0
_log = get_logger(__name__)


async def resolve(host: str, port: int) -> list[str]:
    """Return the base URL of every address that a name resolves to; none when it does not."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    addresses = sorted({str(entry[4][0]) for entry in found})
    return [
        f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
        for address in addresses
    ]


@dataclass(frozen=True)
class Pod:
    """One Triton server as the last pass left it; ``error`` when it could not be dealt with."""

    base: str
    ready: frozenset[str] = field(default=frozenset())
    absent: frozenset[str] = field(default=frozenset())
    error: str = ""


class ModelLoader:
    """Loads and unloads.

    Args:
        client: speaks to the servers.
        host: name that resolves to every server.
        port: of their HTTP API.
        licensed: returns the models that may be loaded now.
        resolver: finds the servers.
    """

    def __init__(
        self,
        client: TritonClient,
        *,
        host: str,
        port: int,
        licensed: Callable[[], frozenset[str]],
        resolver: Resolve = resolve,
    ) -> None:
        self._client = client
        self._host = host
        self._port = port
        self._licensed = licensed
        self._resolve = resolver
        self.pods: tuple[Pod, ...] = ()
        self._looked = False
        self._at_work: dict[str, asyncio.Task[None]] = {}

    async def run_once(self) -> None:
        """Compare every pod with the license, and load and unload where they differ.

        Each pod is a task of its own: one that takes long, or hangs, goes on after this pass and
        holds up no other.
        """
        bases = await self._resolve(self._host, self._port)
        licensed = self._licensed()
        held = {pod.base: pod for pod in self.pods}
        self.pods = tuple(held.get(base, Pod(base)) for base in bases)
        self._looked = True
        for base in self._at_work.keys() - set(bases):
            self._at_work.pop(base).cancel()
        for base in bases:
            task = self._at_work.get(base)
            if task is None or task.done():
                self._at_work[base] = asyncio.create_task(self._follow(base, licensed))
        if self._at_work:
            done, _ = await asyncio.wait(self._at_work.values(), timeout=_PASS_SECONDS)
            for task in done:
                task.result()

    async def aclose(self) -> None:
        """End what is still at work."""
        tasks = list(self._at_work.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, base: str, licensed: frozenset[str]) -> None:
        self._publish(await self._bring_up(base, licensed))

    def _publish(self, pod: Pod) -> None:
        self.pods = tuple(pod if held.base == pod.base else held for held in self.pods)

    async def _bring_up(self, base: str, licensed: frozenset[str]) -> Pod:
        errors: list[str] = []
        try:
            models = await self._client.models(base)
            # What is no longer licensed goes first: enforcement before service.
            for model in sorted(name for name, ready in models.items() if ready):
                if model not in licensed:
                    await self._change(base, model, "unload", errors)
            # Several at once: a load is mostly the start of the model's own process.
            places = asyncio.Semaphore(_LOADS_AT_ONCE)

            async def load(model: str) -> None:
                async with places:
                    await self._change(base, model, "load", errors)

            wanted = [model for model in sorted(licensed.intersection(models)) if not models[model]]
            await asyncio.gather(*(load(model) for model in wanted))
            models = await self._client.models(base)
        except TritonUnavailableError as error:
            if not any(pod.base == base and pod.error for pod in self.pods):
                _log.warning("triton cannot be brought up to date", base=base, reason=error.reason)
            return Pod(base, error=error.message)
        ready = frozenset(name for name, is_ready in models.items() if is_ready)
        return Pod(base, ready, frozenset(licensed.difference(models)), "; ".join(errors))

    async def _change(self, base: str, model: str, change: str, errors: list[str]) -> None:
        try:
            if change == "load":
                await self._client.load(base, model)
            else:
                await self._client.unload(base, model)
            _log.info("triton model changed", base=base, model=model, change=change)
        except ModelLoadError as error:
            _log.warning("triton model cannot be changed", model=model, error=error.message)
            errors.append(error.message)

    def servers_of(self, model: str) -> list[str]:
        """Return the servers that have a model ready, as the last pass saw them."""
        return [pod.base for pod in self.pods if model in pod.ready]

    @property
    def state(self) -> TritonState:
        """Ready: every licensed model is ready on every pod, and no other is loaded."""
        licensed = self._licensed()
        if not self._looked:
            return TritonState(
                ready=False, message="Triton was not looked at yet", missing=_sorted(licensed)
            )
        if not self.pods:
            return TritonState(
                ready=False,
                message=f"{self._host} resolves to no Triton pod; wait for one, or look at the "
                "Triton Deployment",
                missing=_sorted(licensed),
            )
        everywhere = frozenset.intersection(*(pod.ready for pod in self.pods))
        anywhere = frozenset.union(*(pod.ready for pod in self.pods))
        missing, extra = licensed - everywhere, anywhere - licensed
        error = next((pod.error for pod in self.pods if pod.error), "")
        absent = frozenset[str]().union(*(pod.absent for pod in self.pods))
        if error:
            message = error
        elif absent:
            message = (
                f"the model repository lacks {', '.join(sorted(absent))}; write it again with "
                "`brinkbyte instance models`"
            )
        elif missing:
            message = f"loading {', '.join(sorted(missing))}"
        elif extra:
            message = f"unloading {', '.join(sorted(extra))}"
        else:
            message = f"{len(licensed)} licensed models are ready on {len(self.pods)} pods"
        return TritonState(
            ready=not (missing or extra or error),
            message=message,
            loaded=_sorted(everywhere),
            missing=_sorted(missing),
        )


def _sorted(names: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(names))
