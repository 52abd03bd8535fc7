"""The fourth tier: the billing API, through a client that follows the identity directory."""

from __future__ import annotations

import json
from pathlib import Path

from brinkbyte.client import BillingClient
from brinkbyte.client.retry import RetryPolicy
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.wire import CloneAlarm, Heartbeat, HeartbeatAnswer, Held
from brinkbyte.store.identity import Identity


class BillingTier:
    """Asks the billing API for newer documents and tells it that the instance lives.

    Every call raises what :class:`BillingClient` does, and ``TemporaryError`` with reason
    ``NotEnrolled`` while there is no identity.

    Args:
        identity: the identity directory.
        retry: when to try again.
    """

    def __init__(self, identity: Identity, *, retry: RetryPolicy | None = None) -> None:
        self._identity = identity
        self._retry = retry
        self.clone_alarm: CloneAlarm | None = None
        """What the newest heartbeat was answered: whether this instance seems to run twice."""
        self._client: BillingClient | None = None
        self._made_for: tuple[str, Path | None] | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = self._made_for = None

    @property
    def air_gapped(self) -> bool:
        """Whether the site has no line: then this tier does not exist."""
        return self._identity.air_gapped

    async def newer(self, held: Held) -> dict[TokenKind, str]:
        """Return the documents that are newer than what is held."""
        tokens = await (await self._current()).tokens(held)
        if tokens is None:
            return {}
        found = {
            TokenKind.KEY_SET: json.dumps(tokens.key_set) if tokens.key_set else None,
            TokenKind.REVOCATIONS: tokens.revocations,
            TokenKind.LICENSE: tokens.license,
            TokenKind.SEATS: tokens.seats,
        }
        return {kind: text for kind, text in found.items() if text is not None}

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Say that the instance lives."""
        answer = await (await self._current()).heartbeat(heartbeat)
        self.clone_alarm = answer.clone_alarm
        return answer

    def cluster_fingerprint(self) -> str:
        """Return what identifies the cluster."""
        return self._identity.cluster_fingerprint()

    async def _current(self) -> BillingClient:
        wanted = (self._identity.billing_url(), self._identity.ca_file())
        if self._client is None or self._made_for != wanted:
            await self.aclose()
            self._client = BillingClient(
                wanted[0], self._identity.credential, ca_file=wanted[1], retry=self._retry
            )
            self._made_for = wanted
        return self._client
