"""Debian packages that localkube needs, and what the machine says about its mirrors."""

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .paths import Paths
from .report import LocalkubeError, say, step
from .shell import run

CNI_PLUGINS = Path("/usr/lib/cni")
# What shows that a package (or another one like it) is already there -> the package.
CLUSTER_PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "openssl": "openssl",
    str(CNI_PLUGINS / "bridge"): "containernetworking-plugins",
}
IMAGE_PACKAGES = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "unshare": "util-linux",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
MIRROR_VARIABLE = "BRINKBYTE_DEBIAN_MIRROR"


def missing(packages: dict[str, str]) -> list[str]:
    """The packages whose program or file is not there, sorted."""
    return sorted(
        {
            package
            for program, package in packages.items()
            if not (Path(program).exists() if program.startswith("/") else which(program))
        }
    )


def which(program: str) -> str | None:
    """Find a program on PATH or where Debian puts an administrator's ones."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def install(paths: Paths, packages: dict[str, str]) -> None:
    """Install what is missing, without starting any service of it.

    Raises:
        LocalkubeError: No root, not a Debian, or apt-get failed.
    """
    wanted = missing(packages)
    if not wanted:
        return
    if which("apt-get") is None:
        raise LocalkubeError(f"install {', '.join(wanted)} first: this machine has no apt-get")
    require_root("installing " + ", ".join(wanted))
    with paths.lock("packages", in_cache=True):
        wanted = missing(packages)
        if wanted:
            _apt_install(wanted)


def _apt_install(wanted: list[str]) -> None:
    say(f"Debian packages to install: {', '.join(wanted)}")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    options = ["-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    with step("apt-get install " + " ".join(wanted)), _NoServices():
        arguments = ["apt-get", *options, "install", "--no-install-recommends", *wanted]
        if not all(_has_candidate(package) for package in wanted):
            run(["apt-get", *options, "update"], env=env)
            run(arguments, env=env)
            return
        try:
            run(arguments, env=env)
        except LocalkubeError:
            # The lists may be older than what the mirror still has.
            run(["apt-get", *options, "update"], env=env)
            run(arguments, env=env)


def _has_candidate(package: str) -> bool:
    return re.search(r"Candidate: [^(]", run(["apt-cache", "policy", package])) is not None


def require_root(purpose: str) -> None:
    """Refuse to go on without root.

    Raises:
        LocalkubeError: We are not root.
    """
    if os.geteuid() != 0:
        raise LocalkubeError(f"{purpose} needs root; run this with sudo")


class _NoServices:
    """While it lasts, packages that are installed do not start their services.

    The marker, which hack/debian-packages writes too, tells a file that a killed run left from
    the machine's own.
    """

    _file = Path("/usr/sbin/policy-rc.d")
    _marker = "# brinkbyte: there only while packages are installed"

    def __enter__(self) -> None:
        self._ours = not self._file.exists() or self._marker in self._file.read_text().splitlines()
        if self._ours:
            self._file.write_text(f"#!/bin/sh\n{self._marker}\nexit 101\n")
            self._file.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Mirror:
    """The Debian mirrors of this machine: archive and, where known, security updates."""

    archive: str
    security: str | None

    def sources(self, suite: str) -> str:
        """An apt sources file for one release."""
        entries = [(self.archive, f"{suite} {suite}-updates")]
        if self.security:
            entries.append((self.security, f"{suite}-security"))
        return "\n".join(
            f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
            for uri, suites in entries
        )


def mirror() -> Mirror:
    """Read the mirrors from the machine's own apt sources.

    Raises:
        LocalkubeError: There is no Debian mirror among them.
    """
    given = os.environ.get(MIRROR_VARIABLE)
    return Mirror(given, None) if given else mirror_of(Path("/etc/apt"))


def mirror_of(folder: Path) -> Mirror:
    """Read the mirrors from a folder of apt sources.

    Raises:
        LocalkubeError: There is no Debian mirror among them.
    """
    archive = security = None
    for named, suites in _apt_sources(folder):
        uri = _listed(named)
        if any(suite.endswith("-security") for suite in suites):
            security = security or uri
        elif re.search(r"/debian/?$", uri):
            archive = archive or uri
    if archive is None:
        raise LocalkubeError(
            "the machine's apt sources name no Debian mirror; "
            f"set {MIRROR_VARIABLE} to the URL of one"
        )
    return Mirror(archive, security)


def _listed(uri: str) -> str:
    """The first mirror of a list, as cloud images name one; any other URI is returned as it is."""
    name = re.fullmatch(r"mirror\+file:(?://)?(/.+)", uri)
    if not name or not Path(name[1]).is_file():
        return uri
    first = re.search(r"(?m)^\s*(https?://\S+)", Path(name[1]).read_text(errors="replace"))
    return first[1] if first else uri


def _apt_sources(folder: Path) -> Iterable[tuple[str, list[str]]]:
    for file in sorted([folder / "sources.list", *folder.glob("sources.list.d/*")]):
        if not file.is_file():
            continue
        text = file.read_text(errors="replace")
        if file.suffix == ".sources":
            for stanza in re.split(r"\n\s*\n", text):
                fields = dict(re.findall(r"(?m)^([A-Za-z-]+):[ \t]*(.*)$", stanza))
                if "deb" in fields.get("Types", "").split() and fields.get("Enabled") != "no":
                    for uri in fields.get("URIs", "").split():
                        yield uri, fields.get("Suites", "").split()
        else:
            for match in re.finditer(r"(?m)^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", text):
                yield match[1], [match[2]]


def apt_settings(authorities: str | None) -> str:
    """The machine's proxy and certificate settings of apt, as an apt.conf file's text.

    Args:
        authorities: Where the reader of the text finds this machine's bundle of
            authorities; None if there is none.
    """
    proxy = re.compile(r'Acquire::https?::(?:[^:\s]+::)?Proxy\b.*[^"]";$')
    dumped = run(["apt-config", "dump", "--empty", "Acquire"]).splitlines()
    kept = [line for line in dumped if proxy.match(line)]
    if authorities and mirror().archive.startswith("https:"):
        kept.append(f'Acquire::https::CaInfo "{authorities}";')
    return "".join(f"{line}\n" for line in kept)
