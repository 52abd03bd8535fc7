"""Steps that must not pass by mistake, without a cluster."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench import measure
from stack.cluster import Cluster
from stack.release import image_values
from stack.tools import ROOT, StepError, run, spawn, stream

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        ("brinkbyte/brinkbyte:dev-1", "brinkbyte/brinkbyte", "dev-1"),
        ("registry.example:5000/a/b:1", "registry.example:5000/a/b", "1"),
        ("a/b@sha256:12", "a/b", "sha256:12"),
        ("a/b:1@sha256:12", "a/b:1", "sha256:12"),
    ],
)
def test_an_image_is_split_at_its_tag(image: str, repository: str, tag: str) -> None:
    assert image_values(image) == {"image.repository": repository, "image.tag": tag}


@pytest.mark.parametrize("image", ["a/b", "registry.example:5000/a/b", "a/b:", ":1"])
def test_an_image_without_a_tag_is_refused(image: str) -> None:
    with pytest.raises(StepError, match="repository:tag"):
        image_values(image)


@pytest.mark.parametrize("start", [run, stream, spawn])
def test_a_missing_program_is_named(start: Any) -> None:
    with pytest.raises(StepError, match="no-such-program is missing"):
        start(["no-such-program"])


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="util-linux has setpriv")
def test_what_was_spawned_ends_with_its_killed_parent() -> None:
    code = (
        "import sys; from stack.tools import spawn; "
        "spawn([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(30)']); "
        "sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "hack")}
    read, parent = subprocess.PIPE, [sys.executable, "-c", code]
    with subprocess.Popen(parent, stdin=read, stdout=read, env=environment) as process:
        assert process.stdout
        assert process.stdout.readline() == b"1\n"
        process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        # The pipe ends with the last process that holds it.
        assert process.stdout.read() == b""
        assert time.monotonic() - killed < 10


@dataclass(frozen=True)
class Scripted(Cluster):
    """A cluster whose kubectl is a line of shell for each verb."""

    get_: str = "cat"
    create_: str = "cat"

    def command(self, *arguments: str | Path) -> list[str]:
        return ["sh", "-c", {"get": self.get_, "create": self.create_}[str(arguments[0])]]


def burst(**scripts: str) -> measure.Burst:
    cluster = Scripted(Path("unused"), **scripts)
    return measure.burst(cluster, "things", measure.camera, namespace="n", ready_path=".x", count=2)


def test_a_burst_ends_with_its_last_ready_object() -> None:
    lines = "printf '%s\n' 'old True' 'cam-00000 ' 'cam-00000 True' 'cam-00001 True'"
    found = burst(get_=f"{lines}; exec sleep 60")
    assert found.total >= found.creating > 0


def test_a_watch_that_the_server_ends_is_followed_by_another(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    found = burst(
        get_=f"if mkdir {seen} 2>&-; then echo cam-00000 True; "
        "else echo cam-00001 True; exec sleep 60; fi"
    )
    assert found.total >= found.creating > 0


@pytest.mark.parametrize(
    ("scripts", "says"),
    [
        ({"get_": "echo cam-00000 True; exec sleep 60"}, "only 1 of 2 things are ready after"),
        ({"get_": "exec sleep 60"}, "only 0 of 2 things are ready after"),
        ({"create_": "echo no room; exit 1"}, "no room"),
    ],
)
def test_a_burst_that_is_not_whole_fails(
    monkeypatch: pytest.MonkeyPatch, scripts: dict[str, str], says: str
) -> None:
    monkeypatch.setattr(measure, "PATIENCE", 0.5)
    with pytest.raises(StepError, match=says):
        burst(**scripts)
