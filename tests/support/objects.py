"""Reads a cluster's objects over one kept connection.

A look by kubectl is a process of its own, a tenth of a second of processor; tests that wait look
four times a second.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import urllib3
from kubernetes.client import ApiClient
from kubernetes.config import new_client_from_config

from stack.tools import StepError

_SECONDS = urllib3.Timeout(connect=5, read=30)


class Objects:
    """What ``kubectl get --output json`` says, without kubectl.

    Args:
        kubeconfig: of the cluster; whatever way of logging in it names.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._client: ApiClient = new_client_from_config(str(kubeconfig))
        self._kinds: dict[str, tuple[str, bool]] = {}

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.pool_manager.clear()

    def get(self, kind: str, name: str, namespace: str | None) -> Any:
        """Return an object, or a list when there is no name; None when it is not there.

        Raises:
            StepError: no such kind, or the API server refuses or does not answer.
        """
        base, namespaced = self._find(kind)
        group, _, plural = base.rpartition("/")
        place = f"/namespaces/{namespace}" if namespaced and namespace else ""
        found = self._read(f"{group}{place}/{plural}{f'/{name}' if name else ''}")
        if found is not None and not name:
            # As kubectl prints them; the API leaves this out of the members of a list.
            of = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
            found["items"] = [of | each for each in found["items"]]
        return found

    def _find(self, kind: str) -> tuple[str, bool]:
        if kind not in self._kinds:
            self._discover()
        try:
            return self._kinds[kind]
        except KeyError:
            raise StepError(f"the server has no kind {kind!r}") from None

    def _discover(self) -> None:
        groups = (self._read("/apis") or {"groups": []})["groups"]
        versions = ["/api/v1"]
        versions += [f"/apis/{each['preferredVersion']['groupVersion']}" for each in groups]
        for version in versions:
            group = version.split("/")[2] if version.startswith("/apis/") else ""
            for each in (self._read(version) or {"resources": []})["resources"]:
                plural = each["name"]
                if "/" in plural:
                    continue
                place = (f"{version}/{plural}", each["namespaced"])
                names = (plural, each.get("singularName"), each["kind"].lower())
                for name in (*names, *each.get("shortNames", ())):
                    if name:
                        # The first group that has a name has it, as with kubectl.
                        self._kinds.setdefault(name, place)
                        self._kinds.setdefault(f"{name}.{group}", place)

    def _read(self, path: str) -> Any:
        headers: dict[str, str] = {"accept": "application/json"}
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        url = f"{self._client.configuration.host}{path}"
        try:
            answer = self._client.rest_client.pool_manager.request(
                "GET", url, headers=headers, timeout=_SECONDS, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise StepError(f"{url}: {error}") from None
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise StepError(f"{url}: {answer.status} {answer.data.decode(errors='replace')}")
        return json.loads(answer.data)
