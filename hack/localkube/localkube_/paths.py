"""Where things live, and the locks that keep two invocations from clashing."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .report import LocalkubeError, say

SOURCE = Path(__file__).resolve().parent.parent
IMAGE_SOURCE = SOURCE.parent / "images"

# A cluster's namespace has its own, empty ones of these.
COVERED = ("/run", "/var/lib", "/var/log", "/var/run")


@dataclass(frozen=True)
class Paths:
    """The two folders that localkube writes to.

    Attributes:
        cache: Programs and images; built once, kept by every clean-up but ``rm``.
        state: Running clusters; gone when no cluster is left.
    """

    cache: Path
    state: Path

    @classmethod
    def from_environment(cls) -> "Paths":
        """Read BRINKBYTE_CACHE, XDG_CACHE_HOME and BRINKBYTE_STATE.

        Raises:
            LocalkubeError: A folder lies where a cluster could not see it.
        """
        cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
        cache = Path(os.environ.get("BRINKBYTE_CACHE") or Path(cache_home) / "brinkbyte")
        state = Path(os.environ.get("BRINKBYTE_STATE") or "/var/tmp/brinkbyte-localkube")
        paths = cls(cache.absolute(), state.absolute())
        for variable, folder in (
            ("BRINKBYTE_CACHE", paths.cache),
            ("BRINKBYTE_STATE", paths.state),
        ):
            resolved = folder.resolve()
            for covered in COVERED:
                if resolved.is_relative_to(covered):
                    raise LocalkubeError(
                        f"{resolved} is under {covered}, which a cluster covers with its own; "
                        f"set {variable} to a folder elsewhere"
                    )
        return paths

    @property
    def programs(self) -> Path:
        """Folder of the built programs, one folder a version."""
        return self.cache / "bin"

    @property
    def clusters(self) -> Path:
        """Folder of the clusters, one folder each."""
        return self.state / "clusters"

    @property
    def tag(self) -> str:
        """Short name of this state folder, for links and cgroups on the host."""
        return sha256(str(self.state.resolve()).encode()).hexdigest()[:6]

    @contextmanager
    def lock(self, name: str, *, in_cache: bool = False) -> Iterator[None]:
        """Hold an exclusive lock; the kernel frees it if this process is killed."""
        folder = (self.cache if in_cache else self.state) / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another localkube is at work ({name}); waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
