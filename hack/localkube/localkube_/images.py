"""Building images with buildah into a store in the cache, and giving them to clusters."""

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import debian
from .context import context_digest
from .paths import IMAGE_SOURCE, Paths
from .preload import Preload
from .report import LocalkubeError, say, step
from .shell import isolated, run, run_logged
from .store import Store, canonical, file_name

BUILD_FOLDER = "/run/image-build"
# Development builds that are kept of an image; each checkout uses its newest.
KEPT_BUILDS = 4
# Part of every image's content address: raise it when the way of building changes.
RECIPE = 1
_PIP_SETTINGS = (
    "index-url",
    "extra-index-url",
    "find-links",
    "trusted-host",
    "proxy",
    "retries",
    "timeout",
    "default-timeout",
)


@dataclass(frozen=True)
class Base:
    """A base image made from a Debian release.

    Attributes:
        tag: Its name.
        suite: The release.
    """

    tag: str
    suite: str


@dataclass(frozen=True)
class Local:
    """A local equivalent of an official image.

    Attributes:
        tag: Its name.
        folder: Folder of its Dockerfile.
        base: What it is built on.
    """

    tag: str
    folder: str
    base: Base


TRIXIE = Base("brinkbyte/base:trixie", "trixie")
BOOKWORM = Base("brinkbyte/base:bookworm", "bookworm")
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
LOCALS = (
    Local("brinkbyte/local-postgres:17", "postgres", TRIXIE),
    Local("brinkbyte/local-redis:8", "redis", TRIXIE),
    Local("brinkbyte/local-triton:2.51", "triton", BOOKWORM),
)

