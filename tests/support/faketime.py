"""Programs under another clock: Debian's libfaketime, for tests only.

No setting of the product shifts time. A program of this machine gets the library preloaded; for
pods there is a layer on top of the project's image, which reads its clock from a file in a
directory that is mounted anyway. The machine's, node's and cluster's clocks are not touched.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from brinkbyte.resources.names import ACCESS_DIR
from stack import images
from stack.tools import LOCALKUBE, cluster_tool, step, stream

CLOCK_KEY: Final = "test-clock"
"""Key that a test adds to the Secret of the access directory: seconds, as ``+3600``."""
_SETTINGS: Final = {
    # Waiting stays as it is: only the time of day moves.
    "DONT_FAKE_MONOTONIC": "1",
    "NO_FAKE_STAT": "1",
    "FAKETIME_DISABLE_SHM": "1",
    "FAKETIME_CACHE_DURATION": "1",
}
_IN_IMAGE: Final = "/opt/faketime/libfaketime.so"


def library() -> Path:
    """Return Debian's library.

    Raises:
        RuntimeError: it is not installed.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise RuntimeError("libfaketime is missing; run: hack/debian-packages libfaketime")
    return found[0]


@dataclass(frozen=True)
class Clock:
    """A clock for programs of this machine.

    Attributes:
        file: holds how far it is ahead; running programs follow within a second.
    """

    file: Path

    def set(self, seconds: int) -> None:
        """Put it ahead of the machine's."""
        self.file.write_text(f"+{seconds}\n")

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a program under this clock."""
        return {
            **_SETTINGS,
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
        }


def image_with_clock() -> str:
    """Build the project's image with the library on top and return its name."""
    base, lib = images.project_image(), library()
    settings = {
        **_SETTINGS,
        "LD_PRELOAD": _IN_IMAGE,
        "FAKETIME_TIMESTAMP_FILE": f"{ACCESS_DIR}/{CLOCK_KEY}",
    }
    words = " ".join(f"{name}={value}" for name, value in settings.items())
    recipe = f"FROM {base}\nCOPY libfaketime.so {_IN_IMAGE}\nENV {words}\n"
    digest = hashlib.sha256(recipe.encode() + lib.read_bytes()).hexdigest()[:12]
    name = f"brinkbyte/faketime:dev-{digest}"
    with step("a test image with a clock of its own"), tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        (context / "Dockerfile").write_text(recipe)
        shutil.copyfile(lib, context / "libfaketime.so")
        if images.uses_docker():
            stream(["docker", "build", "--quiet", "--tag", name, context])
        else:
            stream([LOCALKUBE, "build-image", "--tag", name, context])
    return name


def load_image(cluster_name: str | None, image: str) -> None:
    """Put an image into a cluster of ours."""
    if cluster_name is not None:
        stream([cluster_tool(), "load", "docker-image", "--name", cluster_name, image])
