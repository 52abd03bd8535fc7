"""What every reconcile needs, made once at start; and what is remembered between reconciles.

Nothing here would be missed after a restart: all of it is read or asked for again.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from brinkbyte.client import BillingClient
from brinkbyte.controller.asking import Asking
from brinkbyte.controller.cluster import Cluster
from brinkbyte.controller.documents import CameraTokens, Documents
from brinkbyte.controller.events import EventSink
from brinkbyte.controller.gathering import Gathering
from brinkbyte.controller.identity import Identity
from brinkbyte.controller.metrics import Metrics
from brinkbyte.controller.queue import Key
from brinkbyte.controller.roster import Roster
from brinkbyte.controller.settings import OperatorSettings
from brinkbyte.controller.writing import Writing
from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.kit.errors import BrinkByteError
from brinkbyte.license.bundle import Bundle
from brinkbyte.license.wire import CameraResult, DeviceResult, InventoryAnswer
from brinkbyte.resources.state import DeviceState, InstanceState
from brinkbyte.trust import TrustRoots


@dataclass
class InventoryMemory:
    """What the billing API was told and has answered, for deltas.

    Attributes:
        revision: of the server; None: the next inventory is a complete one.
        devices: hash of what was sent, by hardware id.
        cameras: the same by camera id.
        camera_results: refusals, and licenses that have yet to be written.
        refresh_at: monotonic time of the next complete inventory.
        error: why the newest call failed, None after one that did not.
    """

    revision: int | None = None
    devices: dict[str, bytes] = field(default_factory=dict)
    cameras: dict[str, bytes] = field(default_factory=dict)
    device_results: dict[str, DeviceResult] = field(default_factory=dict)
    camera_results: dict[str, CameraResult] = field(default_factory=dict)
    answer: InventoryAnswer | None = None
    refresh_at: float = 0.0
    retry_refused_at: float = 0.0
    error: BrinkByteError | None = None


@dataclass
class CrewMemory:
    """What passes over a Tenant's cameras remember.

    Attributes:
        shown: what every camera's status depends on, as of the last pass over all of them.
        all_at: monotonic time of the next one.
        verified: under which identity and key set their tokens were verified.
        places: what cameras were judged by of each device.
        missing: names of camera licenses that should have a token that fits, and have none.
        error: reason of the failure that their status shows.
        again: names of those whose Secret could not be written.
        again_at: monotonic time at which that is tried again.
        gathering: when the next pass begins, where the last one left news for it.
    """

    shown: tuple[object, ...] = ()
    all_at: float = 0.0
    verified: tuple[object, ...] = ()
    places: dict[str, tuple[str, bool]] | None = None
    missing: set[str] = field(default_factory=set)
    error: str = ""
    again: set[str] = field(default_factory=set)
    again_at: float = 0.0
    gathering: Gathering = field(default_factory=Gathering)


@dataclass
class TenantMemory:
    """What is remembered of one Tenant.

    Attributes:
        enrolling: enrollment, or the exchange of the credential, in flight.
        taking_inventory: the newest inventory in flight.
        told: hash of the bad document that an Event was last sent about, by Secret.
        unwritten: why a Secret that the pass over devices and cameras writes is not as it should
            be, by component.
        identity: who the instance is to the billing API.
        enrollment_error: why there is none.
        documents: the newest verified documents.
        crew: what passes over its cameras remember.
        writing: cameras that are being written while the next are asked about.
        state: what the instance said last; None: it has not been asked or does not answer.
        state_error: why it does not answer.
        asked: whether the instance was asked since the operator started.
        online: online state by hardware id.
        operator_token: opens the instance's internal state.
        instance_url: base URL of the instance for the operator.
        shown: what of its state the Tenant's status was told.
        ca_secret: name of the Secret with the billing API's CA.
        ca_version: its resourceVersion when it was last read.
        bundle: the newest bundle that was taken in, while the Secret with it is there.
        bundle_at: resourceVersion of the Secret that it came from.
        bundle_secret: name of that Secret.
        bundle_version: its resourceVersion when it was last read.
        request: what the newest license request was made for, and its text.
        figures_at: monotonic time from which figures of metering are written that no report dates.
        references_at: monotonic time at which what users refer to is read again.
        seats_at: monotonic time from which a list of seats that is newer by itself is written.
        drift: a signed document in the license Secret that somebody replaced.
        drift_until: monotonic time until which that is shown.
    """

    enrolling: Asking
    taking_inventory: Asking
    uid: str = ""
    told: dict[str, str] = field(default_factory=dict)
    unwritten: dict[str, BrinkByteError] = field(default_factory=dict)
    identity: Identity | None = None
    enrollment_error: BrinkByteError | None = None
    documents: Documents = field(default_factory=Documents)
    inventory: InventoryMemory = field(default_factory=InventoryMemory)
    crew: CrewMemory = field(default_factory=CrewMemory)
    writing: Writing = field(default_factory=Writing)
    state: InstanceState | None = None
    state_error: str = ""
    state_failures: int = 0
    asked: bool = False
    online: dict[str, DeviceState] = field(default_factory=dict)
    operator_token: str = ""
    instance_url: str = ""
    shown: tuple[object, ...] = ()
    ca_secret: str = ""
    ca_version: str = ""
    bundle: Bundle | None = None
    bundle_at: str = ""
    bundle_secret: str = ""
    bundle_version: str = ""
    request: tuple[tuple[str, ...], str] = ((), "")
    figures_at: float = 0.0
    references_at: float = 0.0
    seats_at: float = 0.0
    drift: BrinkByteError | None = None
    drift_until: float = 0.0

    def newly_told(self, secret: str, text: str) -> bool:
        """Note a bad document in a Secret; return whether it is another than the last time."""
        seen = sha256_hex(text.encode())
        before, self.told[secret] = self.told.get(secret), seen
        return before != seen

    def drop(self) -> None:
        """Cancel what is in flight."""
        self.enrolling.drop()
        self.taking_inventory.drop()
        self.writing.drop()


class BillingClients:
    """One client of the billing API for each address and CA; the CA lies in a private file."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="brinkbyte-operator-")
        self._clients: dict[tuple[str, str, str, bool], BillingClient] = {}

    def get(
        self, url: str, ca: str, credential: Callable[[], str] | None, owner: str
    ) -> BillingClient:
        """Return a client.

        Args:
            url: base URL of the billing API.
            ca: PEM text of its CA, empty for the system's CAs.
            credential: returns the instance credential, None for calls that need none.
            owner: uid of the Tenant; connections are not shared between Tenants.

        Raises:
            InvalidInputError: URL or CA is not acceptable.
        """
        key = (owner, url, sha256_hex(ca.encode()) if ca else "", credential is not None)
        client = self._clients.get(key)
        if client is None:
            ca_file = None
            if ca:
                ca_file = Path(self._directory.name) / f"{key[2]}.crt"
                ca_file.write_text(ca)
            client = BillingClient(url, credential, ca_file=ca_file)
            self._clients[key] = client
        return client

    async def forget(self, owner: str) -> None:
        """Close the connections of a Tenant that is gone."""
        for key in [each for each in self._clients if owner and each[0] == owner]:
            await self._clients.pop(key).aclose()

    async def close(self) -> None:
        """Close every connection and remove the files."""
        for client in self._clients.values():
            await client.aclose()
        self._directory.cleanup()


