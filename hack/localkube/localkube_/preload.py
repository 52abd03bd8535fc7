"""A containerd folder that has the local images already, hard-linked into new clusters.

Importing and unpacking the same images into every cluster takes seconds and a gigabyte of
writing each. containerd never changes an unpacked layer or a blob in place, so clusters can
share them; only its small databases are copied.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from .debian import which
from .paths import Paths
from .report import LocalkubeError, say
from .shell import isolated
from .store import Store

_DATABASES = ("meta.db", "metadata.db")
_SOCKET = "/run/preload/containerd.sock"
_SCRIPT = f"""
set -eu
mount -t tmpfs localkube /run
mkdir -p /run/preload
"$1" --config "$2" > "$3" 2>&1 &
for _ in $(seq 500); do
  if [ -S {_SOCKET} ] && ctr --address {_SOCKET} version > /dev/null 2>&1; then break; fi
  sleep 0.02
done
ctr --address {_SOCKET} --namespace k8s.io images import -
kill $!
wait $! || true
"""


def _configuration(root: Path) -> str:
    return f"""version = 2
root = "{root}"
state = "/run/preload"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "{_SOCKET}"
"""


class Preload:
    """The prepared folder of one cache."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.folder = paths.cache / "images" / "preload"

    @property
    def _current(self) -> Path:
        return self.folder / "current"

    def refresh(self, store: Store, ids: Mapping[str, str]) -> None:
        """Prepare the folder for exactly these images, if it is not.

        Failing costs time later and nothing else, so it is only told.
        """
        with self.paths.lock("image-preload", in_cache=True):
            record = self._current / "images.json"
            images: Mapping[str, str] = {}
            if record.exists():
                images = json.loads(record.read_text())["images"]
            if sorted(images.values()) == sorted(ids.values()):
                return
            containerd = which("containerd")
            if containerd is None or which("ctr") is None:
                return
            fresh = self.folder / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            config = fresh / "containerd.toml"
            config.write_text(_configuration(fresh / "containerd"))
            log = self.paths.cache / "logs" / "preload.log"
            log.parent.mkdir(exist_ok=True)
            command = isolated(["sh", "-c", _SCRIPT, "sh", containerd, config, log])
            try:
                store.give(ids, fresh / "images.json", command)
            except LocalkubeError as error:
                say(f"clusters will import their images one by one: {error}")
                shutil.rmtree(fresh)
                return
            shutil.rmtree(self._current, ignore_errors=True)
            fresh.rename(self._current)
            self._share_blobs(store)

    def _share_blobs(self, store: Store) -> None:
        """Keep each layer once on the disk: the store's copy becomes a link to ours."""
        content = self._current / "containerd" / "io.containerd.content.v1.content" / "blobs"
        for blob in content.glob("*/*"):
            other = store.layout / "blobs" / blob.parent.name / blob.name
            if other.exists() and not other.samefile(blob):
                linked = other.with_suffix(".link")
                linked.unlink(missing_ok=True)
                linked.hardlink_to(blob)
                linked.replace(other)

    def give(self, cluster: Path) -> None:
        """Put what is prepared into the folder of a cluster that is about to start."""
        if not self._current.is_dir():
            return
        with self.paths.lock("image-preload", in_cache=True):
            try:
                if self._current.stat().st_dev == cluster.stat().st_dev:
                    link_tree(self._current / "containerd", cluster / "containerd")
                    shutil.copyfile(self._current / "images.json", cluster / "images.json")
            except OSError as error:
                say(f"the cluster starts without images: {error}")
                shutil.rmtree(cluster / "containerd", ignore_errors=True)
                (cluster / "images.json").unlink(missing_ok=True)


def link_tree(source: Path, target: Path) -> None:
    """Copy a folder with hard links for its files; containerd's databases are copied."""
    target.mkdir()
    with os.scandir(source) as entries:
        for entry in entries:
            there = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                link_tree(Path(entry.path), there)
            elif entry.name in _DATABASES and entry.is_file(follow_symlinks=False):
                shutil.copy2(entry.path, there)
            else:
                os.link(entry.path, there, follow_symlinks=False)
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)
    # With it the mark that an image's layer replaces a folder of the layers below.
    shutil.copystat(source, target)
