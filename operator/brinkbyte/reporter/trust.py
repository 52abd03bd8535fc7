"""Whose usage this is, and whose receipts count.

Receipts are judged by the vendor's keys, from the license directory or the billing API. Wherever a
key set comes from, a root key of this release must have signed it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from brinkbyte.client import BillingClient
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.claims import ReceiptClaims
from brinkbyte.license.keys import KeySet, PublicJwk, verify_key_set
from brinkbyte.license.tokens import TokenError
from brinkbyte.metering.batches import BatchHeader, verify_receipt
from brinkbyte.resources.names import KEY_SET_KEY

_UNKNOWN_KEY = "UnknownKey"
_log = get_logger(__name__)


def require_same_customer(ours: str | None, found: str | None, document: str) -> None:
    """Refuse a Secret of another customer; nothing is compared while either is not known.

    Args:
        ours: the customer whose usage the outbox holds.
        found: the customer whom a Secret is for.
        document: which Secret, in one word.

    Raises:
        PermanentError: they differ; reason ``OtherCustomer``.
    """
    if ours is None or found is None or ours == found:
        return
    raise PermanentError(
        f"the {document} is of customer {found}, and the usage here is of {ours}: nothing was sent "
        f"or sealed. Put {ours}'s {document} Secret back; the operator does so by itself while it "
        "runs",
        reason="OtherCustomer",
    )


class ReceiptVerifier:
    """Verifies receipts with the license directory's keys, else with those the API publishes.

    Args:
        roots: root public keys of the release.
        license_dir: directory that may hold ``jwks.json``.
        client: where newer keys are asked for.
    """

    def __init__(
        self, roots: Mapping[str, PublicJwk], license_dir: Path, client: BillingClient
    ) -> None:
        self._roots = roots
        self._path = license_dir / KEY_SET_KEY
        self._client = client
        self._key_set: KeySet | None = None

    async def verify(self, receipt: str, batch: BatchHeader, now: int) -> ReceiptClaims:
        """Return the claims of a receipt that is the vendor's and for this batch.

        Args:
            receipt: compact JWS.
            batch: the batch that was sent.
            now: Unix seconds by the server's clock: ours may be wrong, and a receipt proves nothing
                about time.

        Raises:
            TokenError: the receipt is refused.
            KeySetError: no trustworthy key set is to be had.
            TemporaryError: a newer key set could not be fetched.
        """
        held = self._key_set or self._from_directory(now)
        fresh = held is None
        key_set = held or await self._fetch(now)
        try:
            claims = verify_receipt(receipt, batch, key_set.keys, now=now)
        except TokenError as error:
            if error.reason != _UNKNOWN_KEY or fresh:
                raise
            # Signed by a key newer than the directory's set, or by nobody we know.
            fetched = await self._fetch(now)
            if fetched.number < key_set.number:
                raise
            key_set = fetched
            claims = verify_receipt(receipt, batch, key_set.keys, now=now)
        self._key_set = key_set
        return claims

    def _from_directory(self, now: int) -> KeySet | None:
        try:
            return verify_key_set(self._path.read_bytes(), self._roots, now=now)
        except OSError:
            return None
        except PermanentError as error:
            _log.warning(
                "the key set in the license directory is not the vendor's; asking the billing API",
                reason=error.reason,
                path=str(self._path),
            )
            return None

    async def _fetch(self, now: int) -> KeySet:
        document = json.dumps(await self._client.keys())
        return verify_key_set(document, self._roots, now=now)
