"""The store of built images, and how they get into clusters."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from . import debian
from .paths import Paths
from .report import LocalkubeError
from .shell import isolated, run, succeeds

Json = dict[str, Any]
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONTAINERD_NAME = "io.containerd.image.name"


def canonical(image: str) -> str:
    """The full name of an image, as Kubernetes reads it.

    Raises:
        LocalkubeError: It is not an image's name.
    """
    if not re.fullmatch(r"[a-z0-9][a-zA-Z0-9./_:@-]*", image):
        raise LocalkubeError(f'"{image}" is not the name of an image')
    first, slash, _ = image.partition("/")
    if not slash:
        image = f"docker.io/library/{image}"
    elif not ("." in first or ":" in first or first == "localhost"):
        image = f"docker.io/{image}"
    if "@" not in image and ":" not in image.rpartition("/")[2]:
        image += ":latest"
    return image


def file_name(image: str) -> str:
    """An image's name as part of a file's."""
    return re.sub(r"[^a-z0-9.]+", "-", canonical(image).removeprefix("docker.io/"))


class Store:
    """Buildah's store in the cache, and beside it the same images unpacked into blobs.

    This layout holds each layer once and uncompressed; a cluster is given only the layers
    that it does not have.
    """

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.folder = paths.cache / "images"
        self.layout = self.folder / "layout"

    def prepare(self) -> None:
        """Make the folder, and tell buildah that short names mean Docker Hub's, as elsewhere."""
        self.folder.mkdir(parents=True, exist_ok=True)
        registries = self.folder / "registries.conf"
        if not registries.exists():
            registries.write_text('unqualified-search-registries = ["docker.io"]\n')

    def buildah(self, *arguments: str | Path) -> list[str]:
        """A buildah command on this store, which leaves no mount on the host."""
        return isolated(
            [
                "buildah",
                "--root", self.folder / "store",
                "--runroot", self.folder / "run",
                "--storage-driver", "overlay",
                "--registries-conf", self.folder / "registries.conf",
                *arguments,
            ]
        )  # fmt: skip

    def exists(self) -> bool:
        """Whether anything was ever built here."""
        return (self.folder / "store").is_dir() and debian.which("buildah") is not None

    def image_id(self, image: str) -> str | None:
        """The id of an image in the store, None if it is not there."""
        if not self.exists():
            return None
        asked = ("inspect", "--type", "image", "--format", "{{.FromImageID}}", canonical(image))
        try:
            found = run(self.buildah(*asked))
        except LocalkubeError:
            return None
        return found.strip() or None

    def export(self, image: str, image_id: str) -> None:
        """Put an image into the layout, in place of an older one of its name."""
        with self.paths.lock("image-layout", in_cache=True):
            for leftover in self.folder.glob("export-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix="export-", dir=self.folder) as name:
                folder = Path(name)
                target = f"dir:{folder / 'image'}"
                run(self.buildah("push", "--quiet", "--disable-compression", image_id, target))
                blobs = self.layout / "blobs" / "sha256"
                blobs.mkdir(parents=True, exist_ok=True)
                for file in (folder / "image").iterdir():
                    if re.fullmatch("[0-9a-f]{64}", file.name):
                        file.rename(blobs / file.name)
                manifest = (folder / "image" / "manifest.json").read_bytes()
                digest = hashlib.sha256(manifest).hexdigest()
                (blobs / digest).write_bytes(manifest)
            descriptor = {
                "mediaType": json.loads(manifest).get("mediaType", _MANIFEST_TYPE),
                "digest": f"sha256:{digest}",
                "size": len(manifest),
            }
            self._write_manifests({**self._manifests(), canonical(image): descriptor})
            self._prune()

    def names(self) -> list[str]:
        """The full names of the layout's images."""
        return list(self._manifests())

    def drop(self, images: Collection[str]) -> None:
        """Remove images, by their full names."""
        with self.paths.lock("image-layout", in_cache=True):
            known = self._manifests()
            self._write_manifests({name: known[name] for name in known if name not in images})
            self._prune()
        for image in images:
            # One that something else is made of stays; `prune` takes it once it has no use.
            succeeds(self.buildah("rmi", image))

    def _write_manifests(self, known: Mapping[str, Json]) -> None:
        unfinished = self.layout / "images.new"
        unfinished.write_text(json.dumps(known, indent=1))
        unfinished.rename(self.layout / "images.json")

    def _manifests(self) -> dict[str, Json]:
        """The layout's images: name -> descriptor of the manifest."""
        try:
            known: dict[str, Json] = json.loads((self.layout / "images.json").read_text())
        except (OSError, ValueError):
            return {}
        return known

    def _blob(self, digest: str) -> Path:
        return self.layout / "blobs" / digest.replace(":", "/")

    def _manifest(self, descriptor: Json) -> Json:
        manifest: Json = json.loads(self._blob(descriptor["digest"]).read_text())
        return manifest

    def _prune(self) -> None:
        """Remove blobs that no image of the layout has any more."""
        used = set()
        for descriptor in self._manifests().values():
            manifest = self._manifest(descriptor)
            for part in (descriptor, manifest["config"], *manifest["layers"]):
                used.add(self._blob(part["digest"]))
        for blob in self.layout.glob("blobs/*/*"):
            if blob not in used:
                blob.unlink()

    def ids(self, images: Sequence[str]) -> dict[str, str]:
        """The ids of images, by the names that they were asked for; exported if need be.

        Raises:
            LocalkubeError: One is not in the store; nothing was exported then.
        """
        found: dict[str, str] = {}
        for image in images:
            image_id = self.image_id(image)
            if image_id is None:
                raise LocalkubeError(f'image: "{image}" not present locally')
            found[image] = image_id
        for image, image_id in found.items():
            descriptor = self._manifests().get(canonical(image))
            if not descriptor or self._manifest(descriptor)["config"]["digest"][7:] != image_id:
                self.export(image, image_id)
        return found

    def give(
        self, ids: Mapping[str, str], record: Path, importer: Sequence[str]
    ) -> Collection[str]:
        """Give images to a containerd, without the layers that it has.

        Args:
            ids: The images' ids by name.
            record: File that tells which images and layers that containerd has; kept up.
            importer: Command that imports an archive from its standard input.

        Returns:
            The names of the images that it did not have.

        Raises:
            LocalkubeError: It did not take them.
        """
        with self.paths.lock("image-layout", in_cache=True):
            known: Json = json.loads(record.read_text()) if record.exists() else {}
            has_images: Json = known.get("images", {})
            has_layers = set(known.get("layers", []))
            wanted = [
                image for image, found in ids.items() if has_images.get(canonical(image)) != found
            ]
            if wanted:
                manifests = self._manifests()
                archive = {canonical(image): manifests[canonical(image)] for image in wanted}
                try:
                    self._stream(importer, archive, has_layers)
                except LocalkubeError:
                    # Somebody may have removed images by hand, and layers with them.
                    self._stream(importer, archive, set())
                for descriptor in archive.values():
                    layers = self._manifest(descriptor)["layers"]
                    has_layers.update(layer["digest"] for layer in layers)
                has_images.update({canonical(image): ids[image] for image in wanted})
                text = json.dumps({"images": has_images, "layers": sorted(has_layers)})
                record.write_text(text)
        return wanted

    def _stream(
        self, command: Sequence[str], wanted: Mapping[str, Json], present: set[str]
    ) -> None:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                self._write(process.stdin, wanted, present)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it says why below
            said = process.stdout.read().decode(errors="replace")
        if process.returncode != 0:
            raise LocalkubeError(f"containerd did not take the images: {said.strip()[-1000:]}")

    def _write(self, out: IO[bytes], wanted: Mapping[str, Json], present: set[str]) -> None:
        """Write an OCI archive of some images, without the layers that are present."""
        manifests = []
        blobs: dict[str, None] = {}
        for name, descriptor in wanted.items():
            manifests.append({**descriptor, "annotations": {_CONTAINERD_NAME: name}})
            manifest = self._manifest(descriptor)
            blobs[descriptor["digest"]] = blobs[manifest["config"]["digest"]] = None
            for layer in manifest["layers"]:
                if layer["digest"] not in present:
                    blobs[layer["digest"]] = None
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": manifests}
        with tarfile.open(fileobj=out, mode="w|", bufsize=1 << 20) as archive:
            _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
            _add(archive, "index.json", json.dumps(index).encode())
            for digest in blobs:
                archive.add(self._blob(digest), f"blobs/{digest.replace(':', '/')}")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
