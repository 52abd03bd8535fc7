"""Redis: a cache of the instance's; append-only file on a volume, so it comes back warm.

The image contract: ``sh``, ``redis-server`` and ``redis-cli`` on PATH.
"""

from __future__ import annotations

from typing import Final

from brinkbyte.controller.children import common
from brinkbyte.controller.children.common import Object, Plan
from brinkbyte.resources import names
from brinkbyte.resources.quantity import parse_quantity

DATA_DIR: Final = "/var/lib/brinkbyte/data"
_CONFIG: Final = "/run/brinkbyte/redis.conf"
_PASSWORD: Final = f"{names.REDIS_DIR}/{names.REDIS_PASSWORD_KEY}"
_PING: Final = f'REDISCLI_AUTH="$(cat {_PASSWORD})" redis-cli -h 127.0.0.1 ping | grep -q PONG'


def start_script(max_memory_bytes: int) -> str:
    """Return the shell script that writes the configuration and becomes the server.

    The password stands in a file of the pod only, never in arguments or environment.
    """
    settings = "\\n".join(
        (
            f"port {names.REDIS_PORT}",
            "bind * -::*",
            "protected-mode yes",
            f"dir {DATA_DIR}",
            f"maxmemory {max_memory_bytes}",
            "maxmemory-policy allkeys-lru",
            "appendonly yes",
            "appendfsync everysec",
            'save \\"\\"',
            "",
        )
    )
    return (
        f'set -eu; umask 077; printf "{settings}" > {_CONFIG}; '
        f"printf 'requirepass %s\\n' \"$(cat {_PASSWORD})\" >> {_CONFIG}; "
        f"exec redis-server {_CONFIG}"
    )


def build(plan: Plan) -> list[Object]:
    """Return the objects of Redis; none when the customer runs it."""
    settings = plan.resolved.redis
    if settings is None:
        return []
    component = common.REDIS
    ping = ("sh", "-c", _PING)
    volumes = [
        common.empty_dir("run", size="1Mi"),
        common.empty_dir("tmp", size="16Mi"),
        *common.secret_volumes(plan, "redis"),
    ]
    if settings.volume is None:
        volumes.append(common.empty_dir("data", size="2Gi"))
    template = common.pod_template(
        plan,
        component,
        settings,
        credentials=[component],
        containers=[
            common.container(
                plan,
                component,
                settings.image,
                ["sh", "-c", start_script(int(parse_quantity(plan.resolved.redis_max_memory)))],
                resources=settings.resources,
                mounts={
                    "data": DATA_DIR,
                    "run": "/run/brinkbyte",
                    "tmp": "/tmp",  # noqa: S108 - an emptyDir of the pod
                    **common.secret_mounts("redis"),
                },
                read_only=["redis"],
                ports={"redis": names.REDIS_PORT},
                startupProbe=common.exec_probe(*ping, period=1, failures=120),
                readinessProbe=common.exec_probe(*ping, period=10, failures=2),
                livenessProbe=common.exec_probe(*ping, period=20, failures=4),
            )
        ],
        volumes=volumes,
    )
    spec: Object = {
        "replicas": 1,
        "serviceName": plan.name(component),
        "selector": {"matchLabels": common.selector(plan.tenant.name, component)},
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "template": template,
    }
    if settings.volume is not None:
        spec["volumeClaimTemplates"] = [common.claim_template(plan, component, settings)]
    return [
        common.service_account(plan, component),
        common.service(plan, component, {"redis": names.REDIS_PORT}),
        common.child(plan, "apps/v1", "StatefulSet", component, spec=spec),
    ]
