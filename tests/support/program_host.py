"""A process that has our programs loaded and forks one for each request: see ``programs``.

``python -m support.program_host FD``, where FD is a socket of packets. A request to start is JSON
``{module, arguments, cwd, environment}`` with the descriptors of stdin, stdout and stderr; the
answer is the process id. A request ``{reap: pid}`` is answered with the wait status of one that has
ended.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import socket
import sys
import time
from typing import Any, Final

from support.processes import die_with_parent

_MAX_REQUEST: Final = 1 << 18
_LOADED: Final = (
    "brinkbyte.billing.admin",
    "brinkbyte.billing.app",
    "brinkbyte.billing.cli",
    "brinkbyte.billing.providers.opening",
    "brinkbyte.billing.worker",
    "brinkbyte.cli.license",
    "brinkbyte.importer.cli",
    "brinkbyte.instance.cli",
    "brinkbyte.reporter.air_gap",
    "brinkbyte.reporter.cli",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
)
_PRELOAD: Final = "LD_PRELOAD"
"""A library that comes before all others comes with a start alone: such as another clock."""
_FAILPOINTS: Final = "brinkbyte.kit.failpoints"


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        for name in _LOADED:
            importlib.import_module(name)
        # What is there by now is for ever: no collection touches, and so copies, its pages.
        gc.freeze()
        started = _serve(channel)
    if started is not None:
        _become(*started)


def _serve(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Answer until nobody asks any more; in a child, return what it is to be."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, _MAX_REQUEST, 3)
        if not message:
            return None
        request = json.loads(message)
        if "reap" in request:
            _, status = os.waitpid(request["reap"], 0)
            channel.send(json.dumps(status).encode())
            continue
        child = os.fork()
        if not child:
            return request, descriptors
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(json.dumps(child).encode())


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Be what ``python -m module arguments`` would be."""
    die_with_parent()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    if _PRELOAD in request["environment"]:
        command = [sys.executable, "-m", request["module"], *request["arguments"]]
        os.execve(sys.executable, command, request["environment"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    # Read once, when it is loaded.
    importlib.reload(sys.modules[_FAILPOINTS])
    sys.argv = [request["module"], *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