# What a container never reads.
_SLIM_PATHS = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/bug/*",
)


class Images:
    """The images of one cache."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.store = Store(paths)
        self.folder = self.store.folder

    def _prepare(self) -> None:
        debian.require_root("building images")
        debian.install(self.paths, debian.IMAGE_PACKAGES)
        self.store.prepare()

    def _record(self, tag: str) -> Path:
        return self.folder / "built" / f"{file_name(tag)}.json"

    def _current(self, tag: str, inputs: str) -> bool:
        record = self._record(tag)
        with suppress(OSError, ValueError):
            known = json.loads(record.read_text())
            if known["inputs"] == inputs:
                return bool(known["id"] == self.store.image_id(tag))
        return False

    def _built(self, tag: str, inputs: str) -> None:
        image_id = self.store.image_id(tag)
        if image_id is None:
            raise LocalkubeError(f"image {tag} is not in the store after its build")
        self.store.export(tag, image_id)
        record = self._record(tag)
        record.parent.mkdir(parents=True, exist_ok=True)
        partial = record.with_suffix(".new")
        partial.write_text(json.dumps({"inputs": inputs, "id": image_id}))
        partial.replace(record)

    def build(
        self, tag: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]
    ) -> None:
        """Build an image from a Dockerfile, unless nothing of what it is made from changed.

        Args:
            tag: The image's name.
            dockerfile: Its Dockerfile.
            context: Folder that its COPY lines read from.
            arguments: Values of its ARG lines.

        Raises:
            LocalkubeError: Something is missing or the build failed.
        """
        if not dockerfile.is_file():
            raise LocalkubeError(f"there is no Dockerfile {dockerfile}")
        if not context.is_dir():
            raise LocalkubeError(f"the build context {context} is not a folder")
        self._prepare()
        with self.paths.lock(f"image-{self._record(tag).stem}", in_cache=True):
            inputs = self._inputs(dockerfile, context, arguments)
            if self._current(tag, inputs):
                self._record(tag).touch()
                say(f"image {tag} is up to date")
                return
            with self._build_settings(dockerfile, arguments) as settings, step(f"image {tag}"):
                command = self.store.buildah(
                    "bud", "--isolation", "chroot", "--pull=false", "--layers", *settings,
                    *(f"--build-arg={key}={value}" for key, value in arguments.items()),
                    "--tag", canonical(tag), "--file", dockerfile.absolute(), context.absolute(),
                )  # fmt: skip
                log = self.paths.cache / "logs" / f"image-{self._record(tag).stem}.log"
                run_logged(command, log, on_line=_show_steps(tag))
                self._built(tag, inputs)
            self._drop_older(tag)

    def _drop_older(self, tag: str) -> None:
        """Remove all but the last used development builds (``dev-…``) of an image."""
        repository, _, version = canonical(tag).rpartition(":")
        if not version.startswith("dev-"):
            return

        def used(image: str) -> float:
            record = self._record(image)
            return record.stat().st_mtime if record.exists() else 0.0

        builds = [name for name in self.store.names() if name.startswith(f"{repository}:dev-")]
        older = sorted(builds, key=used, reverse=True)[KEPT_BUILDS:]
        if older:
            say(f"removing older builds: {', '.join(older)}")
            self.store.drop(older)
            for image in older:
                self._record(image).unlink(missing_ok=True)

    def _inputs(self, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> str:
        text = dockerfile.read_text()
        bases = {name: self.store.image_id(name) for name in base_images(text, arguments)}
        missing = [name for name, found in bases.items() if found is None]
        if any(name in {TRIXIE.tag, BOOKWORM.tag} for name in missing):
            raise LocalkubeError(f"{missing[0]} is not built yet; run `localkube build-images`")
        facts = [RECIPE, text, bases, dict(arguments), context_digest(context)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @contextmanager
    def _build_settings(
        self, dockerfile: Path, arguments: Mapping[str, str]
    ) -> Iterator[list[str]]:
        """Give RUN lines this machine's mirrors and certificates, without baking them in."""
        suite = self._suite(dockerfile, arguments)
        with tempfile.TemporaryDirectory(prefix="settings-", dir=self.folder) as name:
            folder = Path(name)
            volumes: list[tuple[Path, str]] = [(folder / "build", BUILD_FOLDER)]
            (folder / "build").mkdir()
            authority = _certificates()
            pip_lines = [f"{key} = {value}" for key, value in _pip_settings().items()]
            if authority:
                shutil.copyfile(authority, folder / "build" / "ca.crt")
                pip_lines.append(f"cert = {BUILD_FOLDER}/ca.crt")
            (folder / "pip.conf").write_text("\n".join(["[global]", *pip_lines, ""]))
            volumes.append((folder / "pip.conf", "/etc/pip.conf"))
            volumes.extend((Path(place), place) for place in _find_links())
            if suite:
                mirror = debian.mirror()
                (folder / "sources").mkdir()
                (folder / "sources" / "machine.sources").write_text(mirror.sources(suite))
                volumes.append((folder / "sources", "/etc/apt/sources.list.d"))
                settings = debian.apt_settings(f"{BUILD_FOLDER}/ca.crt" if authority else None)
                if settings:
                    (folder / "apt.conf").write_text(settings)
                    volumes.append((folder / "apt.conf", "/etc/apt/apt.conf"))
            yield [f"--volume={source}:{target}:ro" for source, target in volumes]

    def _suite(self, dockerfile: Path, arguments: Mapping[str, str]) -> str | None:
        names = {canonical(name) for name in base_images(dockerfile.read_text(), arguments)}
        for base in (TRIXIE, BOOKWORM):
            if canonical(base.tag) in names:
                return base.suite
        return None

    def build_base(self, base: Base) -> None:
        """Make a base image by debootstrap.

        Raises:
            LocalkubeError: There is no Debian mirror, or debootstrap failed.
        """
        self._prepare()
        facts = [RECIPE, base.suite, BASE_PACKAGES, _SLIM_PATHS]
        inputs = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        stem = self._record(base.tag).stem
        with self.paths.lock(f"image-{stem}", in_cache=True):
            if self._current(base.tag, inputs):
                say(f"image {base.tag} is up to date")
                return
            log = self.paths.cache / "logs" / f"image-{stem}.log"
            for leftover in self.folder.glob(f"base-{base.suite}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            with (
                tempfile.TemporaryDirectory(prefix=f"base-{base.suite}-", dir=self.folder) as name,
                step(f"image {base.tag}"),
            ):
                folder = Path(name)
                self._debootstrap(base, folder / "root", log)
                _slim(folder / "root")
                (folder / "Dockerfile").write_text(
                    'FROM scratch\nADD root /\nENV LANG=C.UTF-8\nCMD ["/bin/sh"]\n'
                )
                command = self.store.buildah(
                    "bud", "--isolation", "chroot",
                    "--tag", canonical(base.tag), folder,
                )  # fmt: skip
                run_logged(command, log.with_suffix(".commit.log"))
                self._built(base.tag, inputs)

    @staticmethod
    def _debootstrap(base: Base, root: Path, log: Path) -> None:
        debootstrap = debian.which("debootstrap") or "debootstrap"
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        command = [
            debootstrap, "--variant=minbase", f"--keyring={keyring}",
            f"--include={','.join(BASE_PACKAGES)}", base.suite, str(root),
            debian.mirror().archive,
        ]  # fmt: skip
        names = Path("/usr/share/debootstrap/scripts")
        if not (names / base.suite).exists() and (names / "sid").exists():
            command.append(str(names / "sid"))
        run_logged(isolated(command), log)

    def build_locals(self) -> None:
        """Build both base images and the local equivalents of the official ones."""
        self._prepare()

        def chain(base: Base) -> None:
            self.build_base(base)
            for local in LOCALS:
                if local.base is base:
                    folder = IMAGE_SOURCE / local.folder
                    arguments = {"BASE_IMAGE": base.tag}
                    self.build(local.tag, folder / "Dockerfile", folder, arguments)

        # Two at a time: one mostly waits for the mirror while the other unpacks.
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(chain, base) for base in (TRIXIE, BOOKWORM)]:
                done.result()
        debian.install(self.paths, debian.CLUSTER_PACKAGES)
        Preload(self.paths).refresh(self.store, self.store.ids([local.tag for local in LOCALS]))


def prune(paths: Paths) -> None:
    """Remove images without a name, such as those that a later build replaced."""
    store = Store(paths)
    if store.exists():
        run(store.buildah("rmi", "--prune", "--force"))


def base_images(dockerfile: str, arguments: Mapping[str, str]) -> list[str]:
    """The images that a Dockerfile builds on, without its own stages."""
    values: dict[str, str] = {}
    stages: set[str] = set()
    images = []
    for line in dockerfile.splitlines():
        words = line.split()
        if len(words) > 1 and words[0].upper() == "ARG":
            key, _, default = words[1].partition("=")
            values[key] = arguments.get(key, default.strip('"'))
        elif len(words) > 1 and words[0].upper() == "FROM":
            rest = [word for word in words[1:] if not word.startswith("--")]
            image = re.sub(
                r"\$\{?(\w+)(?::-([^}]*))?\}?",
                lambda match: values.get(match[1], match[2] or ""),
                rest[0],
            )
            if image not in stages and image != "scratch":
                images.append(image)
            if len(rest) > 2 and rest[1].upper() == "AS":
                stages.add(rest[2])
    return images


def _show_steps(tag: str) -> Callable[[str], None]:
    def show(line: str) -> None:
        if line.startswith("STEP ") or " STEP " in line[:12]:
            say(f"image {tag}: {line[:150]}")

    return show


def _slim(root: Path) -> None:
    """Drop what a container never reads, and the mirror's address."""
    excluded = "".join(f"path-exclude={pattern}\n" for pattern in _SLIM_PATHS)
    kept = "path-include=/usr/share/doc/*/copyright\n"
    dpkg = root / "etc/dpkg/dpkg.cfg.d"
    dpkg.mkdir(parents=True, exist_ok=True)
    (dpkg / "01-slim").write_text(excluded + kept)
    for pattern in _SLIM_PATHS:
        for entry in root.glob(pattern.lstrip("/")):
            if entry.is_dir() and not entry.is_symlink():
                _remove_but_copyright(entry)
            else:
                entry.unlink()
    for pattern in ("var/lib/apt/lists/*", "var/cache/apt/*", "var/log/*"):
        for entry in root.glob(pattern):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    for folder in root.glob("usr/**/__pycache__"):
        shutil.rmtree(folder)
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    # Whatever debootstrap took over from this machine.
    (root / "etc/hostname").write_text("localhost\n")
    (root / "etc/resolv.conf").write_text("")
    (root / "etc/pip.conf").write_text("")


