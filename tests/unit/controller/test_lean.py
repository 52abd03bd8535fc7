"""The operator's memory is not spent on libraries that it does not use."""

from __future__ import annotations

import asyncio.sslproto
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from brinkbyte.controller.lean import not_installed

pytestmark = pytest.mark.unit
OPERATOR = Path(__file__).resolve().parents[3] / "operator"
LOADED = """
import sys
import brinkbyte.cli.main, brinkbyte.controller.cli, brinkbyte.controller.app
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
AFTERWARDS = """
import brinkbyte.controller.app
import kubernetes.client
import rich.traceback
print(kubernetes.client.V1Pod.__name__, rich.traceback.Traceback.__name__)
"""


def _say(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(OPERATOR)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_only_what_the_operator_uses_is_loaded() -> None:
    loaded = set(_say(LOADED))
    assert {"httpx", "kopf", "structlog"} <= loaded
    assert not {"kubernetes", "pygments", "pykube", "requests", "rich"} & loaded


def test_what_was_left_out_can_be_loaded_afterwards() -> None:
    assert _say(AFTERWARDS) == ["V1Pod", "Traceback"]


def test_what_is_hidden_can_be_imported_afterwards() -> None:
    sys.modules.pop("this", None)
    with not_installed("this", "sys"), pytest.raises(ImportError):
        import_module("this")
    assert "sys" in sys.modules
    assert "this" not in sys.modules


def test_a_tls_connection_has_a_small_buffer() -> None:
    """asyncio keeps one of this size for each connection."""
    assert asyncio.sslproto.SSLProtocol.max_size <= 64 * 1024
