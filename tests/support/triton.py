"""A real Triton server with its python backend, on the CPU, for service tests.

The server comes out of the ``nvidia-pytriton`` wheel, fetched once with pip into
``${BRINKBYTE_CACHE:-~/.cache/brinkbyte}/triton``. Its python backend runs Python 3.11 with
numpy below 2, whatever Python the tests run on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from brinkbyte.catalog import load_catalog
from brinkbyte.instance.triton.repository import write_models
from support.processes import free_port, remove, spawn_as, stop

WHEEL = "nvidia-pytriton==0.7.0"
PYTHON = "3.11"
HEADER = "brinkbyte-control"
_START_SECONDS = 60.0


def cache_directory() -> Path:
    """Return where downloads are kept between runs."""
    home = os.environ.get("BRINKBYTE_CACHE") or Path.home() / ".cache" / "brinkbyte"
    return Path(home) / "triton"


def installed_server() -> Path:
    """Return the directory of the unpacked server; fetches it the first time."""
    root = cache_directory() / f"server-{WHEEL.rpartition('=')[2]}"
    if (root / "complete").exists():
        return root / "pytriton" / "tritonserver"
    cache_directory().mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=cache_directory()))
    try:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "download", "--no-deps", "--only-binary=:all:", "-d", str(partial), WHEEL])
        with zipfile.ZipFile(next(partial.glob("*.whl"))) as wheel:
            wheel.extractall(partial)
        server = partial / "pytriton" / "tritonserver"
        backend = server / "backends" / "python"
        shutil.copy(
            server / "python_backend_stubs" / PYTHON / "triton_python_backend_stub", backend
        )
        # The stub does not look at PYTHONPATH, but at the backend's own directory.
        _run(
            [
                *pip,
                "install",
                "--no-deps",
                "--only-binary=:all:",
                "--python-version",
                PYTHON,
                "--target",
                str(backend),
                "numpy<2",
            ]
        )
        for program in (backend / "triton_python_backend_stub", server / "bin" / "tritonserver"):
            program.chmod(0o755)
        for wheel_file in partial.glob("*.whl"):
            wheel_file.unlink()
        (partial / "complete").touch()
        partial.chmod(0o755)
        try:
            partial.rename(root)
        except OSError:
            if not (root / "complete").exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root / "pytriton" / "tritonserver"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _library_path() -> str:
    """Return where libpython3.11 is, when it is not among the system's libraries."""
    if sys.version_info[:2] == (3, 11) and sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return str(sysconfig.get_config_var("LIBDIR"))
    return ""


@dataclass
class TritonServer:
    """A running server."""

    port: int
    control_key: str
    repository: Path
    directory: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        server = installed_server()
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": _library_path(),
            # With an interpreter's home of the tests' own the stub would miss its library.
            "TMPDIR": str(self.directory),
        }
        self.process = spawn_as(
            None,
            [
                str(server / "bin" / "tritonserver"),
                f"--model-repository={self.repository}",
                f"--backend-directory={server / 'backends'}",
                "--model-control-mode=explicit",
                "--disable-auto-complete-config",
                "--allow-gpu-metrics=false",
                "--allow-grpc=false",
                "--allow-metrics=false",
                "--http-address=127.0.0.1",
                f"--http-port={self.port}",
                f"--http-restricted-api=model-repository:{HEADER}={self.control_key}",
                f"--backend-config=python,shm-region-prefix-name=bb{self.port}_",
            ],
            cwd=self.directory,
            log=self.directory / "triton.log",
            environment=environment,
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/v2/health/ready", trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        log = (self.directory / "triton.log").read_text(errors="replace")
        raise RuntimeError(f"tritonserver did not become ready:\n{log[-3000:]}")

    def ready_models(self) -> set[str]:
        """Return the models that are loaded, as Triton itself says."""
        answer = httpx.post(
            f"{self.url}/v2/repository/index",
            headers={HEADER: self.control_key},
            json={"ready": True},
            trust_env=False,
        )
        return {entry["name"] for entry in answer.raise_for_status().json()}

    def stop(self) -> None:
        if self.process is not None:
            stop(self.process)
            self.process = None


def write_few_models(repository: Path, names: set[str]) -> None:
    """Write a repository that has these models only: each loaded one is a process."""
    for name in write_models(repository, load_catalog()):
        if name not in names:
            shutil.rmtree(repository / name)


@contextmanager
def running_triton(repository: Path, *, control_key: str = "control") -> Iterator[TritonServer]:
    """Run a server on a model repository until the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="brinkbyte-triton-"))
    server = TritonServer(free_port(), control_key, repository, directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        remove(directory)


@pytest.fixture(scope="session")
def triton_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server on the model repository that ``brinkbyte instance models`` writes."""
    repository = tmp_path_factory.mktemp("models")
    write_models(repository, load_catalog())
    with running_triton(repository) as server:
        yield server
