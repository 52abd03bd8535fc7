"""What a pod spec lacks for Pod Security ``restricted`` and for our own stricter habits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VOLUME_KINDS = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip


def violations(spec: Mapping[str, Any], *, token_allowed: bool = False) -> list[str]:
    """Return every violation in words.

    Args:
        spec: of a pod.
        token_allowed: whether the pod talks to the Kubernetes API.
    """
    return [*_of_pod(spec, token_allowed=token_allowed), *_of_containers(spec)]


def _of_pod(spec: Mapping[str, Any], *, token_allowed: bool) -> Iterator[str]:
    context = spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True:
        yield "pod may run as root"
    if not context.get("runAsUser"):
        yield "pod has no user id"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "pod has no seccomp profile"
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"pod uses {name}"
    for volume in spec.get("volumes", ()):
        if not set(volume) - {"name"} <= VOLUME_KINDS:
            yield f"volume {volume['name']} is of a forbidden kind"
    if not token_allowed and spec.get("automountServiceAccountToken") is not False:
        yield "pod gets a token of the Kubernetes API"
    if spec.get("enableServiceLinks") is not False:
        yield "pod gets the address of every Service in its environment"


def _of_containers(spec: Mapping[str, Any]) -> Iterator[str]:
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        name = container["name"]
        context = container.get("securityContext", {})
        resources = container.get("resources", {})
        env = container.get("env", ())
        found = {
            "may escalate": context.get("allowPrivilegeEscalation") is not False,
            "has a writable root": context.get("readOnlyRootFilesystem") is not True,
            "keeps capabilities": context.get("capabilities") != {"drop": ["ALL"]},
            "is privileged": context.get("privileged") or context.get("runAsUser") == 0,
            "requests no cpu or memory": not {"cpu", "memory"}
            <= set(resources.get("requests", {})),
            "has no memory limit": "memory" not in resources.get("limits", {}),
            "has a secret in its environment": container.get("envFrom")
            or any("secretKeyRef" in entry.get("valueFrom", {}) for entry in env),
            "mounts by subPath": any(
                mount.get("subPath") for mount in container.get("volumeMounts", ())
            ),
            "uses a port of the host": any(
                "hostPort" in port for port in container.get("ports", ())
            ),
        }
        yield from (f"{name} {words}" for words, wrong in found.items() if wrong)
