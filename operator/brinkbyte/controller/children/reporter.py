"""The usage reporter: a CronJob that never overlaps itself and ends before its next turn."""

from __future__ import annotations

from typing import Final

from brinkbyte.controller.children import common
from brinkbyte.controller.children.common import Object, Plan

_DIRECTORIES: Final = ("license", "identity", "postgres")
_SPARE_SECONDS: Final = 5
"""Between the deadline of a run and the start of the next."""
_START_SECONDS: Final = 20
"""For a pod to start and to end by itself before its deadline kills it."""


def job_template(plan: Plan, *, final: bool = False) -> Object:
    """Return the Job of one report.

    Args:
        plan: of the Tenant.
        final: the last one: it does not wait for its turn among the Tenants of a cluster, and
            succeeds only when every event has its receipt.
    """
    settings = plan.resolved.reporter
    component = common.REPORTER
    deadline = plan.resolved.period_minutes * 60 - _SPARE_SECONDS
    env = {
        "BRINKBYTE_CUSTOMER_ID": plan.tenant.spec.customer_id,
        "BRINKBYTE_REPORT_DEADLINE_SECONDS": str(deadline - _START_SECONDS),
    }
    if final:
        env["BRINKBYTE_REPORT_FINAL"] = "1"
    else:
        env["BRINKBYTE_REPORT_DELAY_SEED"] = plan.tenant.metadata.uid
    template = common.pod_template(
        plan,
        component,
        settings,
        restart_policy="Never",
        grace_seconds=10,
        containers=[
            common.container(
                plan,
                component,
                settings.image,
                ["brinkbyte", "usage", "report"],
                resources=settings.resources,
                mounts={
                    "tmp": "/tmp",  # noqa: S108 - an emptyDir of the pod
                    **common.secret_mounts(*_DIRECTORIES),
                },
                read_only=_DIRECTORIES,
                env=env,
            )
        ],
        volumes=[
            common.empty_dir("tmp", size="64Mi"),
            *common.secret_volumes(plan, *_DIRECTORIES),
        ],
    )
    return {
        "metadata": {"labels": common.labels(plan.tenant, component)},
        "spec": {
            "activeDeadlineSeconds": deadline,
            "backoffLimit": 1,
            "ttlSecondsAfterFinished": 600,
            "template": template,
        },
    }


def build(plan: Plan) -> list[Object]:
    """Return the objects of the reporter."""
    component = common.REPORTER
    minutes = plan.resolved.period_minutes
    cron_job = common.child(
        plan,
        "batch/v1",
        "CronJob",
        component,
        spec={
            "schedule": "* * * * *" if minutes == 1 else f"*/{minutes} * * * *",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": minutes * 60,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1,
            "suspend": False,
            "jobTemplate": job_template(plan),
        },
    )
    return [common.service_account(plan, component), cron_job]
