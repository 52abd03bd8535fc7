"""Who this instance is: the files of the identity directory, read anew whenever they are asked for.

The operator writes them as a Secret after enrollment; they change when a credential is rotated or
a key pair is made anew, and nothing restarts for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from brinkbyte.kit.errors import InvalidInputError, PermanentError, TemporaryError
from brinkbyte.kit.settings import Settings
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import SigningKey
from brinkbyte.resources.names import (
    AIR_GAP_KEY,
    BILLING_CA_KEY,
    BILLING_URL_KEY,
    CLUSTER_FINGERPRINT_KEY,
    CREDENTIAL_KEY,
    IDENTITY_DIR,
    INSTANCE_ID_KEY,
    PRIVATE_KEY_KEY,
)


class IdentitySettings(Settings):
    """Where the identity directory is."""

    identity_dir: Path = Field(Path(IDENTITY_DIR), description="directory of the identity Secret")


@dataclass(frozen=True)
class Identity:
    """The identity directory.

    Every method raises ``TemporaryError`` with reason ``NotEnrolled`` while its file is missing or
    empty: enrollment fills the directory.
    """

    directory: Path

    def instance_id(self) -> str:
        """Return the instance id that enrollment gave."""
        return self._read(INSTANCE_ID_KEY)

    def credential(self) -> str:
        """Return the instance credential, the bearer secret for the billing API."""
        return self._read(CREDENTIAL_KEY)

    def billing_url(self) -> str:
        """Return the base URL of the billing API."""
        return self._read(BILLING_URL_KEY)

    def cluster_fingerprint(self) -> str:
        """Return the uid of the kube-system namespace, or what stands for it outside a cluster."""
        return self._read(CLUSTER_FINGERPRINT_KEY)

    @property
    def air_gapped(self) -> bool:
        """Whether the site has no line: nobody is to be asked, and nothing is wrong with that."""
        return bool(self._text(AIR_GAP_KEY))

    def ca_file(self) -> Path | None:
        """Return the file of the billing API's CA; None: the system's CAs."""
        path = self.directory / BILLING_CA_KEY
        try:
            return path if path.read_bytes().strip() else None
        except OSError:
            return None

    def signing_key(self) -> SigningKey:
        """Return the instance key pair.

        Raises:
            PermanentError: the file holds no private key; reason ``MalformedKey``.
        """
        pem = self._read(PRIVATE_KEY_KEY)
        try:
            return SigningKey.from_pem(pem, [TokenKind.BATCH])
        except InvalidInputError:
            raise PermanentError(
                f"{self.directory / PRIVATE_KEY_KEY} is not an RSA private key in PEM; delete the "
                "identity Secret and the operator makes it anew",
                reason="MalformedKey",
            ) from None

    def _read(self, name: str) -> str:
        text = self._text(name)
        if not text:
            raise TemporaryError(
                f"{self.directory / name} is missing or empty; it is written once the Tenant is "
                "enrolled: see the Tenant's LicenseValid condition",
                reason="NotEnrolled",
            )
        return text

    def _text(self, name: str) -> str:
        try:
            return (self.directory / name).read_text("utf-8").strip()
        except (OSError, UnicodeError):
            return ""
