"""Camera licenses by the thousand, beside a bare handler; then the operator starts anew."""

from __future__ import annotations

import re
import time
from typing import Final

from bench import measure, reference
from bench.result import Result, result
from brinkbyte.resources.names import LABEL_OWNER_KIND
from stack.cluster import Cluster
from stack.release import OPERATOR, OPERATOR_NAMESPACE
from stack.tools import step, wait_for

# How many → seconds from the last create to the last Ready, resident megabytes, share of the bare
# handler's time from first create to last Ready (None: for the record).
BOUNDS: Final[dict[int, tuple[float, float | None, float | None]]] = {
    200: (2.0, None, None),
    1_000: (2.0, 120.0, 1.5),
    10_000: (6.0, 200.0, 1.5),
}
RESTART_SECONDS: Final = 15.0
METRICS_PORT: Final = 8082
"""By number: the API server knows no names of a pod's ports."""
READY: Final = ".status.conditions[?(@.type=='Ready')].status"
BARE: Final = f"{reference.PLURAL}.{reference.GROUP}"
OURS: Final = "cameralicenses.vision.brinkbyte.io"
_WRITES: Final = frozenset({"apply", "patch", "create", "delete"})
_QUIET_SECONDS: Final = 2.0
_MEGABYTE: Final = 1_000_000


def crowds(cluster: Cluster) -> list[Result]:
    """Measure every size, the largest last; its licenses stay for the restart."""
    found: list[Result] = []
    for count in BOUNDS:
        with step(f"{count} objects at once: the bare handler, then ours"):
            found += _crowd(cluster, count, keep=count == max(BOUNDS))
    with step("the operator starts anew"):
        found += _restart(cluster, max(BOUNDS))
    return found


def _crowd(cluster: Cluster, count: int, *, keep: bool) -> list[Result]:
    with measure.bare_handler(cluster):
        floor = measure.burst(
            cluster, BARE, measure.bare, namespace=measure.BARE_NAMESPACE,
            ready_path=".status.ready", count=count,
        )  # fmt: skip
    _remove(cluster, BARE, measure.BARE_NAMESPACE)
    ours = measure.burst(
        cluster, OURS, measure.camera, namespace=measure.NAMESPACE, ready_path=READY, count=count
    )
    resident = Operator(cluster).gauge("process_resident_memory_bytes") / _MEGABYTE
    if not keep:
        _remove(cluster, OURS, measure.NAMESPACE)
    seconds, megabytes, share = BOUNDS[count]
    beside = "bare kopf handler, one Secret and one status"
    title = f"{count:,} CameraLicenses"
    found = [
        result(
            f"{title}: last create to last Ready", ours.after, "s",
            beside=beside, beside_value=floor.after,
            target=f"<= {seconds:g} s", ok=ours.after <= seconds,
        ),
        result(
            f"{title}: first create to last Ready", ours.total, "s",
            beside=beside, beside_value=floor.total,
            target="for the record" if share is None else f"<= {share:g} x",
            ok=share is None or ours.total <= share * floor.total,
        ),
    ]  # fmt: skip
    if megabytes is not None:
        found.append(
            result(
                f"{title}: resident memory of the operator", resident, "MB",
                beside="bound", beside_value=megabytes,
                target=f"<= {megabytes:g} MB", ok=resident <= megabytes,
            )
        )  # fmt: skip
    return found


def _remove(cluster: Cluster, kind: str, namespace: str) -> None:
    """Delete objects and their Secrets: what is still going would burden what is measured next."""
    cluster.kubectl("delete", kind, "--all", "--namespace", namespace, "--wait=false", timeout=900)
    secrets = ["secrets", "--namespace", namespace]
    if kind == OURS:
        secrets += ["--selector", f"{LABEL_OWNER_KIND}=CameraLicense"]
    else:
        secrets += ["--field-selector", "type=Opaque"]
    cluster.kubectl("delete", *secrets, "--ignore-not-found", "--wait=false", timeout=900)
    _wait_gone(cluster, kind, "--namespace", namespace)
    _wait_gone(cluster, *secrets)


def _wait_gone(cluster: Cluster, *what: str) -> None:
    wait_for(
        f"{what[0]} to be gone",
        lambda: not cluster.kubectl("get", *what, "--output=name"),
        timeout=600,
    )


def _restart(cluster: Cluster, count: int) -> list[Result]:
    Operator(cluster).quiet(patience=120)
    started = time.monotonic()
    cluster.kubectl(
        "rollout", "restart", f"deployment/{OPERATOR}", "--namespace", OPERATOR_NAMESPACE
    )
    cluster.kubectl(
        "rollout", "status", f"deployment/{OPERATOR}", "--namespace", OPERATOR_NAMESPACE,
        "--timeout=2m",
    )  # fmt: skip
    up = time.monotonic()
    operator = Operator(cluster)
    settled = operator.quiet(patience=120) - up
    writes = operator.writes()
    return [
        result(
            f"Restart with {count:,} CameraLicenses in place: started to settled", settled, "s",
            beside="the pod's own start", beside_value=up - started,
            target=f"<= {RESTART_SECONDS:g} s", ok=settled <= RESTART_SECONDS,
        ),
        result(
            f"Restart with {count:,} CameraLicenses in place: writes", writes, "",
            beside="none", beside_value=0.0, target="0", ok=writes == 0,
        ),
    ]  # fmt: skip


class Operator:
    """The operator's pod, by its metrics."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        pods = cluster.kubectl(
            "get", "pods", "--namespace", OPERATOR_NAMESPACE,
            "--selector", "app.kubernetes.io/component=operator",
            "--field-selector", "status.phase=Running",
            "--sort-by", "{.metadata.creationTimestamp}", "--output", "name",
        ).split()  # fmt: skip
        name = pods[-1].removeprefix("pod/")
        pods_path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods"
        self._path = f"{pods_path}/{name}:{METRICS_PORT}/proxy/metrics"

    def _metrics(self) -> str:
        return self._cluster.kubectl("get", "--raw", self._path)

    def gauge(self, name: str) -> float:
        """Return the value of a metric without labels."""
        found = re.search(rf"^{name} (\S+)$", self._metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def writes(self) -> int:
        """Return how many writes it has sent to the Kubernetes API."""
        found = re.findall(
            r'^brinkbyte_operator_kubernetes_requests_total\{.*verb="(\w+)"\} (\S+)$',
            self._metrics(),
            re.MULTILINE,
        )
        return sum(int(float(count)) for verb, count in found if verb in _WRITES)

    def quiet(self, *, patience: float) -> float:
        """Wait until it has done a pass and then nothing for a while; return when that began.

        Raises:
            StepError: it is not quiet after ``patience`` seconds.
        """
        since: list[float] = []

        def probe() -> bool:
            text = self._metrics()
            passed = re.search(
                r'^brinkbyte_operator_reconcile_seconds_count\{result="ok",what="Members"\} [1-9]',
                text,
                re.MULTILINE,
            )
            idle = all(
                re.search(rf"^brinkbyte_operator_{name} 0\.0$", text, re.MULTILINE)
                for name in ("queue_depth", "reconciles_running")
            )
            if not (passed and idle):
                since.clear()
                return False
            since.append(time.monotonic())
            return since[-1] - since[0] >= _QUIET_SECONDS

        wait_for("the operator to be quiet", probe, timeout=patience, every=0.2)
        return since[0]
