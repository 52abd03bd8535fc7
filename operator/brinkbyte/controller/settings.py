"""Settings of the operator: ``BRINKBYTE_…`` variables, or flags of ``brinkbyte operator run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from brinkbyte.kit.settings import Settings
from brinkbyte.resources.defaults import (
    POSTGRES_IMAGE,
    REDIS_IMAGE,
    TRITON_IMAGE,
    DefaultImages,
)

Port = Annotated[int, Field(ge=0, le=65535)]


class OperatorSettings(Settings):
    """What the operator is started with.

    Attributes:
        operator_namespace: the operator's own namespace; enrollment records are kept there.
        instance_image: our image, for the instance and the reporter.
        watch_namespaces: comma-separated namespaces to serve; empty: all.
        kubeconfig: a kubeconfig file; None: the pod's service account, or ``~/.kube/config``.
        health_port: port of ``/healthz``; 0: none.
        metrics_port: port of ``/metrics``; 0: none.
        operator_pod_name: value of the operator pods' label ``app.kubernetes.io/name``, which the
            instances' NetworkPolicies let in.
        operator_deployment: name of the operator's Deployment, which ``release-finalizers`` stops
            first; empty: it is stopped already.
    """

    operator_namespace: str = "brinkbyte-system"
    instance_image: str = "brinkbyte:latest"
    default_postgres_image: str = POSTGRES_IMAGE
    default_redis_image: str = REDIS_IMAGE
    default_triton_image: str = TRITON_IMAGE
    watch_namespaces: str = ""
    kubeconfig: Path | None = None
    health_port: Port = 8081
    metrics_port: Port = 8082
    operator_pod_name: str = "brinkbyte-operator"
    operator_deployment: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"

    @property
    def images(self) -> DefaultImages:
        """Images where a Tenant names none."""
        return DefaultImages(
            instance=self.instance_image,
            postgres=self.default_postgres_image,
            redis=self.default_redis_image,
            triton=self.default_triton_image,
        )

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Namespaces to serve; empty: all."""
        return tuple(name.strip() for name in self.watch_namespaces.split(",") if name.strip())
