"""Reach a Service of a cluster from this machine, also while its pods come and go."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from types import TracebackType
from typing import Final, Self

from stack.cluster import Cluster
from stack.tools import StepError

_LOCAL: Final = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class PortForward:
    """A ``kubectl port-forward`` that is started again whenever it ends.

    Args:
        cluster: the cluster.
        namespace: of the Service.
        service: its name.
        port: the Service's port.
    """

    def __init__(self, cluster: Cluster, namespace: str, service: str, port: int) -> None:
        self._command = (
            "port-forward", f"service/{service}", f":{port}", "--address", "127.0.0.1",
            "--namespace", namespace,
        )  # fmt: skip
        self._cluster = cluster
        self._stopped = threading.Event()
        self._ready = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self._thread = threading.Thread(target=self._keep, daemon=True)

    @property
    def url(self) -> str:
        """Where the Service is now.

        Raises:
            StepError: nothing answers for a minute.
        """
        if not self._ready.wait(60):
            raise StepError(f"kubectl {' '.join(self._command)} does not come up")
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        if self._process:
            self._process.terminate()
        self._thread.join(10)

    def _keep(self) -> None:
        while not self._stopped.is_set():
            process = self._process = self._cluster.popen(*self._command)
            for line in process.stdout or ():
                if found := _LOCAL.search(line):
                    self._port = int(found.group(1))
                    self._ready.set()
                # kubectl holds on to a pod that has gone: its forward has to be made anew.
                if "lost connection" in line or "an error occurred forwarding" in line:
                    process.terminate()
            process.wait()
            self._ready.clear()
            if process.stdout:
                process.stdout.close()
            if not self._stopped.is_set():
                time.sleep(0.3)
