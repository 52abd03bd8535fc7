"""What all components share: names, labels, the restricted pod, Secret volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from brinkbyte.resources import names
from brinkbyte.resources.common import ResourceRequirements
from brinkbyte.resources.defaults import Component, ResolvedTenant
from brinkbyte.resources.tenant import Tenant

Object = dict[str, Any]

POSTGRES: Final = "postgres"
REDIS: Final = "redis"
TRITON: Final = "triton"
INSTANCE: Final = "instance"
REPORTER: Final = "reporter"

SUFFIXES: Final[Mapping[str, str]] = {
    POSTGRES: names.POSTGRES_SUFFIX,
    REDIS: names.REDIS_SUFFIX,
    TRITON: names.TRITON_SUFFIX,
    INSTANCE: names.INSTANCE_SUFFIX,
    REPORTER: names.REPORTER_SUFFIX,
}
SECRET_DIRECTORIES: Final[Mapping[str, tuple[str, str]]] = {
    "license": (names.LICENSE_SUFFIX, names.LICENSE_DIR),
    "identity": (names.IDENTITY_SUFFIX, names.IDENTITY_DIR),
    "access": (names.ACCESS_SUFFIX, names.ACCESS_DIR),
    "devices": (names.DEVICES_SUFFIX, names.DEVICES_DIR),
    "postgres": (names.POSTGRES_SUFFIX, names.POSTGRES_DIR),
    "redis": (names.REDIS_SUFFIX, names.REDIS_DIR),
    "triton": (names.TRITON_SUFFIX, names.TRITON_DIR),
}
_GPU: Final = "nvidia.com/gpu"


@dataclass(frozen=True)
class Plan:
    """Everything that the builders need to know.

    Attributes:
        tenant: the resource.
        resolved: its spec with the defaults filled in.
        operator_namespace: where the operator runs; its pods may call the instance.
        operator_pod_name: label ``app.kubernetes.io/name`` of the operator's pods.
        credential_hashes: hash of each credential Secret by component; it stands on the pod
            templates that need a restart when the credential is made anew.
        billing_port: TCP port of the billing API; None without one.
        billing_namespace: namespace of a billing API that runs in this cluster.
        instance_replicas: False where an autoscaler owns the number of instance pods.
    """

    tenant: Tenant
    resolved: ResolvedTenant
    operator_namespace: str
    operator_pod_name: str
    credential_hashes: Mapping[str, str] = field(default_factory=dict)
    billing_port: int | None = 443
    billing_namespace: str = ""
    image_pull_policy: str = "IfNotPresent"
    instance_replicas: bool = True

    @property
    def namespace(self) -> str:
        """Namespace of the Tenant and all its children."""
        return self.tenant.namespace

    def name(self, component: str) -> str:
        """Return the name of a component's objects."""
        return f"{self.tenant.name}{SUFFIXES[component]}"

    def host(self, component: str) -> str:
        """Return the DNS name of a component's Service."""
        return f"{self.name(component)}.{self.namespace}.svc"


def labels(tenant: Tenant, component: str) -> dict[str, str]:
    """Return our labels of a Tenant's child; never the Tenant's own (GitOps tools would prune)."""
    return {
        "app.kubernetes.io/name": "brinkbyte",
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_COMPONENT: component,
        names.LABEL_OWNER_KIND: tenant.KIND,
        names.LABEL_OWNER_NAME: tenant.name,
        names.LABEL_TENANT: tenant.name,
        names.LABEL_CUSTOMER: tenant.spec.customer_id,
    }


def selector(tenant_name: str, component: str) -> dict[str, str]:
    """Return the labels that select a component's pods."""
    return {names.LABEL_TENANT: tenant_name, names.LABEL_COMPONENT: component}


def query(wanted: Mapping[str, str]) -> str:
    """Return labels as a label selector of the Kubernetes API."""
    return ",".join(f"{key}={value}" for key, value in wanted.items())


