"""Signing keys on disk: made here, signed by the offline root, read by the server.

A directory holds ``<kind>.pem`` (private, one a kind) and ``jwks.json`` (the root-signed key set).
Rotation makes new private keys; the old public ones stay in the set so that what they signed goes
on verifying.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import jwt

from brinkbyte.kit.errors import InvalidInputError, PermanentError
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.claims import VENDOR_KINDS, TokenKind
from brinkbyte.license.keys import (
    PublicJwk,
    SigningKey,
    load_roots,
    sign_key_set,
    verify_key_set,
)

KEY_SET_FILE: Final = "jwks.json"
ROOT_FILE: Final = "root.pem"
SPARE_FILE: Final = "root-spare.pem"
ROOTS_FILE: Final = "roots.json"
_RELOAD_SECONDS: Final = 10.0
_log = get_logger(__name__)


class KeyDirectoryError(PermanentError):
    """The signing keys cannot be used as they are."""


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    temporary.replace(path)


def make_root(directory: Path, *, development: bool = False) -> Path:
    """Make the root key pair in use and the spare one, and the release's ``roots.json``.

    Returns:
        Path of ``roots.json``.

    Raises:
        KeyDirectoryError: the directory has a root already.
    """
    directory.mkdir(parents=True, exist_ok=True)
    taken = [name for name in (ROOT_FILE, SPARE_FILE) if (directory / name).exists()]
    if taken:
        raise KeyDirectoryError(
            f"{directory} has {taken[0]} already; choose an empty directory", reason="KeyExists"
        )
    roots = {ROOT_FILE: SigningKey.generate(bits=3072), SPARE_FILE: SigningKey.generate(bits=3072)}
    for name, root in roots.items():
        _write_private(directory / name, root.to_pem())
    keys = [root.jwk.model_dump(mode="json") for root in roots.values()]
    _write(directory / ROOTS_FILE, {"keys": keys, "development": development})
    return directory / ROOTS_FILE


def make_signing_keys(
    directory: Path, root_pem: bytes, *, number: int | None = None, now: int | None = None
) -> int:
    """Make a new private key of every kind and the root-signed set of them.

    Public keys of the set that is there already stay in the new one.

    Args:
        directory: where ``<kind>.pem`` and ``jwks.json`` go.
        root_pem: the root's private key.
        number: of the new set; by default one more than the set that is there.
        now: Unix seconds of signing.

    Returns:
        The number of the new set.

    Raises:
        KeyDirectoryError: the number does not grow.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / KEY_SET_FILE
    before = json.loads(path.read_text()) if path.exists() else None
    last = _claims(before)["number"] if before is not None else 0
    chosen = last + 1 if number is None else number
    if chosen <= last:
        raise KeyDirectoryError(
            f"the key set there has number {last}; give a higher one", reason="NumberNotHigher"
        )
    made = {kind: SigningKey.generate([kind]) for kind in sorted(VENDOR_KINDS)}
    public = [key.jwk for key in made.values()]
    if before is not None:
        public += [PublicJwk.model_validate_json(json.dumps(key)) for key in before["keys"]]
    document = sign_key_set(
        SigningKey.from_pem(root_pem), public, number=chosen, now=now or int(time.time())
    )
    for kind, key in made.items():
        staged = directory / f"{kind}.pem.new"
        staged.unlink(missing_ok=True)
        _write_private(staged, key.to_pem())
    # The set goes first: a reader of old private keys still finds their public halves in it.
    _write(path, document)
    for kind in made:
        (directory / f"{kind}.pem.new").replace(directory / f"{kind}.pem")
    return chosen


def sign_public_keys(
    root_pem: bytes, keys: Iterable[Mapping[str, Any]], *, number: int, now: int | None = None
) -> dict[str, Any]:
    """Sign a set of public keys on the offline machine; returns the ``jwks.json`` document."""
    public = [PublicJwk.model_validate_json(json.dumps(dict(key))) for key in keys]
    return sign_key_set(
        SigningKey.from_pem(root_pem), public, number=number, now=now or int(time.time())
    )


