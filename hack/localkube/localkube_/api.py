"""A very small client of a cluster's API server, and a DNS question. For start-up only."""

import json
import socket
import ssl
import struct
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Api:
    """Speaks to one API server as its administrator."""

    def __init__(self, server: str, pki: Path) -> None:
        self._server = server
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def call(
        self, method: str, path: str, body: Json | None = None, *, kind: str = "application/json"
    ) -> tuple[int, Json]:
        """Send one request; returns the status and the answer, 0 when there was none."""
        request = urllib.request.Request(
            self._server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": kind, "Accept": "application/json"},
        )
        try:
            # No proxy of the environment stands between the host and its own clusters.
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}),
                urllib.request.HTTPSHandler(context=self._context),
            )
            with opener.open(request, timeout=5) as answer:
                return answer.status, _decoded(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _decoded(error.read())
        except OSError:
            return 0, {}

    def ready(self) -> bool:
        """Whether the server says that it is ready."""
        return self.call("GET", "/readyz")[0] == 200

    def create(self, collection: str, body: Json) -> bool:
        """Create an object; True when it is there."""
        return self.call("POST", collection, body)[0] in {200, 201, 409}

    def merge(self, path: str, change: Json) -> bool:
        """Change an object by a merge patch; False when it is not there (yet)."""
        return self.call("PATCH", path, change, kind="application/merge-patch+json")[0] == 200

    def node_ready(self, node: str) -> bool:
        """Whether the node is there and Ready."""
        _, found = self.call("GET", f"/api/v1/nodes/{node}")
        conditions = found.get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def exists(self, path: str) -> bool:
        """Whether there is an object at a path."""
        return self.call("GET", path)[0] == 200


def _decoded(text: bytes) -> Json:
    try:
        decoded = json.loads(text)
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def resolves(server: str, name: str, *, timeout: float = 0.3) -> bool:
    """Whether a DNS server answers a question for an A record with at least one."""
    header = struct.pack("!6H", 0x4B4B, 0x0100, 1, 0, 0, 0)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout)
        try:
            client.sendto(header + labels + b"\0" + struct.pack("!2H", 1, 1), (server, 53))
            answer = client.recv(512)
        except OSError:
            return False
    return len(answer) > 12 and answer[3] & 0x0F == 0 and struct.unpack("!H", answer[6:8])[0] > 0
