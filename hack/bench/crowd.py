"""Camera licenses by the thousand, beside a bare handler; then the operator starts anew.

The site is in use: it has a camera already, and Triton its models. Loading them takes Triton a
second of both processors, which would fall into a measurement or not, and issues no license.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from statistics import median
from typing import Final

import httpx

from bench import measure, reference
from bench.result import Result, result
from brinkbyte.resources import names
from stack.cluster import Cluster
from stack.forward import PortForward
from stack.release import OPERATOR, OPERATOR_NAMESPACE
from stack.tools import step, wait_for


@dataclass(frozen=True)
class Bounds:
    """What is asked of one size.

    Attributes:
        after: seconds from the last create to the last Ready.
        resident: megabytes of the operator.
        share: of the bare handler's time from first create to last Ready; None: for the record.
        rounds: measured in turns with the bare handler; of seconds the median counts. In a round of
            some seconds a reporter's run or a compaction of etcd is more than what is measured.
    """

    after: float
    resident: float | None = None
    share: float | None = None
    rounds: int = 1


BOUNDS: Final = {
    200: Bounds(after=2.0),
    1_000: Bounds(after=2.0, resident=120.0, share=1.5, rounds=3),
    10_000: Bounds(after=6.0, resident=200.0, share=1.5),
}
RESTART_SECONDS: Final = 15.0
METRICS_PORT: Final = 8082
"""By number: the API server knows no names of a pod's ports."""
READY: Final = ".status.conditions[?(@.type=='Ready')].status"
BARE: Final = f"{reference.PLURAL}.{reference.GROUP}"
OURS: Final = "cameralicenses.vision.brinkbyte.io"
_WRITES: Final = frozenset({"apply", "patch", "create", "delete"})
TENANT: Final = measure.tenant()["metadata"]["name"]
_FIRST: Final = measure.camera(20_000)
"""The camera that the site has before, numbered beyond the crowds; it stays."""
_MEASURED: Final = f"metadata.name!={_FIRST['metadata']['name']}"
_QUIET_SECONDS: Final = 2.0
_MEGABYTE: Final = 1_000_000


def crowds(cluster: Cluster) -> list[Result]:
    """Measure every size, the largest last; its licenses stay for the restart."""
    found: list[Result] = []
    with step("the site's first camera, and its models on Triton"):
        _open(cluster)
    for count in BOUNDS:
        with step(f"{count} objects at once: the bare handler, then ours"):
            found += _crowd(cluster, count, keep=count == max(BOUNDS))
    with step("the operator starts anew"):
        found += _restart(cluster, max(BOUNDS))
    return found


def _open(cluster: Cluster) -> None:
    """Give the site its first camera and wait until Triton has loaded what it may."""
    cluster.apply(_FIRST)
    secret = cluster.secret(measure.NAMESPACE, TENANT + names.ACCESS_SUFFIX)
    headers = {"Authorization": f"Bearer {secret[names.SERVICE_TOKEN_KEY].decode()}"}
    since: list[float] = []
    service = TENANT + names.INSTANCE_SUFFIX
    with PortForward(cluster, measure.NAMESPACE, service, names.INSTANCE_PORT) as forward:

        def loaded() -> bool:
            try:
                text = httpx.get(f"{forward.url}/metrics", headers=headers, trust_env=False).text
            except httpx.HTTPError:
                return False
            seats = _gauge(text, "brinkbyte_instance_camera_seats")
            if seats != 1 or _gauge(text, "brinkbyte_instance_triton_ready") != 1:
                since.clear()
                return False
            since.append(time.monotonic())
            return since[-1] - since[0] >= _QUIET_SECONDS  # it may just have begun

        # The kubelet brings the list of seats to the instance within a minute or so.
        wait_for("Triton to have the first camera's models", loaded, timeout=180)


def _crowd(cluster: Cluster, count: int, *, keep: bool) -> list[Result]:
    bounds = BOUNDS[count]
    floors: list[measure.Burst] = []
    bursts: list[measure.Burst] = []
    resident = 0.0
    for number in range(bounds.rounds):
        with measure.bare_handler(cluster):
            floors.append(_burst(cluster, count, bare=True))
        _remove(cluster, BARE, measure.BARE_NAMESPACE)
        bursts.append(_burst(cluster, count, bare=False))
        resident = max(resident, Operator(cluster).gauge("process_resident_memory_bytes"))
        if not keep or number < bounds.rounds - 1:
            _remove(cluster, OURS, measure.NAMESPACE)
    return _results(count, bounds, floors, bursts, resident / _MEGABYTE)


def _burst(cluster: Cluster, count: int, *, bare: bool) -> measure.Burst:
    if bare:
        return measure.burst(
            cluster, BARE, measure.bare, namespace=measure.BARE_NAMESPACE,
            ready_path=".status.ready", count=count,
        )  # fmt: skip
    return measure.burst(
        cluster, OURS, measure.camera, namespace=measure.NAMESPACE, ready_path=READY, count=count
    )


def _results(
    count: int,
    bounds: Bounds,
    floors: list[measure.Burst],
    bursts: list[measure.Burst],
    resident: float,
) -> list[Result]:
    after, total = (median(getattr(each, name) for each in bursts) for name in ("after", "total"))
    floor = median(each.total for each in floors)
    beside = "bare kopf handler, one Secret and one status"
    title = f"{count:,} CameraLicenses"
    if bounds.rounds > 1:
        title += f", median of {bounds.rounds}"
    found = [
        result(
            f"{title}: last create to last Ready", after, "s",
            beside=beside, beside_value=median(each.after for each in floors),
            target=f"<= {bounds.after:g} s", ok=after <= bounds.after,
        ),
        result(
            f"{title}: first create to last Ready", total, "s",
            beside=beside, beside_value=floor,
            target="for the record" if bounds.share is None else f"<= {bounds.share:g} x",
            ok=bounds.share is None or total <= bounds.share * floor,
        ),
    ]  # fmt: skip
    if bounds.resident is not None:
        found.append(
            result(
                f"{count:,} CameraLicenses: resident memory of the operator", resident, "MB",
                beside="bound", beside_value=bounds.resident,
                target=f"<= {bounds.resident:g} MB", ok=resident <= bounds.resident,
            )
        )  # fmt: skip
    return found


def _remove(cluster: Cluster, kind: str, namespace: str) -> None:
    """Delete objects and their Secrets: what is still going would burden what is measured next."""
    objects = [kind, "--namespace", namespace, "--field-selector", _MEASURED]
    secrets = ["secrets", "--namespace", namespace, "--field-selector"]
    if kind == OURS:
        secrets += [_MEASURED + names.CAMERA_LICENSE_SUFFIX]
        secrets += ["--selector", f"{names.LABEL_OWNER_KIND}=CameraLicense"]
    else:
        secrets += ["type=Opaque"]
    for what in (objects, secrets):
        cluster.kubectl("delete", *what, "--ignore-not-found", "--wait=false", timeout=900)
    for what in (objects, secrets):
        _wait_gone(cluster, *what)


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
        return _gauge(self._metrics(), name)

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


def _gauge(text: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0
