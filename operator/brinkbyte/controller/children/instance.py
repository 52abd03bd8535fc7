"""The customer-instance API: Deployment, Service, Ingress if asked for."""

from __future__ import annotations

from typing import Final

from brinkbyte.controller.children import common
from brinkbyte.controller.children.common import Object, Plan
from brinkbyte.resources import names

_DIRECTORIES: Final = (
    "license",
    "identity",
    "access",
    "devices",
    "postgres",
    "redis",
    "triton",
)


def environment(plan: Plan) -> dict[str, str]:
    """Return the settings of the instance; everything secret comes in directories."""
    env = {
        "BRINKBYTE_TRITON_HOST": plan.host(common.TRITON),
        "BRINKBYTE_TENANT": f"{plan.namespace}/{plan.tenant.name}",
        "BRINKBYTE_CUSTOMER_ID": plan.tenant.spec.customer_id,
    }
    if plan.tenant.spec.retention_days is not None:
        env["BRINKBYTE_RETENTION_DAYS"] = str(plan.tenant.spec.retention_days)
    return env


def build(plan: Plan) -> list[Object]:
    """Return the objects of the instance API."""
    settings = plan.resolved.instance
    component = common.INSTANCE
    mounts = {
        "tmp": "/tmp",  # noqa: S108 - an emptyDir of the pod
        **common.secret_mounts(*_DIRECTORIES),
    }
    env = environment(plan)
    template = common.pod_template(
        plan,
        component,
        settings,
        credentials=[common.POSTGRES, common.REDIS, common.TRITON],
        init_containers=[
            *_wait_for_postgres(plan),
            common.container(
                plan,
                "migrate",
                settings.image,
                ["brinkbyte", "instance", "migrate"],
                resources=settings.resources,
                mounts=mounts,
                read_only=_DIRECTORIES,
                env=env,
            ),
        ],
        containers=[
            common.container(
                plan,
                component,
                settings.image,
                ["brinkbyte", "instance", "serve"],
                resources=settings.resources,
                mounts=mounts,
                read_only=_DIRECTORIES,
                env=env,
                ports={"http": names.INSTANCE_PORT},
                startupProbe=common.http_probe(
                    "/health/ready", names.INSTANCE_PORT, period=1, failures=120
                ),
                readinessProbe=common.http_probe(
                    "/health/ready", names.INSTANCE_PORT, period=5, failures=3
                ),
                livenessProbe=common.http_probe(
                    "/health/live", names.INSTANCE_PORT, period=15, failures=6
                ),
            )
        ],
        volumes=[
            common.empty_dir("tmp", size="256Mi"),
            *common.secret_volumes(plan, *_DIRECTORIES),
        ],
    )
    template["spec"]["topologySpreadConstraints"] = [
        {
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "maxSkew": 1,
            "labelSelector": {"matchLabels": common.selector(plan.tenant.name, component)},
        }
    ]
    spec: Object = {
        "selector": {"matchLabels": common.selector(plan.tenant.name, component)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "template": template,
    }
    if plan.instance_replicas:
        spec["replicas"] = settings.replicas
    return [
        common.service_account(plan, component),
        common.service(plan, component, {"http": names.INSTANCE_PORT}),
        common.child(plan, "apps/v1", "Deployment", component, spec=spec),
        *common.disruption_budget(plan, component, settings.replicas),
        *_ingress(plan),
    ]


def _wait_for_postgres(plan: Plan) -> list[Object]:
    """Return a container that waits; failing instead would back off for longer than it takes."""
    settings = plan.resolved.postgres
    if settings is None:
        return []
    ask = f"pg_isready -q -h {plan.host(common.POSTGRES)} -U {names.POSTGRES_ROLE}"
    return [
        common.container(
            plan,
            "wait-for-postgres",
            settings.image,
            ["sh", "-c", f"until {ask} -d {names.POSTGRES_DATABASE}; do sleep 0.5; done"],
            resources=plan.resolved.reporter.resources,
            mounts={"tmp": "/tmp"},  # noqa: S108 - an emptyDir of the pod
        )
    ]


def _ingress(plan: Plan) -> list[Object]:
    wanted = plan.tenant.spec.instance.ingress
    if wanted is None:
        return []
    backend = {
        "service": {
            "name": plan.name(common.INSTANCE),
            "port": {"number": names.INSTANCE_PORT},
        }
    }
    spec: Object = {
        "rules": [
            {
                "host": wanted.host,
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
            }
        ]
    }
    if wanted.class_name:
        spec["ingressClassName"] = wanted.class_name
    if wanted.tls_secret_ref:
        spec["tls"] = [{"hosts": [wanted.host], "secretName": wanted.tls_secret_ref.name}]
    return [common.child(plan, "networking.k8s.io/v1", "Ingress", common.INSTANCE, spec=spec)]