def _remove_but_copyright(folder: Path) -> None:
    for file in sorted(folder.rglob("*"), reverse=True):
        if file.is_dir() and not file.is_symlink():
            with suppress(OSError):
                file.rmdir()
        elif file.name != "copyright":
            file.unlink()
    with suppress(OSError):
        folder.rmdir()


def _certificates() -> Path | None:
    """The machine's bundle of authorities, if it sets one or has Debian's."""
    for variable in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        named = os.environ.get(variable)
        if named and Path(named).is_file():
            return Path(named)
    usual = Path("/etc/ssl/certs/ca-certificates.crt")
    return usual if usual.is_file() else None


def _pip_settings() -> dict[str, str]:
    """This machine's pip settings, from its files and variables."""
    try:
        listed = run([sys.executable, "-m", "pip", "config", "list"])
    except LocalkubeError:
        listed = ""
    settings: dict[str, str] = {}
    # Variables are listed before files, and win.
    for match in re.finditer(r"(?m)^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", listed):
        settings.setdefault(match[1], match[2])
    for key in _PIP_SETTINGS:
        value = os.environ.get(f"PIP_{key.upper().replace('-', '_')}")
        if value:
            settings[key] = value
    return {key: value for key, value in settings.items() if key in _PIP_SETTINGS and value}


def _find_links() -> list[str]:
    places = shlex.split(_pip_settings().get("find-links", ""))
    return [place for place in places if place.startswith("/") and Path(place).is_dir()]
