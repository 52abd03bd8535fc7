"""The operator's memory is not spent on client libraries that it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
OPERATOR = Path(__file__).resolve().parents[3] / "operator"
PROGRAM = """
import sys
import brinkbyte.controller.app
print(*sorted({"kopf", "kubernetes", "pykube", "requests"} & sys.modules.keys()))
import kubernetes.client
print(kubernetes.client.V1Pod.__name__)
"""


def test_kopf_comes_without_what_it_only_asks_after() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": str(OPERATOR)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["kopf", "V1Pod"]
