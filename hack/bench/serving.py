"""What the load runs against, in a process of its own: the instance API, or the bare reference.

``python -m bench.serving instance FOLDER PORT`` trusts ``FOLDER/roots.json``; the program itself
has no setting for roots.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from brinkbyte.instance.app import create_app
from brinkbyte.instance.settings import InstanceSettings
from brinkbyte.kit.logging import configure_logging
from brinkbyte.license.keys import load_roots

ANSWER = {
    "cameraId": "cam-00000", "valid": True, "mode": "active", "reason": "LicenseValid",
    "message": "The license is valid", "waived": None, "tier": "memory",
    "hardwareId": "hw-bench", "growthPacks": [],
    "models": ["bus", "car", "motorcycle", "person", "truck", "van"],
    "analytics": ["counting", "detection", "dwell", "tracking"],
    "outputs": ["api", "dashboard", "edge_io", "email", "webhook"],
    "validUntil": 1_800_000_000, "upgradeUrl": None,
}  # fmt: skip


def reference() -> FastAPI:
    """Return the least that FastAPI can do: the same path and JSON, no credential, no license."""
    app = FastAPI()

    @app.post("/api/v1/license/validate/{camera_id}")
    async def validate(camera_id: str) -> dict[str, object]:
        return {**ANSWER, "cameraId": camera_id}

    return app


def main() -> None:
    """Serve until SIGTERM."""
    kind, folder, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    configure_logging(level="error", json_lines=True)
    if kind == "reference":
        app = reference()
    else:
        app = create_app(
            InstanceSettings.load(), roots=load_roots((folder / "roots.json").read_text())
        )
    gc.collect()
    gc.freeze()  # as the program does; for the reference, too
    uvicorn.run(
        app, host="127.0.0.1", port=port, log_config=None, access_log=False, server_header=False
    )


if __name__ == "__main__":
    main()