@dataclass
class Context:
    """Dependencies of the reconciles.

    Attributes:
        wall: Unix seconds.
        monotonic: seconds that only go forward.
        add: puts a key on the queue, in so many seconds.
    """

    settings: OperatorSettings
    cluster: Cluster
    metrics: Metrics
    events: EventSink
    roots: TrustRoots
    billing: BillingClients
    http: httpx.AsyncClient
    add: Callable[[Key, float], None]
    camera_tokens: CameraTokens = field(default_factory=CameraTokens)
    roster: Roster = field(default_factory=Roster)
    tenants: dict[tuple[str, str], TenantMemory] = field(default_factory=dict)
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    fingerprint: str = ""
    _fingerprint_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def now(self) -> int:
        """Unix seconds."""
        return int(self.wall())

    def tenant(self, namespace: str, name: str) -> TenantMemory:
        """Return what is remembered of a Tenant."""
        memory = self.tenants.get((namespace, name))
        if memory is None:
            memory = TenantMemory(Asking(self.monotonic), Asking(self.monotonic))
            self.tenants[namespace, name] = memory
        return memory

    async def forget(self, namespace: str, name: str) -> None:
        """Forget a Tenant that is gone, and close its connections."""
        memory = self.tenants.pop((namespace, name), None)
        if memory is not None:
            memory.drop()
            await self.billing.forget(memory.uid)

    async def cluster_fingerprint(self) -> str:
        """Return what tells this cluster from others: the uid of the namespace kube-system."""
        async with self._fingerprint_lock:
            if not self.fingerprint:
                found = await self.cluster.get("Namespace", None, "kube-system")
                self.fingerprint = found["metadata"]["uid"] if found else "unknown"
        return self.fingerprint
