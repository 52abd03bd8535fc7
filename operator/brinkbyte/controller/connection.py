"""Address and credentials of the Kubernetes API: the pod's service account, or a kubeconfig.

A kubeconfig is left to the official client (``kubeconfig``), which knows its exec plugins. A pod
needs none of that, and the client's eleven megabytes are a tenth of the operator.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from brinkbyte.kit.errors import PermanentError

if TYPE_CHECKING:
    import kopf

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS: Final = 60.0
"""The kubelet puts a new token into the file long before the old one ends."""


class ConnectionConfigError(PermanentError):
    """No way to a cluster is configured."""


class Credentials(Protocol):
    """Who we are to the API server."""

    async def authorization(self) -> str:
        """Return the header's value; empty where a client certificate says it."""

    def kopf_info(self, server: str, authorization: str) -> kopf.ConnectionInfo:
        """Return the same for kopf."""


@dataclass(frozen=True)
class Connection:
    """How to reach one cluster.

    Attributes:
        server: base URL without a trailing slash.
        ssl_context: verifies the server, presents the client certificate if there is one.
    """

    server: str
    ssl_context: ssl.SSLContext
    credentials: Credentials

    async def headers(self) -> dict[str, str]:
        """Return the headers that authenticate a request; a rotated token is read again."""
        value = await self.credentials.authorization()
        return {"Authorization": value} if value else {}

    async def kopf_info(self) -> kopf.ConnectionInfo:
        """Return the same for kopf."""
        value = await self.credentials.authorization()
        return self.credentials.kopf_info(self.server, value)


class ServiceAccount:
    """The pod's own credential.

    Args:
        directory: what the kubelet mounts: ``token``, ``ca.crt``.
        clock: seconds that only go forward.
    """

    def __init__(
        self, directory: Path = SERVICE_ACCOUNT, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ca_file = directory / "ca.crt"
        self._token_file = directory / "token"
        self._clock = clock
        self._token = ""
        self._read_at = float("-inf")

    async def authorization(self) -> str:
        """Return the header's value.

        Raises:
            ConnectionConfigError: the token cannot be read.
        """
        if self._clock() - self._read_at >= _TOKEN_SECONDS:
            try:
                self._token = self._token_file.read_text().strip()
            except OSError as error:
                if not self._token:
                    raise ConnectionConfigError(
                        f"the service account's token {self._token_file} cannot be read "
                        f"({error.strerror}); let the pod mount it, or give --kubeconfig FILE"
                    ) from None
            self._read_at = self._clock()
        return f"Bearer {self._token}"

    def kopf_info(self, server: str, authorization: str) -> kopf.ConnectionInfo:
        """Return the same for kopf."""
        from brinkbyte.controller.lean_kopf import kopf  # noqa: PLC0415 - only the operator has it

        scheme, _, token = authorization.partition(" ")
        return kopf.ConnectionInfo(
            server=server, ca_path=str(self.ca_file), scheme=scheme, token=token
        )


def in_pod() -> bool:
    """Tell whether we run in a pod that may have a service account."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


async def load_connection(
    kubeconfig: Path | None = None, *, account: Path = SERVICE_ACCOUNT
) -> Connection:
    """Read the configuration: the file if one is given, else the pod's, else the user's.

    Raises:
        ConnectionConfigError: none of them is there.
    """
    if kubeconfig is None and in_pod():
        return await _of_pod(account)
    # The official client takes a second to load.
    from brinkbyte.controller.kubeconfig import load_kubeconfig  # noqa: PLC0415

    return await load_kubeconfig(kubeconfig)


async def _of_pod(directory: Path) -> Connection:
    credentials = ServiceAccount(directory)
    await credentials.authorization()
    try:
        context = lenient_context(cafile=str(credentials.ca_file))
    except OSError as error:
        raise ConnectionConfigError(
            f"the cluster's CA {credentials.ca_file} cannot be read ({error.strerror}); let the "
            "pod mount its service account, or give --kubeconfig FILE"
        ) from None
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Connection(server, context, credentials)


def lenient_context(*, cafile: str | None = None, cadata: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts a cluster's CA."""
    context = ssl.create_default_context(cafile=cafile, cadata=cadata)
    # Cluster CAs of some installers lack the extensions that strict mode wants.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
