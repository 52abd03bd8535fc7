"""Triton: explicit model control; the instance alone may load and unload.

The image contract: ``sh`` and ``tritonserver`` on PATH. The model repository is written by our own
image into an emptyDir.
"""

from __future__ import annotations

from typing import Final

from brinkbyte.controller.children import common
from brinkbyte.controller.children.common import Object, Plan
from brinkbyte.resources import names

MODELS_DIR: Final = "/models"
_KEY: Final = f"{names.TRITON_DIR}/{names.TRITON_CONTROL_KEY}"
# Restricted both ways in: a load or unload needs the control key, inference does not.
START_SCRIPT: Final = (
    f'key="$(cat {_KEY})"; exec tritonserver --model-repository={MODELS_DIR} '
    "--model-control-mode=explicit --strict-readiness=false --allow-gpu-metrics=false "
    "--disable-auto-complete-config "
    f"--http-port={names.TRITON_HTTP_PORT} --grpc-port={names.TRITON_GRPC_PORT} "
    f"--metrics-port={names.TRITON_METRICS_PORT} "
    f'--http-restricted-api="model-repository:{names.TRITON_CONTROL_HEADER}=$key" '
    f'--grpc-restricted-protocol="model-repository:{names.TRITON_CONTROL_HEADER}=$key"'
)


def build(plan: Plan) -> list[Object]:
    """Return the objects of Triton."""
    settings = plan.resolved.triton
    component = common.TRITON
    template = common.pod_template(
        plan,
        component,
        settings,
        credentials=[component],
        init_containers=[
            common.container(
                plan,
                "models",
                plan.resolved.instance.image,
                ["brinkbyte", "instance", "models", MODELS_DIR],
                resources=plan.resolved.reporter.resources,
                mounts={"models": MODELS_DIR, "tmp": "/tmp"},  # noqa: S108 - an emptyDir
            )
        ],
        containers=[
            common.container(
                plan,
                component,
                settings.image,
                ["sh", "-c", START_SCRIPT],
                resources=settings.resources,
                mounts={
                    "models": MODELS_DIR,
                    "tmp": "/tmp",  # noqa: S108 - an emptyDir of the pod
                    "shm": "/dev/shm",  # noqa: S108 - an emptyDir of the pod
                    **common.secret_mounts("triton"),
                },
                read_only=["models", "triton"],
                gpus=plan.tenant.spec.triton.gpus,
                ports={
                    "http": names.TRITON_HTTP_PORT,
                    "grpc": names.TRITON_GRPC_PORT,
                    "metrics": names.TRITON_METRICS_PORT,
                },
                startupProbe=common.http_probe(
                    "/v2/health/live", names.TRITON_HTTP_PORT, period=1, failures=300
                ),
                readinessProbe=common.http_probe(
                    "/v2/health/ready", names.TRITON_HTTP_PORT, period=5, failures=3
                ),
                livenessProbe=common.http_probe(
                    "/v2/health/live", names.TRITON_HTTP_PORT, period=15, failures=4
                ),
            )
        ],
        volumes=[
            common.empty_dir("models", size="2Gi"),
            common.empty_dir("tmp", size="1Gi"),
            common.empty_dir("shm", size="1Gi", memory=True),
            *common.secret_volumes(plan, "triton"),
        ],
    )
    deployment = common.child(
        plan,
        "apps/v1",
        "Deployment",
        component,
        spec={
            "replicas": settings.replicas,
            "selector": {"matchLabels": common.selector(plan.tenant.name, component)},
            # A GPU is seldom free twice: with one pod the old one goes first.
            "strategy": {"type": "Recreate"}
            if settings.replicas == 1
            else {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": template,
        },
    )
    return [
        common.service_account(plan, component),
        common.service(
            plan,
            component,
            {
                "http": names.TRITON_HTTP_PORT,
                "grpc": names.TRITON_GRPC_PORT,
                "metrics": names.TRITON_METRICS_PORT,
            },
            headless=True,
        ),
        deployment,
        *common.disruption_budget(plan, component, settings.replicas),
    ]
