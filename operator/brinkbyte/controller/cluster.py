"""The only place that talks to Kubernetes.

Writes are server-side applies, sent only where live differs from desired over the fields we own;
Secrets that come by the ten thousand are created.
An object whose controller owner is another is never touched. PATCH is retried like everything
else that may be repeated; writes share one semaphore so that a burst does not starve the API.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp

from brinkbyte.controller.compare import applied_fields, differences
from brinkbyte.controller.connection import Connection
from brinkbyte.controller.kinds import KINDS
from brinkbyte.controller.metrics import Metrics
from brinkbyte.controller.ownership import check_owner
from brinkbyte.controller.strays import strays
from brinkbyte.kit.errors import PermanentError, TemporaryError
from brinkbyte.kit.logging import get_logger
from brinkbyte.resources.names import FIELD_MANAGER

_log = get_logger(__name__)

Object = dict[str, Any]

_TRIES: Final = 5
_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_LONGEST_PAUSE: Final = 10.0
_PARALLEL_WRITES: Final = 24
"""On a busy API server this is also our share beside whoever creates the objects."""
_CONNECTIONS: Final = 30
"""Each has a buffer of 256 KiB."""
_WRITTEN: Final = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Ignore"}
"""The API server reads what it gets a second time to warn of fields; nobody would hear of it."""
_APPLIED: Final = {**_WRITTEN, "force": "true"}
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=5)
_PAGE: Final = 250
_SILENCE_SECONDS: Final = 70.0
"""A watch without even a bookmark for so long is taken for dead."""
_WATCH_TIMEOUT: Final = aiohttp.ClientTimeout(
    total=None, sock_connect=5, sock_read=_SILENCE_SECONDS
)


class ClusterRefusedError(PermanentError):
    """The Kubernetes API refuses what we sent.

    ``details`` has ``status`` (HTTP) and ``kubernetesReason``.
    """


class ClusterUnreachableError(TemporaryError):
    """The Kubernetes API does not answer, or asks to wait."""


class Cluster:
    """Client of one cluster.

    Args:
        connection: address and credentials.
        metrics: every request is counted by verb and kind.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        connection: Connection,
        metrics: Metrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connection = connection
        self._sleep = sleep
        self._metrics = metrics
        self._writes = asyncio.Semaphore(_PARALLEL_WRITES)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=connection.ssl_context),
            timeout=_TIMEOUT,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    # ---- reading -----------------------------------------------------------------------------

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """Return an object, or None when there is none of that name."""
        try:
            return await self._request("GET", kind, KINDS[kind].path(namespace, name))
        except ClusterRefusedError as error:
            # A proxy in between has a 404 of its own: only the API server can say that it is gone.
            if error.details.get("kubernetesReason") == "NotFound":
                return None
            raise

    async def list(self, kind: str, namespace: str | None, *, labels: str = "") -> list[Object]:
        """Return the objects of a namespace (None: of all) that a label selector matches."""
        query = {"labelSelector": labels} if labels else {}
        answer = await self._request("LIST", kind, KINDS[kind].path(namespace), query=query)
        return _items(kind, answer)

    async def pages(
        self, kind: str, namespace: str | None, *, labels: str = ""
    ) -> AsyncIterator[tuple[Sequence[Object], str]]:
        """Yield the same page by page, each with the version of the whole list.

        Raises:
            ClusterRefusedError: status 410 when the list is too old to go on with.
        """
        query = {"limit": str(_PAGE)} | ({"labelSelector": labels} if labels else {})
        while True:
            answer = await self._request("LIST", kind, KINDS[kind].path(namespace), query=query)
            meta = answer.get("metadata", {})
            yield _items(kind, answer), str(meta.get("resourceVersion", ""))
            if not meta.get("continue"):
                return
            query["continue"] = meta["continue"]

    async def watch(
        self, kind: str, namespace: str | None, *, labels: str, since: str, seconds: int
    ) -> AsyncIterator[tuple[str, Object]]:
        """Yield what happens after a version: (ADDED, MODIFIED, DELETED or BOOKMARK, the object).

        Args:
            kind: what to watch.
            namespace: where; None: everywhere.
            labels: selector.
            since: version of a list, or of the last event.
            seconds: after which the server ends it.

        Raises:
            ClusterRefusedError: status 410 when the version is too old.
            ClusterUnreachableError: the line broke, or was silent.
        """
        query = {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": since,
            "timeoutSeconds": str(seconds),
        } | ({"labelSelector": labels} if labels else {})  # fmt: skip
        url = f"{self._connection.server}{KINDS[kind].path(namespace)}?{urlencode(query)}"
        headers = {"Accept": "application/json", **await self._connection.headers()}
        self._metrics.requests.labels("watch", kind).inc()
        try:
            async with self._session.get(url, headers=headers, timeout=_WATCH_TIMEOUT) as response:
                if response.status >= 400:
                    text = await response.read()
                    raise _refusal(response.status, text, None, f"watch {kind}")
                async for line in _lines(response.content):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        code = int(event["object"].get("code", 500))
                        text = json.dumps(event["object"]).encode()
                        raise _refusal(code, text, None, f"watch {kind}")
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterUnreachableError(
                f"the watch of {kind} broke ({error or type(error).__name__})"
            ) from None

    # ---- writing -----------------------------------------------------------------------------

    async def apply(self, desired: Object, *, live: Object | None) -> Object:
        """Bring an object to what is desired; send nothing when it is so already.

        Args:
            desired: everything of the object that we own.
            live: the object as it was just read; None: there is none.

        Returns:
            the object as it is now.

        Raises:
            NameConflictError: it belongs to somebody else.
            ClusterRefusedError: the API refuses it.
            TemporaryError: the API does not answer, or a former owner's object is still going.
        """
        kind, meta = desired["kind"], desired["metadata"]
        if live is not None:
            check_owner(desired, live)
            if live["metadata"].get("deletionTimestamp"):
                return live
            changed = differences(desired, live)
            if not changed:
                return live
            _log.info(
                "putting right",
                kind=kind,
                namespace=meta.get("namespace"),
                name=meta["name"],
                fields=changed[:8],
            )
            self._metrics.drift.labels(kind).inc()
            await self._prepare(desired, live)
        return await self._request(
            "APPLY",
            kind,
            KINDS[kind].path(meta.get("namespace"), meta["name"]),
            query=_APPLIED,
            body=desired,
        )

    async def apply_new(self, desired: Object) -> Object:
        """Create an object that is not there by all we know; :meth:`apply` if it is.

        It costs no look first, and never takes over what came there a moment ago. Only for kinds of
        which the API fills in nothing that is not desired: who creates owns that, too, and it would
        be put right for ever.
        """
        try:
            return await self._create(desired, repeat=True)
        except ClusterRefusedError as error:
            if error.details.get("kubernetesReason") != "AlreadyExists":
                raise
        return await self.ensure(desired)

    async def _prepare(self, desired: Object, live: Object) -> None:
        """Take out of an object what an apply would leave there."""
        replaced = [
            {"op": "replace", "path": path, "value": value}
            for path, value in (*strays(desired, live), *applied_fields(live))
        ]
        if not replaced:
            return
        kind, meta = desired["kind"], live["metadata"]
        same = {"op": "test", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]}
        try:
            await self._request(
                "PATCH",
                kind,
                KINDS[kind].path(meta.get("namespace"), meta["name"]),
                query={"fieldManager": FIELD_MANAGER},
                body=[same, *replaced],
                content_type="application/json-patch+json",
            )
        except ClusterRefusedError as error:
            raise TemporaryError(
                f"{kind} {meta['name']} changes under our hands: {error.message}",
                reason="Pending",
                retry_after=1.0,
            ) from None

    async def ensure(self, desired: Object) -> Object:
        """Read an object, then :meth:`apply`."""
        meta = desired["metadata"]
        live = await self.get(desired["kind"], meta.get("namespace"), meta["name"])
        return await self.apply(desired, live=live)

    async def apply_status(self, live: Object, status: Object) -> Object | None:
        """Replace the status of the very object that was read (its uid).

        Returns:
            the object as it is now; None: it is gone.
        """
        kind, meta = live["kind"], live["metadata"]
        path = KINDS[kind].path(meta["namespace"], meta["name"], "status")
        body = {
            "apiVersion": live["apiVersion"],
            "kind": kind,
            "metadata": {
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
            "status": status,
        }
        try:
            written = await self._request(
                "APPLY",
                f"{kind}/status",
                path,
                query=_APPLIED,
                body=body,
            )
        except ClusterRefusedError as error:
            if error.details.get("status") not in {404, 409}:
                raise
            return None  # gone, or another object of the same name by now: nothing to tell
        if written.get("status", status) == status:
            return written
        return await self._replace_status(kind, path, written, status)

    async def _replace_status(
        self, kind: str, path: str, written: Object, status: Object
    ) -> Object | None:
        """Take out of a status what somebody else has put in, which an apply leaves there."""
        version = written["metadata"]["resourceVersion"]
        try:
            return await self._request(
                "PATCH",
                f"{kind}/status",
                path,
                query={"fieldManager": FIELD_MANAGER},
                body=[
                    {"op": "test", "path": "/metadata/resourceVersion", "value": version},
                    {"op": "replace", "path": "/status", "value": status},
                ],
                content_type="application/json-patch+json",
            )
        except ClusterRefusedError:
            return written  # it has changed again: so it comes again

    async def patch(
        self, kind: str, namespace: str, name: str, body: Object, *, missing_ok: bool = True
    ) -> Object | None:
        """Send a JSON merge patch, for the few fields that are not ours to apply."""
        try:
            return await self._request(
                "PATCH",
                kind,
                KINDS[kind].path(namespace, name),
                query={"fieldManager": FIELD_MANAGER},
                body=body,
                content_type="application/merge-patch+json",
            )
        except ClusterRefusedError as error:
            if missing_ok and error.details.get("status") == 404:
                return None
            raise

    async def delete(
        self, kind: str, namespace: str, name: str, *, uid: str = "", orphan: bool = False
    ) -> None:
        """Delete an object if it (with this uid, when given) still is there."""
        body: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Orphan" if orphan else "Background",
        }
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._request(
                "DELETE",
                kind,
                KINDS[kind].path(namespace, name),
                body=body,
                content_type="application/json",
            )
        except ClusterRefusedError as error:
            if error.details.get("status") not in {404, 409}:
                raise

    async def create(self, body: Object) -> Object:
        """Create an object whose name the API makes (``generateName``) or that never repeats."""
        return await self._create(body, repeat=False)

    async def _create(self, body: Object, *, repeat: bool) -> Object:
        kind = body["kind"]
        return await self._request(
            "CREATE",
            kind,
            KINDS[kind].path(body["metadata"]["namespace"]),
            query=_WRITTEN,
            body=body,
            content_type="application/json",
            repeat=repeat,
        )

    # ---- on the wire -------------------------------------------------------------------------

    async def _request(
        self,
        verb: str,
        kind: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | Sequence[Object] | None = None,
        content_type: str = "application/apply-patch+yaml",
        repeat: bool = True,
    ) -> Object:
        method = {"LIST": "GET", "APPLY": "PATCH", "CREATE": "POST"}.get(verb, verb)
        url = self._connection.server + path + ("?" + urlencode(query) if query else "")
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        for attempt in range(1, _TRIES + 1):
            self._metrics.requests.labels(verb.lower(), kind).inc()
            try:
                if data is None:
                    status, text, wait = await self._send(method, url, None, "")
                else:
                    async with self._writes:
                        status, text, wait = await self._send(method, url, data, content_type)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if attempt == _TRIES or not repeat:
                    raise ClusterUnreachableError(
                        f"the Kubernetes API does not answer ({error or type(error).__name__})"
                    ) from None
                status, wait = 0, None
            else:
                if status < 400:
                    answer: Object = json.loads(text)
                    return answer
                if status not in _RETRIED or attempt == _TRIES:
                    raise _refusal(status, text, wait, f"{verb.lower()} {kind} {path}")
            pause = 0.1 * 2 ** (attempt - 1) * (0.5 + random.random())  # noqa: S311 - spreads load
            await self._sleep(min(_LONGEST_PAUSE, max(pause, wait or 0.0)))
        raise AssertionError("unreachable")

    async def _send(
        self, method: str, url: str, data: bytes | None, content_type: str
    ) -> tuple[int, bytes, float | None]:
        headers = {"Accept": "application/json", **await self._connection.headers()}
        if data is not None:
            headers["Content-Type"] = content_type
        async with self._session.request(method, url, data=data, headers=headers) as response:
            text = await response.read()
            after = response.headers.get("Retry-After", "")
            return response.status, text, float(after) if after.isdigit() else None


def _items(kind: str, answer: Object) -> list[Object]:
    """Return a list's items; it leaves out what all of them have in common."""
    items: list[Object] = answer.get("items") or []
    for item in items:
        item.setdefault("apiVersion", KINDS[kind].api_version)
        item.setdefault("kind", kind)
    return items


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield whole lines of any length; the reader's own way has a limit below a seat list."""
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line


def _refusal(status: int, text: bytes, wait: float | None, what: str) -> Exception:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    message = str(answer.get("message") or text[:200].decode("utf-8", "replace"))
    if status in _RETRIED or status == 401:
        return ClusterUnreachableError(
            f"the Kubernetes API cannot do it now ({status}): {message}", retry_after=wait
        )
    return ClusterRefusedError(
        f"the Kubernetes API refuses to {what}: {message}",
        reason="KubernetesRefused",
        status=status,
        kubernetesReason=str(answer.get("reason", "")),
    )
