"""The development root of trust: made once, kept in the cache, marked as such.

A release carries the vendor's offline root keys. Here we are the vendor: a root in use, a spare,
and signing keys under it. They live in the cache so that the image need not be built anew.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stack.tools import BUILD, ROOT, StepError, cache_dir, run

BRINKBYTE = ROOT / ".venv" / "bin" / "brinkbyte"


@dataclass(frozen=True)
class Trust:
    """Where the development keys are.

    Attributes:
        directory: holds ``root.pem``, ``root-spare.pem`` and ``roots.json``.
        signing: holds one private key per kind and the signed ``jwks.json``.
    """

    directory: Path
    signing: Path

    @property
    def roots(self) -> Path:
        """The root public keys as the image carries them."""
        return self.directory / "roots.json"

    @property
    def there(self) -> bool:
        """Whether the keys are made."""
        return (self.signing / "jwks.json").exists()


def development_trust() -> Trust:
    """Return the development keys, made when they are not there yet.

    Raises:
        StepError: they cannot be made.
    """
    directory = cache_dir() / "development-trust"
    trust = Trust(directory, directory / "signing")
    if not trust.there:
        _make(trust)
    context = BUILD / "trust"
    context.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(trust.roots, context / "roots.json")
    return trust


def _make(trust: Trust) -> None:
    """Make the keys beside their place and move them there: what has the name is complete."""
    folder = trust.directory.parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trust-", dir=folder) as name:
        work = Path(name) / "new"
        run([BRINKBYTE, "billing", "keys", "root", "--out", work, "--development"])
        run([BRINKBYTE, "billing", "keys", "signing", "--out", work / "signing",
             "--root", work / "root.pem"])  # fmt: skip
        try:
            work.rename(trust.directory)
        except OSError as error:
            # Somebody else may have been quicker: then theirs are the keys.
            if not trust.there:
                raise StepError(f"{trust.directory}: {error.strerror}; remove it") from None


if __name__ == "__main__":
    print(f"{development_trust().roots}, copied to {BUILD / 'trust' / 'roots.json'}")
