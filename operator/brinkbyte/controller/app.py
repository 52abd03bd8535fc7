"""kopf registration, nothing else: watch events put keys on the queue.

kopf watches, authenticates and answers probes; camera licenses and Secrets have watches of our own.
It never writes: there are only ``on.event``
handlers, which need neither finalizers nor annotations.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx
from prometheus_client import start_http_server

from brinkbyte.controller import finalize, instance_poll, members, reconcile_tenant
from brinkbyte.controller.cluster import Cluster
from brinkbyte.controller.connection import Connection
from brinkbyte.controller.context import BillingClients, Context
from brinkbyte.controller.events import EventSink
from brinkbyte.controller.feed import Feed
from brinkbyte.controller.kopf_storage import NoDiffBase, NoProgress
from brinkbyte.controller.lean_kopf import kopf
from brinkbyte.controller.metrics import Metrics
from brinkbyte.controller.queue import Key, WorkQueue
from brinkbyte.controller.settings import OperatorSettings
from brinkbyte.controller.watching import Watcher
from brinkbyte.kit.logging import get_logger
from brinkbyte.resources import names
from brinkbyte.trust import TrustRoots

_log = get_logger(__name__)

OUR_KINDS: Final = ("tenants", "edgedevices")
CHILD_KINDS: Final = (
    ("", "v1", "services"),
    ("", "v1", "serviceaccounts"),
    ("apps", "v1", "statefulsets"),
    ("apps", "v1", "deployments"),
    ("batch", "v1", "cronjobs"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("networking.k8s.io", "v1", "networkpolicies"),
    ("networking.k8s.io", "v1", "ingresses"),
)
"""Kinds that kopf watches."""
SELECTOR: Final = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
WATCHED: Final = {"CameraLicense": "", "Secret": SELECTOR}
"""Kinds that come by the ten thousand, and their selectors: see ``watching``."""
_RECONCILES: Final[Mapping[str, Callable[[Context, Key], Awaitable[float | None]]]] = {
    "Tenant": reconcile_tenant.reconcile,
    "Members": members.reconcile,
    "EdgeDevice": members.reconcile_member,
    "CameraLicense": members.reconcile_member,
    "State": instance_poll.reconcile,
    "Identity": finalize.reconcile_identity,
}
_STUCK_SECONDS: Final = 60.0


class Operator:
    """One operator: its dependencies, its queue, its kopf registry.

    Args:
        settings: what it is started with.
        roots: root public keys of the release.
        connection: the cluster.
    """

    def __init__(
        self, settings: OperatorSettings, roots: TrustRoots, connection: Connection
    ) -> None:
        self.settings = settings
        self.roots = roots
        self.connection = connection
        self.metrics = Metrics()
        self.context: Context | None = None
        self.queue: WorkQueue | None = None
        self.registry = kopf.OperatorRegistry()
        self._feed: Feed | None = None
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._register()

    async def run(self, *, stop: asyncio.Event | None = None) -> None:
        """Serve until told to stop.

        Args:
            stop: ends the operator when set; without it, signals do.
        """
        quiet_kopf()
        namespaces = self.settings.namespaces
        port = self.settings.health_port
        # Found out by kopf it would need a user name, which a pod with a bare uid does not have.
        identity: Any = names.MANAGED_BY
        await kopf.operator(
            registry=self.registry,
            identity=identity,
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            liveness_endpoint=f"http://0.0.0.0:{port}/healthz" if port else None,
            stop_flag=stop,
        )

    # ---- kopf ----------------------------------------------------------------------------------

    def _register(self) -> None:
        registry = self.registry
        kopf.on.startup(registry=registry)(self._startup)
        kopf.on.cleanup(registry=registry)(self._cleanup)
        kopf.on.login(registry=registry)(self._login)
        kopf.on.probe(id="queue", registry=registry)(self._probe)
        for plural in OUR_KINDS:
            kopf.on.event(names.GROUP, names.VERSION, plural, registry=registry)(self._event)
        for group, version, plural in CHILD_KINDS:
            kopf.on.event(group, version, plural, registry=registry)(self._event)

    def _add(self, key: Key, delay: float) -> None:
        if self.queue is not None:
            self.queue.add(key, delay)

    async def _login(self, **_: Any) -> kopf.ConnectionInfo:
        return await self.connection.kopf_info()

    async def _startup(self, settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)
        cluster = Cluster(self.connection, self.metrics)
        self._stack.push_async_callback(cluster.close)
        http = await self._stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        billing = BillingClients()
        self._stack.push_async_callback(billing.close)
        events = EventSink(cluster)
        context = Context(
            settings=self.settings,
            cluster=cluster,
            metrics=self.metrics,
            events=events,
            roots=self.roots,
            billing=billing,
            http=http,
            add=self._add,
        )
        queue = WorkQueue(
            lambda key: _RECONCILES[key.what](context, key),
            clock=context.monotonic,
            observe=self._observe,
        )
        self.context, self.queue = context, queue
        self._feed = Feed(queue.add, self.metrics, self.settings.operator_namespace, context.roster)
        self.metrics.queue_depth.set_function(lambda: queue.depth)
        self.metrics.running.set_function(lambda: queue.running)
        if self.settings.metrics_port:
            server, _thread = start_http_server(
                self.settings.metrics_port, registry=self.metrics.registry
            )
            self._stack.callback(server.server_close)
            self._stack.callback(server.shutdown)
        watchers = [
            Watcher(cluster, kind, namespace, labels=labels, sink=self._feed)
            for namespace in self.settings.namespaces or (None,)
            for kind, labels in WATCHED.items()
        ]
        for watcher in watchers:
            context.roster.expect(watcher.kind, watcher.namespace)
        self._tasks = [
            asyncio.create_task(run())
            for run in (queue.run, events.run, *(each.run for each in watchers))
        ]
        _log.info("started", server=self.connection.server)

    async def _cleanup(self, **_: Any) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for memory in self.context.tenants.values() if self.context else ():
            memory.drop()
        await self._stack.aclose()

    async def _probe(self, **_: Any) -> float:
        """Return how long ago the queue was last looked at; stuck: the pod is to be restarted."""
        if self.queue is None:
            return 0.0
        beat = self.queue.seconds_since_beat
        if beat > _STUCK_SECONDS or any(task.done() for task in self._tasks):
            raise RuntimeError("the work queue has stopped")
        return beat

    async def _event(self, event: Mapping[str, Any], **_: Any) -> None:
        if self._feed is not None:
            self._feed.take(event["type"], event["object"])

    def _observe(self, key: Key, seconds: float, ok: bool) -> None:
        result = "ok" if ok else "error"
        self.metrics.reconcile_seconds.labels(key.what, result).observe(seconds)


def quiet_kopf() -> None:
    """Keep kopf's line for every event out of the log; its warnings stay."""
    for name in ("kopf.objects", "kopf.activities", "kopf._core", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


def configure(settings: kopf.OperatorSettings) -> None:
    """Set kopf up: silent, patient, with a finalizer of our own name and nothing to store."""
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.networking.request_timeout = 30
    settings.watching.inactivity_timeout = 70
    settings.persistence.finalizer = f"{names.GROUP}/kopf"
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.diffbase_storage = NoDiffBase()
    for group, version, plural in CHILD_KINDS:
        settings.watching.label_selectors[group, version, plural] = SELECTOR
