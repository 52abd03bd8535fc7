"""Kubeconfig files, by the official client: exec plugins, certificates, tokens that rotate."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from brinkbyte.controller.connection import Connection, ConnectionConfigError, lenient_context
from brinkbyte.controller.lean_kopf import kopf

_loader: Any = config  # the loaders have no types
DEFAULT_NAMESPACE: Final = "default"


class KubeconfigCredentials:
    """What a kubeconfig's user is to the API server."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration: Any = configuration

    async def authorization(self) -> str:
        """Return the header's value; empty where a client certificate says it."""
        bearer = (await self._configuration.auth_settings()).get("BearerToken")
        return str(bearer["value"]) if bearer and bearer["value"] else ""

    def kopf_info(self, server: str, authorization: str) -> kopf.ConnectionInfo:
        """Return the same for kopf."""
        scheme, _, token = authorization.partition(" ")
        return kopf.ConnectionInfo(
            server=server,
            ca_path=self._configuration.ssl_ca_cert,
            ca_data=self._configuration.ca_cert_data,
            insecure=not self._configuration.verify_ssl,
            scheme=scheme or None,
            token=token or None,
            certificate_path=self._configuration.cert_file,
            private_key_path=self._configuration.key_file,
        )


async def load_kubeconfig(file: Path | None) -> Connection:
    """Read a kubeconfig; the user's by default.

    Raises:
        ConnectionConfigError: there is none, or it is broken.
    """
    configuration: Any = Configuration()
    named = {"config_file": str(file)} if file is not None else {}
    try:
        await _loader.load_kube_config(**named, client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise ConnectionConfigError(
            f"no Kubernetes cluster is configured ({error}); give --kubeconfig FILE, or run in a "
            "pod with a service account"
        ) from None
    context = lenient_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    server = str(configuration.host).rstrip("/")
    return Connection(server, context, KubeconfigCredentials(configuration))


def current_namespace(file: Path | None) -> str:
    """Return the namespace of the kubeconfig's context, as kubectl does."""
    try:
        named = str(file) if file is not None else None
        _, context = _loader.list_kube_config_contexts(config_file=named)
    except (config.ConfigException, OSError):
        return DEFAULT_NAMESPACE
    return str(context.get("context", {}).get("namespace") or DEFAULT_NAMESPACE)
