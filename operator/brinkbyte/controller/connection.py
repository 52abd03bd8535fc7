"""Address and credentials of the Kubernetes API, from a kubeconfig or the pod's service account.

Loading is left to the official client, which knows exec plugins and token rotation.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kopf
from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from brinkbyte.kit.errors import PermanentError

_loader: Any = config  # the loaders have no types


class ConnectionConfigError(PermanentError):
    """No way to a cluster is configured."""


@dataclass(frozen=True)
class Connection:
    """How to reach one cluster.

    Attributes:
        server: base URL without a trailing slash.
        ssl_context: verifies the server, presents the client certificate if there is one.
    """

    server: str
    ssl_context: ssl.SSLContext
    configuration: Configuration

    async def headers(self) -> dict[str, str]:
        """Return the headers that authenticate a request; a rotated token is read again."""
        auth: Any = await self.configuration.auth_settings()
        bearer = auth.get("BearerToken")
        if bearer is None or not bearer["value"]:
            return {}
        return {"Authorization": str(bearer["value"])}

    async def kopf_info(self) -> kopf.ConnectionInfo:
        """Return the same for kopf."""
        value = (await self.headers()).get("Authorization", "")
        scheme, _, token = value.partition(" ")
        settings: Any = self.configuration
        return kopf.ConnectionInfo(
            server=self.server,
            ca_path=settings.ssl_ca_cert,
            ca_data=settings.ca_cert_data,
            insecure=not settings.verify_ssl,
            scheme=scheme or None,
            token=token or None,
            certificate_path=settings.cert_file,
            private_key_path=settings.key_file,
        )


async def load_connection(kubeconfig: Path | None = None) -> Connection:
    """Read the configuration: the file if one is given, else the pod's, else the user's.

    Raises:
        ConnectionConfigError: none of them is there.
    """
    configuration: Any = Configuration()
    try:
        if kubeconfig is not None:
            await _loader.load_kube_config(
                config_file=str(kubeconfig), client_configuration=configuration
            )
        elif "KUBERNETES_SERVICE_HOST" in os.environ:
            _loader.load_incluster_config(client_configuration=configuration)
        else:
            await _loader.load_kube_config(client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise ConnectionConfigError(
            f"no Kubernetes cluster is configured ({error}); give --kubeconfig FILE, or run in a "
            "pod with a service account"
        ) from None
    context = ssl.create_default_context(
        cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data
    )
    # Cluster CAs of some installers lack the extensions that strict mode wants.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return Connection(str(configuration.host).rstrip("/"), context, configuration)
