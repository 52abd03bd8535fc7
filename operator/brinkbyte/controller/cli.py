"""``brinkbyte operator``: run the operator, release finalizers before it is uninstalled."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from brinkbyte.controller.cluster import Cluster
from brinkbyte.controller.connection import in_pod, load_connection
from brinkbyte.controller.metrics import Metrics
from brinkbyte.controller.settings import OperatorSettings
from brinkbyte.kit.logging import configure_logging
from brinkbyte.resources import names
from brinkbyte.trust import load_release_roots

_STOP_SECONDS = 120.0

app = typer.Typer(no_args_is_help=True, help="The Kubernetes operator.")

Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        help="kubeconfig file; by default the pod's service account, then ~/.kube/config "
        "[BRINKBYTE_KUBECONFIG]"
    ),
]
LogLevel = Annotated[
    str | None, typer.Option(help="debug, info, warning or error [BRINKBYTE_LOG_LEVEL]")
]


@app.command()
def run(
    *,
    kubeconfig: Kubeconfig = None,
    operator_namespace: Annotated[
        str | None, typer.Option(help="Namespace of the operator [BRINKBYTE_OPERATOR_NAMESPACE]")
    ] = None,
    instance_image: Annotated[
        str | None, typer.Option(help="Our image, for instances [BRINKBYTE_INSTANCE_IMAGE]")
    ] = None,
    watch_namespaces: Annotated[
        str | None,
        typer.Option(help="Comma-separated; empty: all [BRINKBYTE_WATCH_NAMESPACES]"),
    ] = None,
    health_port: Annotated[
        int | None, typer.Option(help="Port of /healthz, 0: none [BRINKBYTE_HEALTH_PORT]")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of /metrics, 0: none [BRINKBYTE_METRICS_PORT]")
    ] = None,
    log_level: LogLevel = None,
) -> None:
    """Run the operator until told to stop."""
    settings = OperatorSettings.load(
        kubeconfig=kubeconfig,
        operator_namespace=operator_namespace,
        instance_image=instance_image,
        watch_namespaces=watch_namespaces,
        health_port=health_port,
        metrics_port=metrics_port,
        log_level=log_level,
    )
    configure_logging(level=settings.log_level)
    roots = load_release_roots()

    if settings.kubeconfig is None and in_pod():
        # kopf loads the official client where it can, for helpers that we do not use.
        sys.modules.setdefault("kubernetes", None)  # type: ignore[arg-type]
    from brinkbyte.controller.app import Operator  # noqa: PLC0415

    async def serve() -> None:
        connection = await load_connection(settings.kubeconfig)
        await Operator(settings, roots, connection).run()

    asyncio.run(serve())


@app.command("release-finalizers")
def release_finalizers(kubeconfig: Kubeconfig = None, log_level: LogLevel = None) -> None:
    """Stop the operator, then take our finalizer off every Tenant; run before uninstalling.

    Nothing else changes. Seats are freed later by the vendor, or when the last token has ended.
    """
    settings = OperatorSettings.load(kubeconfig=kubeconfig, log_level=log_level)
    configure_logging(level=settings.log_level)
    released = asyncio.run(_release(settings))
    typer.echo(f"{released} Tenants released")


async def _stop_operator(cluster: Cluster, settings: OperatorSettings) -> None:
    """Scale the operator to zero and wait for its pods, which would put the finalizer back."""
    namespace, name = settings.operator_namespace, settings.operator_deployment
    if not name:
        return
    await cluster.patch("Deployment", namespace, name, {"spec": {"replicas": 0}})
    labels = f"app.kubernetes.io/name={settings.operator_pod_name}"
    async with asyncio.timeout(_STOP_SECONDS):
        while await cluster.list(  # noqa: ASYNC110 - the API server has no event to wait for
            "Pod", namespace, labels=f"{labels},app.kubernetes.io/component=operator"
        ):
            await asyncio.sleep(0.5)


async def _release(settings: OperatorSettings) -> int:
    cluster = Cluster(await load_connection(settings.kubeconfig), Metrics())
    released = 0
    try:
        await _stop_operator(cluster, settings)
        for live in await cluster.list("Tenant", None):
            meta = live["metadata"]
            finalizers = meta.get("finalizers", [])
            if names.FINALIZER not in finalizers:
                continue
            left = [each for each in finalizers if each != names.FINALIZER]
            body = {
                "metadata": {
                    "finalizers": left or None,
                    "resourceVersion": meta["resourceVersion"],
                }
            }
            await cluster.patch("Tenant", meta["namespace"], meta["name"], body)
            released += 1
    finally:
        await cluster.close()
    return released
