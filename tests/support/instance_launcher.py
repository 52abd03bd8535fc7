"""Serves the instance API in a process of its own, trusting the pretended vendor's roots.

The program itself has no setting for roots; only a test may bring its own, through this launcher.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import uvicorn

from brinkbyte.instance.app import create_app
from brinkbyte.instance.settings import InstanceSettings
from brinkbyte.kit.logging import configure_logging
from brinkbyte.license.keys import load_roots


def main() -> None:
    roots_file, port = sys.argv[1:3]
    configure_logging(level="info", json_lines=True)
    roots = load_roots(json.dumps(json.loads(Path(roots_file).read_text())))
    app = create_app(InstanceSettings.load(port=int(port)), roots=roots)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_config=None, access_log=False)


if __name__ == "__main__":
    main()
