"""The images a cluster needs: ours, and local PostgreSQL, Redis and Triton without a registry."""

from __future__ import annotations

import hashlib
from typing import Final

from stack.tools import LOCALKUBE, ROOT, cluster_tool, step, stream, tool
from stack.trust import development_trust

REPOSITORY: Final = "brinkbyte/brinkbyte"
LOCAL_POSTGRES: Final = "brinkbyte/local-postgres:17"
LOCAL_REDIS: Final = "brinkbyte/local-redis:8"
LOCAL_TRITON: Final = "brinkbyte/local-triton:2.51"


def uses_docker() -> bool:
    """Tell whether the cluster tool is real kind, whose nodes take images from Docker."""
    return cluster_tool() != str(LOCALKUBE)


def project_image() -> str:
    """Return the name of the project's image; its tag says what is in it.

    A changed source has another tag, so that Helm rolls the pods.
    """
    source = ROOT / "operator" / "brinkbyte"
    files = [ROOT / "Dockerfile", ROOT / "requirements.txt", development_trust().roots]
    files += sorted(
        path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{REPOSITORY}:dev-{digest.hexdigest()[:12]}"


def build() -> tuple[str, ...]:
    """Build all images and return their names; what is up to date is not built again."""
    ours = project_image()
    if uses_docker():
        with step("images with docker"):
            stream(["docker", "build", "--quiet", "--tag", ours,
                    "--build-arg", "TRUST_ROOTS=build/trust/roots.json", ROOT])  # fmt: skip
            for name in (LOCAL_POSTGRES, LOCAL_REDIS, LOCAL_TRITON):
                folder = name.split("-", 1)[1].split(":")[0]
                stream(["docker", "build", "--quiet", "--tag", name,
                        ROOT / "hack" / "images" / folder])  # fmt: skip
    else:
        with step("local PostgreSQL, Redis and Triton images"):
            stream([LOCALKUBE, "build-images"])
        with step("the project's image"):
            stream([LOCALKUBE, "build-image", "--tag", ours,
                    "--build-arg", "BASE_IMAGE=brinkbyte/base:trixie",
                    "--build-arg", "TRUST_ROOTS=build/trust/roots.json", ROOT])  # fmt: skip
    return ours, LOCAL_POSTGRES, LOCAL_REDIS, LOCAL_TRITON


def main() -> None:
    """Build everything that ``make test`` and ``make demo`` need: programs first, then images."""
    if uses_docker():
        for name in ("kubectl", "helm"):
            tool(name)
    else:
        with step("the local cluster's programs (cold about 6 minutes on 2 cores)"):
            stream([LOCALKUBE, "build"])
    build()


if __name__ == "__main__":
    main()
