"""Who a Tenant's instance is to the billing API: its enrollment record. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import jwt

from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.uuid7 import Uuid7Generator
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import SigningKey
from brinkbyte.resources import names

new_id = Uuid7Generator()
"""Makes ids of proofs and requests."""

RECORD: Final = "enrollment-record"
_PROOF_SECONDS: Final = 300
NAMESPACE_KEY: Final = "namespace"
NAME_KEY: Final = "name"
UID_KEY: Final = "uid"
CUSTOMER_KEY: Final = "customer-id"
_EXPIRES_KEY: Final = "credential-expires-at"
_ISSUED_KEY: Final = "credential-issued-at"
_TOKEN_HASH_KEY: Final = "enrollment-sha256"  # noqa: S105 - a hash
_KEY_SET_KEY: Final = "jwks.json"
_STATE_KEY: Final = "state"
_ENDING: Final = "ending"
_BUNDLE_KEY: Final = "bundle-sequence"
_TRUE: Final = "true"


@dataclass(frozen=True)
class Identity:
    """An enrollment record.

    Attributes:
        instance_id: empty until the billing API has answered.
        credential: bearer secret for the billing API.
        credential_expires_at: Unix seconds.
        token_hash: of the enrollment token that it came from.
        ending: the Tenant is gone, the instance is yet to be ended.
        air_gap: the site has no line: bundles say what its instance is.
        bundle_sequence: of the newest bundle that was taken in.
    """

    uid: str
    namespace: str
    name: str
    customer_id: str
    private_key: str
    instance_id: str = ""
    credential: str = ""
    credential_expires_at: int = 0
    credential_issued_at: int = 0
    billing_url: str = ""
    ca: str = ""
    token_hash: str = ""
    key_set: str = ""
    ending: bool = False
    air_gap: bool = False
    bundle_sequence: int = 0

    @property
    def enrolled(self) -> bool:
        """Whether the vendor knows this instance."""
        return bool(self.instance_id and (self.credential or self.air_gap))

    @property
    def key(self) -> SigningKey:
        """The instance key pair.

        Raises:
            InvalidInputError: the record was damaged.
        """
        return _read_key(self.private_key)

    @property
    def record_name(self) -> str:
        """Name of the Secret that keeps it."""
        return record_name(self.uid)

    def __repr__(self) -> str:
        return f"Identity({self.namespace}/{self.name}, instance {self.instance_id!r})"

    def to_data(self) -> dict[str, str]:
        """Return the values of the record Secret."""
        data = {
            UID_KEY: self.uid,
            NAMESPACE_KEY: self.namespace,
            NAME_KEY: self.name,
            CUSTOMER_KEY: self.customer_id,
            names.PRIVATE_KEY_KEY: self.private_key,
            names.INSTANCE_ID_KEY: self.instance_id,
            names.CREDENTIAL_KEY: self.credential,
            _EXPIRES_KEY: str(self.credential_expires_at),
            _ISSUED_KEY: str(self.credential_issued_at),
            names.BILLING_URL_KEY: self.billing_url,
            names.BILLING_CA_KEY: self.ca,
            _TOKEN_HASH_KEY: self.token_hash,
            _KEY_SET_KEY: self.key_set,
            _STATE_KEY: _ENDING if self.ending else "active",
            names.AIR_GAP_KEY: _TRUE if self.air_gap else "",
            _BUNDLE_KEY: str(self.bundle_sequence or ""),
        }
        return {key: value for key, value in data.items() if value}

    @classmethod
    def from_data(cls, data: Mapping[str, str]) -> Identity | None:
        """Read a record; None when its key pair or its Tenant cannot be read."""
        identity = cls(
            uid=data.get(UID_KEY, ""),
            namespace=data.get(NAMESPACE_KEY, ""),
            name=data.get(NAME_KEY, ""),
            customer_id=data.get(CUSTOMER_KEY, ""),
            private_key=data.get(names.PRIVATE_KEY_KEY, ""),
            instance_id=data.get(names.INSTANCE_ID_KEY, ""),
            credential=data.get(names.CREDENTIAL_KEY, ""),
            credential_expires_at=_number(data.get(_EXPIRES_KEY)),
            credential_issued_at=_number(data.get(_ISSUED_KEY)),
            billing_url=data.get(names.BILLING_URL_KEY, ""),
            ca=data.get(names.BILLING_CA_KEY, ""),
            token_hash=data.get(_TOKEN_HASH_KEY, ""),
            key_set=data.get(_KEY_SET_KEY, ""),
            ending=data.get(_STATE_KEY) == _ENDING,
            air_gap=data.get(names.AIR_GAP_KEY) == _TRUE,
            bundle_sequence=_number(data.get(_BUNDLE_KEY)),
        )
        try:
            identity.key  # noqa: B018 - raises when it cannot be read
        except PermanentError:
            return None
        return identity if identity.uid and identity.name else None

    def to_identity_secret(self, fingerprint: str) -> dict[str, str]:
        """Return what instance and reporter get to see."""
        data = {
            names.INSTANCE_ID_KEY: self.instance_id,
            names.CREDENTIAL_KEY: self.credential,
            names.PRIVATE_KEY_KEY: self.private_key,
            names.BILLING_URL_KEY: self.billing_url,
            names.BILLING_CA_KEY: self.ca,
            names.CLUSTER_FINGERPRINT_KEY: fingerprint,
            names.AIR_GAP_KEY: _TRUE if self.air_gap else "",
        }
        return {key: value for key, value in data.items() if value}


@lru_cache(maxsize=4096)
def _read_key(pem: str) -> SigningKey:
    # OpenSSL checks the primes of a private key whenever it is read: about 50 ms.
    return SigningKey.from_pem(pem, [TokenKind.ENROLLMENT])


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def record_name(uid: str) -> str:
    """Return the name of the record of a Tenant."""
    return f"btn-{uid}"


def record_labels() -> dict[str, str]:
    """Return the labels of every enrollment record."""
    return {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_COMPONENT: RECORD,
        names.LABEL_OWNER_KIND: "Tenant",
    }


def credential_due(identity: Identity, now: int) -> bool:
    """Tell whether a third or less of the credential's life is left, or nobody knows how much."""
    life = identity.credential_expires_at - identity.credential_issued_at
    return identity.credential_expires_at - now <= life / 3


def proof(key: SigningKey, subject: str, *, now: int) -> str:
    """Return the JWS by which the holder of a key pair proves that it has it."""
    claims = {"sub": subject, "iat": now, "exp": now + _PROOF_SECONDS, "jti": str(new_id())}
    headers = {"typ": TokenKind.ENROLLMENT.typ, "kid": key.kid}
    return jwt.encode(claims, key.private_key, algorithm="RS256", headers=headers)