def import_key_set(directory: Path, document: bytes, roots: bytes, *, now: int) -> int:
    """Take in a key set that was signed offline; returns its number.

    Raises:
        KeySetError: it is not signed by one of the roots, or has ended.
        KeyDirectoryError: its number is not higher, or it lacks one of the keys in the directory.
    """
    verified = verify_key_set(document, load_roots(roots), now=now)
    path = directory / KEY_SET_FILE
    if path.exists():
        last = int(_claims(json.loads(path.read_text()))["number"])
        if verified.number <= last:
            raise KeyDirectoryError(
                f"the key set there has number {last}; this one has {verified.number}",
                reason="NumberNotHigher",
            )
    _check_complete(_read_private(directory), verified.keys)
    _write(path, json.loads(document))
    return verified.number


def _claims(document: Mapping[str, Any]) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            document["signed"], options={"verify_signature": False}, algorithms=["RS256"]
        )
    except (jwt.PyJWTError, KeyError, TypeError):
        raise KeyDirectoryError(
            f"{KEY_SET_FILE} is not a root-signed key set; make it again with "
            "`brinkbyte billing keys signing`",
            reason="MalformedKeySet",
        ) from None
    return claims


def _read_private(directory: Path) -> dict[TokenKind, SigningKey]:
    found = {}
    for kind in sorted(VENDOR_KINDS):
        path = directory / f"{kind}.pem"
        try:
            found[kind] = SigningKey.from_pem(path.read_bytes(), [kind])
        except OSError as error:
            raise KeyDirectoryError(
                f"cannot read {path} ({error.strerror}); make the keys with "
                "`brinkbyte billing keys signing`",
                reason="KeyMissing",
            ) from None
        except InvalidInputError as error:
            raise KeyDirectoryError(f"{path}: {error.message}", reason="MalformedKey") from None
    return found


def _check_complete(
    private: Mapping[TokenKind, SigningKey], public: Mapping[str, PublicJwk]
) -> None:
    missing = [
        kind
        for kind, key in private.items()
        if key.kid not in public or kind not in public[key.kid].kinds
    ]
    if missing:
        raise KeyDirectoryError(
            f"the key set lacks the public half of {', '.join(missing)}; sign the set anew with "
            "`brinkbyte billing keys signing`",
            reason="KeySetIncomplete",
        )


class KeyRing:
    """The signing keys and key set that are in force; re-read when the directory changes.

    Attributes:
        directory: see the module.

    Raises:
        KeyDirectoryError: at the start, when the keys are missing or do not match the set.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._checked = time.monotonic()
        self._stamp = self._read_stamp()
        self._load()

    def _read_stamp(self) -> tuple[object, ...]:
        names = [KEY_SET_FILE, *(f"{kind}.pem" for kind in sorted(VENDOR_KINDS))]
        stats = [
            (self.directory / name).stat() for name in names if (self.directory / name).exists()
        ]
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)

    def _load(self) -> None:
        private = _read_private(self.directory)
        path = self.directory / KEY_SET_FILE
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise KeyDirectoryError(
                f"cannot read {path} ({error}); make it with `brinkbyte billing keys signing`",
                reason="KeySetMissing",
            ) from None
        claims = _claims(document)
        public = {
            key.kid: key
            for key in (PublicJwk.model_validate_json(json.dumps(k)) for k in claims["keys"])
        }
        _check_complete(private, public)
        self._private, self._public = private, public
        self._document, self._number = document, int(claims["number"])
        self._expires_at = int(claims["exp"])

    def refresh(self) -> None:
        """Re-read the directory if it changed; looks at most every 10 seconds.

        While the new files do not fit together the old keys stay in force, and the log says why.
        """
        with self._lock:
            if time.monotonic() - self._checked < _RELOAD_SECONDS:
                return
            self._checked = time.monotonic()
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return
            try:
                self._load()
            except PermanentError as error:
                _log.error("new signing keys not taken", reason=error.reason, detail=error.message)
            else:
                self._stamp = stamp
                _log.info("signing keys taken in", key_set_number=self._number)

    def key(self, kind: TokenKind) -> SigningKey:
        """Return the private key that signs a kind of documents."""
        return self._private[kind]

    @property
    def public(self) -> Mapping[str, PublicJwk]:
        """Public keys of the set by key id."""
        return self._public

    @property
    def document(self) -> dict[str, Any]:
        """The ``jwks.json`` document."""
        return dict(self._document)

    @property
    def number(self) -> int:
        """Number of the key set."""
        return self._number

    @property
    def expires_at(self) -> int:
        """Unix seconds at which the key set ends."""
        return self._expires_at
