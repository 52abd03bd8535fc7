"""Building the programs from Go modules, each once per version of its sources."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import processes
from .debian import which
from .paths import SOURCE, Paths
from .report import LocalkubeError, say, step
from .shell import run, run_logged

KUBERNETES_VERSION = "v1.35.4"
HELM_PACKAGE = "helm.sh/helm/v3/cmd/helm@v3.22.0"
PAUSE_IMAGE = "docker.io/brinkbyte/localkube-pause:1"
# What Helm asks for; the other modules are content with less.
NEEDED_GO = (1, 26)
# From this version on Go fetches the toolchain that a module asks for, unless told not to.
SWITCHING_GO = (1, 21)

_KUBE_PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
)


@dataclass(frozen=True)
class Program:
    """One binary.

    Attributes:
        name: Its name, also its module's folder if it is one of ours.
        links: Further names that it goes by.
        version: Set into Kubernetes' version package if given.
        package: A published package to install instead of a module of ours.
    """

    name: str
    links: tuple[str, ...] = ()
    version: str | None = None
    package: str | None = None

    @property
    def linker_flags(self) -> str:
        """What the linker is told: no symbol table, and the version."""
        flags = "-s -w"
        if self.version:
            major, minor, _ = self.version.removeprefix("v").split(".")
            values = {
                "gitVersion": self.version,
                "gitMajor": major,
                "gitMinor": minor,
                "gitTreeState": "clean",
            }
            for key, value in values.items():
                flags += f" -X k8s.io/component-base/version.{key}={value}"
        return flags

    def digest(self) -> str:
        """Content address: hash of the sources, go.sum and flags."""
        content = hashlib.sha256(
            f"{self.linker_flags}|{self.package}|{' '.join(self.links)}".encode()
        )
        if self.package is None:
            for file in sorted((SOURCE / self.name).glob("*")):
                if file.suffix in {".go", ".mod", ".sum"}:
                    content.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
        return content.hexdigest()[:16]


KUBE = Program("kube", links=_KUBE_PROGRAMS, version=KUBERNETES_VERSION)
COREDNS = Program("coredns")
PROVISIONER = Program("provisioner")
PAUSE = Program("pause")
HELM = Program("helm", package=HELM_PACKAGE)
# The largest first: the others find most of what they share in Go's build cache.
PROGRAMS = (KUBE, COREDNS, PROVISIONER, PAUSE, HELM)


def program_path(paths: Paths, program: Program, link: str | None = None) -> Path:
    """Where a program is once built."""
    return paths.programs / f"{program.name}-{program.digest()}" / (link or program.name)


def pause_archive(paths: Paths) -> Path:
    """Where the image that holds a pod's namespaces is."""
    return program_path(paths, PAUSE).with_name("pause.tar")


def build_all(paths: Paths, programs: tuple[Program, ...] = PROGRAMS) -> None:
    """Build what is not there yet.

    Raises:
        LocalkubeError: Go is missing or too old, or a build failed.
    """
    if not _unbuilt(paths, programs):
        return
    with paths.lock("build", in_cache=True):
        waiting = _unbuilt(paths, programs)
        if not waiting:
            return
        _check_go()
        _remove_unfinished(paths)
        say(f"to build once, into {paths.programs}: {', '.join(p.name for p in waiting)}")
        for program in waiting:
            _build(paths, program)


def _unbuilt(paths: Paths, programs: tuple[Program, ...]) -> list[Program]:
    return [program for program in programs if not program_path(paths, program).exists()]


def _check_go() -> None:
    needed = ".".join(map(str, NEEDED_GO))
    if which("go") is None:
        raise LocalkubeError(f"Go is missing; install Go {needed} or newer and put it on PATH")
    version, _, switch = run(["go", "env", "GOVERSION", "GOTOOLCHAIN"], cwd=SOURCE).partition("\n")
    numbers = version.removeprefix("go").split(".")[:2]
    try:
        found = (int(numbers[0]), int(numbers[1].split("rc")[0]))
    except (ValueError, IndexError):
        return  # a development version; let it try
    if found < NEEDED_GO and (found < SWITCHING_GO or "auto" not in switch):
        raise LocalkubeError(
            f"{version} is too old; install Go {needed} or newer, or let Go 1.21 or newer fetch it "
            "(GOTOOLCHAIN=auto)"
        )


def _build(paths: Paths, program: Program) -> None:
    destination = program_path(paths, program).parent
    log = paths.cache / "logs" / f"build-{program.name}.log"
    compiled = _Counter()
    paths.programs.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=paths.programs))
    try:
        env = {"CGO_ENABLED": "0", "GOBIN": str(work), "GOFLAGS": "-buildvcs=false"}
        flags = ["-v", "-trimpath", f"-ldflags={program.linker_flags}"]
        with step(f"build {program.name}", detail=compiled.tell):
            if program.package:
                argv: list[str | Path] = ["go", "install", *flags, program.package]
                run_logged(argv, log, env=env, cwd=work, on_line=compiled)
            else:
                argv = ["go", "build", *flags, "-o", work / program.name, "."]
                run_logged(argv, log, env=env, cwd=SOURCE / program.name, on_line=compiled)
        for link in program.links:
            (work / link).symlink_to(program.name)
        if program is PAUSE:
            _write_pause_image(work)
        work.chmod(0o755)
        # Renamed as the last thing: a folder of this name is a complete one.
        work.rename(destination)
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Counter:
    def __init__(self) -> None:
        self._lines = 0
        self._downloading = True

    def __call__(self, line: str) -> None:
        if line.startswith("go: downloading"):
            return
        self._downloading = False
        self._lines += 1

    def tell(self) -> str:
        return "downloading modules" if self._downloading else f"{self._lines} packages compiled"


def remove_unused(paths: Paths) -> None:
    """Remove versions of programs that are not current and that no process runs."""
    with paths.lock("build", in_cache=True):
        current = {program_path(paths, program).parent for program in PROGRAMS}
        for folder in paths.programs.glob("*-*"):
            if folder not in current and not processes.arguments_under(f"{folder}/"):
                say(f"removing {folder}")
                shutil.rmtree(folder)


def _remove_unfinished(paths: Paths) -> None:
    for folder in paths.programs.glob(".building-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _write_pause_image(folder: Path) -> None:
    """Pack the static binary as a docker archive; no image tool is needed for one file."""
    layer = _tar({"pause": (folder / "pause").read_bytes()}, mode=0o755)
    config = json.dumps(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
    files = {name: config, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
    (folder / "pause.tar").write_bytes(_tar(files, mode=0o644))


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _tar(files: dict[str, bytes], *, mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def built(paths: Paths, program: Program, link: str | None = None) -> Path:
    """The path of a built program.

    Raises:
        LocalkubeError: It is not built yet.
    """
    path = program_path(paths, program, link)
    if not path.exists():
        raise LocalkubeError(f"{link or program.name} is not built yet; run `localkube build`")
    return path


# What a user may ask for by name: the program, and the link to it.
FOR_USERS: dict[str, tuple[Program, str | None]] = {
    "kubectl": (KUBE, "kubectl"),
    "kube": (KUBE, None),
    "helm": (HELM, None),
}
