"""The development root of trust: made once, kept in the cache, marked as such.

A release carries the vendor's offline root keys. Here we are the vendor: a root in use, a spare,
and signing keys under it. They live in the cache so that the image need not be built anew.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from stack.tools import BUILD, ROOT, cache_dir, run

BRINKBYTE = ROOT / ".venv" / "bin" / "brinkbyte"


@dataclass(frozen=True)
class Trust:
    """Where the development keys are.

    Attributes:
        directory: holds ``root.pem``, ``spare.pem`` and ``roots.json``.
        signing: holds one private key per kind and the signed ``jwks.json``.
    """

    directory: Path
    signing: Path

    @property
    def roots(self) -> Path:
        """The root public keys as the image carries them."""
        return self.directory / "roots.json"


def development_trust() -> Trust:
    """Return the development keys, made when they are not there yet."""
    directory = cache_dir() / "development-trust"
    trust = Trust(directory, directory / "signing")
    if not (trust.signing / "jwks.json").exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        run([BRINKBYTE, "billing", "keys", "root", "--out", directory, "--development"])
        root = directory / "root.pem"
        run([BRINKBYTE, "billing", "keys", "signing", "--out", trust.signing, "--root", root])
    context = BUILD / "trust"
    context.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(trust.roots, context / "roots.json")
    return trust
