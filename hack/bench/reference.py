"""The floor: a bare kopf handler that writes one Secret and one status per object.

Run as a program with a kubeconfig; it ends on SIGTERM. Nothing is verified, issued or compared: no
operator that does a job can be faster by much.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import aiohttp
import kopf
import yaml

GROUP: Final = "bench.brinkbyte.io"
PLURAL: Final = "bares"
_HEADERS: Final = {"Content-Type": "application/apply-patch+yaml"}

CRD: Final[dict[str, Any]] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"{PLURAL}.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": PLURAL, "singular": "bare", "kind": "Bare"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


class Api:
    """Raw server-side applies over one session."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server: str = cluster["server"]
        context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder, "crt"), Path(folder, "key")
            certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
            key.write_bytes(base64.b64decode(user["client-key-data"]))
            context.load_cert_chain(certificate, key)
        self._context = context
        self.session: aiohttp.ClientSession | None = None

    async def apply(self, path: str, body: dict[str, Any]) -> None:
        """Apply one object.

        Raises:
            kopf.TemporaryError: the API server refused; kopf tries again.
        """
        if self.session is None:
            self.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._context, limit=50)
            )
        async with self.session.patch(
            f"{self.server}{path}?fieldManager=bare&force=true", json=body, headers=_HEADERS
        ) as answer:
            if answer.status >= 400:
                raise kopf.TemporaryError(await answer.text(), delay=1)


def registry(api: Api) -> kopf.OperatorRegistry:
    """Return the one handler."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_kubeconfig(**arguments)

    @kopf.on.event(GROUP, "v1", PLURAL, registry=handlers)
    async def handle(
        type: str,  # noqa: A002 - kopf's name
        body: kopf.Body,
        name: str,
        namespace: str | None,
        **_: Any,
    ) -> None:
        if type == "DELETED" or dict(body).get("status", {}).get("ready"):
            return
        await api.apply(
            f"/api/v1/namespaces/{namespace}/secrets/{name}",
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": namespace},
                "stringData": {"token": "x" * 1500},
            },
        )
        await api.apply(
            f"/apis/{GROUP}/v1/namespaces/{namespace}/{PLURAL}/{name}/status",
            {
                "apiVersion": f"{GROUP}/v1",
                "kind": "Bare",
                "metadata": {"name": name, "namespace": namespace},
                "status": {"ready": True},
            },
        )

    return handlers


def main() -> None:
    """Run until SIGTERM."""
    kubeconfig = Path(sys.argv[1])
    os.environ["KUBECONFIG"] = str(kubeconfig)
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    asyncio.run(
        kopf.operator(
            registry=registry(Api(kubeconfig)), settings=settings, namespaces=[sys.argv[2]]
        )
    )


if __name__ == "__main__":
    main()