def child(plan: Plan, api_version: str, kind: str, component: str, **parts: Any) -> Object:
    """Return an object owned by the Tenant."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": plan.name(component),
            "namespace": plan.namespace,
            "labels": labels(plan.tenant, component),
            "ownerReferences": [plan.tenant.owner_reference()],
        },
        **parts,
    }


def service_account(plan: Plan, component: str) -> Object:
    """Return a service account that grants nothing and mounts nothing."""
    return child(plan, "v1", "ServiceAccount", component, automountServiceAccountToken=False)


def service(
    plan: Plan, component: str, ports: Mapping[str, int], *, headless: bool = False
) -> Object:
    """Return a Service; headless: every pod has its own address, ready or not."""
    spec: Object = {
        "type": "ClusterIP",
        "selector": selector(plan.tenant.name, component),
        "ports": [
            {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}
            for name, port in ports.items()
        ],
    }
    if headless:
        spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    return child(plan, "v1", "Service", component, spec=spec)


def disruption_budget(plan: Plan, component: str, replicas: int) -> list[Object]:
    """Return a budget that keeps one pod running, where there is more than one.

    For a single pod it would only block the drain of its node.
    """
    if replicas < 2:
        return []
    spec = {
        "minAvailable": 1,
        "selector": {"matchLabels": selector(plan.tenant.name, component)},
    }
    return [child(plan, "policy/v1", "PodDisruptionBudget", component, spec=spec)]


def pod_template(
    plan: Plan,
    component: str,
    settings: Component,
    *,
    containers: Sequence[Object],
    init_containers: Sequence[Object] = (),
    volumes: Sequence[Object] = (),
    credentials: Sequence[str] = (),
    restart_policy: str = "Always",
    grace_seconds: int = 30,
) -> Object:
    """Return a pod under Pod Security ``restricted``, without a token of the Kubernetes API.

    Args:
        plan: of the Tenant.
        component: which one.
        settings: image and user.
        containers: main containers.
        init_containers: run before them.
        volumes: of the pod.
        credentials: components whose credential hash stands on the template.
        restart_policy: of the pod.
        grace_seconds: from SIGTERM to SIGKILL.
    """
    metadata: Object = {"labels": labels(plan.tenant, component)}
    hashes = [plan.credential_hashes.get(name, "") for name in credentials]
    if any(hashes):
        metadata["annotations"] = {names.ANNOTATION_CREDENTIALS: ".".join(hashes)}
    spec: Object = {
        "serviceAccountName": plan.name(component),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": restart_policy,
        "terminationGracePeriodSeconds": grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": settings.run_as_user,
            "runAsGroup": settings.run_as_user,
            "fsGroup": settings.run_as_user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": list(containers),
        "volumes": list(volumes),
    }
    if init_containers:
        spec["initContainers"] = list(init_containers)
    if plan.tenant.spec.image_pull_secrets:
        spec["imagePullSecrets"] = [
            {"name": reference.name} for reference in plan.tenant.spec.image_pull_secrets
        ]
    return {"metadata": metadata, "spec": spec}


def container(
    plan: Plan,
    name: str,
    image: str,
    command: Sequence[str],
    *,
    resources: ResourceRequirements,
    mounts: Mapping[str, str],
    read_only: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    ports: Mapping[str, int] | None = None,
    gpus: int = 0,
    **parts: Any,
) -> Object:
    """Return a container with a read-only root, no capabilities and no way to gain any.

    Args:
        plan: of the Tenant.
        name: of the container.
        image: to run.
        command: instead of the image's entrypoint.
        resources: requests and limits.
        mounts: volume name to path.
        read_only: volumes mounted read-only.
        env: variables; never a secret.
        ports: name to number.
        gpus: nvidia.com/gpu to ask for.
        parts: probes, lifecycle.
    """
    wanted = resources.to_wire()
    if gpus:
        wanted.setdefault("limits", {})[_GPU] = str(gpus)
    result: Object = {
        "name": name,
        "image": image,
        "imagePullPolicy": plan.image_pull_policy,
        "command": list(command),
        "resources": wanted,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": volume, "mountPath": path, "readOnly": True}
            if volume in read_only
            else {"name": volume, "mountPath": path}
            for volume, path in mounts.items()
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **parts,
    }
    if env:
        result["env"] = [{"name": key, "value": value} for key, value in env.items()]
    if ports:
        result["ports"] = [
            {"name": key, "containerPort": port, "protocol": "TCP"} for key, port in ports.items()
        ]
    return result


def secret_volumes(plan: Plan, *directories: str) -> list[Object]:
    """Return volumes of whole Secrets; optional, so that no pod waits for one."""
    return [
        {
            "name": directory,
            "secret": {
                "secretName": f"{plan.tenant.name}{SECRET_DIRECTORIES[directory][0]}",
                "optional": True,
            },
        }
        for directory in directories
    ]


def secret_mounts(*directories: str) -> dict[str, str]:
    """Return where those volumes are mounted."""
    return {directory: SECRET_DIRECTORIES[directory][1] for directory in directories}


def empty_dir(name: str, *, size: str, memory: bool = False) -> Object:
    """Return a volume that goes with the pod."""
    settings: Object = {"sizeLimit": size}
    if memory:
        settings["medium"] = "Memory"
    return {"name": name, "emptyDir": settings}


def exec_probe(
    *command: str, period: int, failures: int, timeout: int = 5, delay: int = 0
) -> Object:
    """Return a probe that runs a command. Times in seconds."""
    return _probe({"exec": {"command": list(command)}}, period, failures, timeout, delay)


def http_probe(
    path: str, port: int, *, period: int, failures: int, timeout: int = 5, delay: int = 0
) -> Object:
    """Return a probe that asks over HTTP. Times in seconds."""
    return _probe({"httpGet": {"path": path, "port": port}}, period, failures, timeout, delay)


def _probe(how: Object, period: int, failures: int, timeout: int, delay: int) -> Object:
    probe = {
        **how,
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }
    if delay:
        probe["initialDelaySeconds"] = delay
    return probe


def claim_template(plan: Plan, component: str, settings: Component) -> Object:
    """Return the claim of a StatefulSet's volume ``data``.

    It has no owner: data outlives the Tenant, keyed by the customer.
    """
    if settings.volume is None:
        raise ValueError(f"{component} has no volume")
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": settings.volume.size}},
    }
    if settings.volume.storage_class_name:
        spec["storageClassName"] = settings.volume.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "labels": labels(plan.tenant, component)},
        "spec": spec,
    }
