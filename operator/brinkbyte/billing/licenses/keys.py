"""Signing keys on disk: made here, signed by the offline root, read by the server.

A directory holds ``<kind>.pem`` (private, one a kind), ``jwks.json`` (the root-signed key set) and
``retired.json`` (since when a public key signs nothing any more). Rotation makes new private keys,
in steps (see :mod:`brinkbyte.billing.licenses.rotation`) or, with a key that got into wrong hands,
at once; an old public key stays in the set for as long as something it signed may be shown, see
:data:`RETIRED_SECONDS`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any, Final

from brinkbyte.kit.errors import InvalidInputError, PermanentError
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.claims import VENDOR_KINDS, TokenKind
from brinkbyte.license.keys import (
    MAX_KEYS,
    KeySet,
    KeySetError,
    PublicJwk,
    SigningKey,
    load_roots,
    parse_key_set,
    sign_key_set,
    verify_key_set,
)
from brinkbyte.trust import load_release_roots

KEY_SET_FILE: Final = "jwks.json"
RETIRED_FILE: Final = "retired.json"
RETIRED_SECONDS: Final = 430 * 86_400
"""How long a retired public key stays: what lives longest are air-gap bundles and receipts (400
days), and a license may go on for up to 30 days of grace."""
ROOT_FILE: Final = "root.pem"
SPARE_FILE: Final = "root-spare.pem"
ROOTS_FILE: Final = "roots.json"
_RELOAD_SECONDS: Final = 10.0
_log = get_logger(__name__)


class KeyDirectoryError(PermanentError):
    """The signing keys cannot be used as they are."""


def _create_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def replace_private(path: Path, key: SigningKey) -> None:
    """Write a private key that only its owner may read, in the place of what is there."""
    staged = path.with_name(f"{path.name}.new")
    staged.unlink(missing_ok=True)
    _create_private(staged, key.to_pem())
    staged.replace(path)


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file in one step."""
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
        _create_private(directory / name, root.to_pem())
    keys = [root.jwk.model_dump(mode="json") for root in roots.values()]
    write_document(directory / ROOTS_FILE, {"keys": keys, "development": development})
    return directory / ROOTS_FILE


def make_signing_keys(
    directory: Path, root_pem: bytes, *, number: int | None = None, now: int | None = None
) -> int:
    """Make a new private key of every kind and the root-signed set of them.

    Public keys of the set that is there already stay in the new one until :data:`RETIRED_SECONDS`
    after they signed last. Without ``retired.json`` they count as in use until now.

    Args:
        directory: where ``<kind>.pem`` and ``jwks.json`` go.
        root_pem: the root's private key.
        number: of the new set; by default one more than the set that is there.
        now: Unix seconds of signing.

    Returns:
        The number of the new set.

    Raises:
        KeyDirectoryError: the number does not grow, or too many old keys must stay.
        KeySetError: the key set that is there cannot be read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / KEY_SET_FILE
    now = int(time.time()) if now is None else now
    before = parse_key_set(path.read_bytes()) if path.exists() else None
    last = before.number if before is not None else 0
    chosen = last + 1 if number is None else number
    if chosen <= last:
        raise KeyDirectoryError(
            f"the key set there has number {last}; give a higher one", reason="NumberNotHigher"
        )
    made = {kind: SigningKey.generate([kind]) for kind in sorted(VENDOR_KINDS)}
    public = [key.jwk for key in made.values()]
    if before is not None:
        retired = _retire(directory, before, now)
        public += [before.keys[kid] for kid in retired]
    check_size(public)
    document = sign_key_set(SigningKey.from_pem(root_pem), public, number=chosen, now=now)
    for kind, key in made.items():
        staged = directory / f"{kind}.pem.new"
        staged.unlink(missing_ok=True)
        _create_private(staged, key.to_pem())
    if before is not None:
        write_document(directory / RETIRED_FILE, retired)
    # The set goes first: a reader of old private keys still finds their public halves in it.
    write_document(path, document)
    for kind in made:
        (directory / f"{kind}.pem.new").replace(directory / f"{kind}.pem")
    return chosen


def check_size(public: Sized) -> None:
    """Refuse a set with more keys than verifiers accept.

    Raises:
        KeyDirectoryError: reason ``TooManyKeys``.
    """
    if len(public) > MAX_KEYS:
        raise KeyDirectoryError(
            f"the key set would hold {len(public)} keys, at most {MAX_KEYS} are accepted: keys "
            f"retired less than {RETIRED_SECONDS // 86_400} days ago must stay; rotate later, or "
            "see `keys retire`",
            reason="TooManyKeys",
        )


def _retire(directory: Path, before: KeySet, now: int) -> dict[str, int]:
    """Return the old keys that must stay, with the Unix seconds at which they retired."""
    try:
        known = json.loads((directory / RETIRED_FILE).read_text())
    except (OSError, ValueError):
        known = {}
    in_use = set()
    for path in directory.glob("*.pem"):
        try:
            in_use.add(SigningKey.from_pem(path.read_bytes()).kid)
        except InvalidInputError:
            continue
    since = {
        kid: now if kid in in_use or not isinstance(known.get(kid), int) else known[kid]
        for kid in before.keys
    }
    return {kid: at for kid, at in since.items() if now < at + RETIRED_SECONDS}


def sign_public_keys(
    root_pem: bytes, keys: Iterable[Mapping[str, Any]], *, number: int, now: int | None = None
) -> dict[str, Any]:
    """Sign a set of public keys on the offline machine; returns the ``jwks.json`` document."""
    public = [PublicJwk.model_validate_json(json.dumps(dict(key))) for key in keys]
    return sign_key_set(
        SigningKey.from_pem(root_pem), public, number=number, now=now or int(time.time())
    )


def import_key_set(
    directory: Path, document: bytes, roots: bytes, *, now: int, force: bool = False
) -> int:
    """Take in a key set that was signed offline; returns its number.

    Args:
        directory: of the signing keys.
        document: the signed set.
        roots: the release's ``roots.json``.
        now: Unix seconds.
        force: also one that lacks keys of which something may be in use.

    Raises:
        KeySetError: it is not signed by one of the roots, or has ended.
        KeyDirectoryError: its number is not higher, or it lacks one of the keys in the directory,
            or one of which something may be in use.
    """
    verified = verify_key_set(document, load_roots(roots), now=now)
    path = directory / KEY_SET_FILE
    before = parse_key_set(path.read_bytes()) if path.exists() else None
    if before is not None:
        last = before.number
        if verified.number <= last:
            raise KeyDirectoryError(
                f"the key set there has number {last}; this one has {verified.number}",
                reason="NumberNotHigher",
            )
    _check_complete(read_private(directory), verified.keys)
    if before is not None and not force:
        needed = _retire(directory, before, now).keys() - verified.keys.keys()
        if needed:
            raise KeyDirectoryError(
                f"the key set lacks {len(needed)} keys of which something may be in use until "
                f"{RETIRED_SECONDS // 86_400} days after they retired; sign it with them, or see "
                "`keys status` and import it with --force",
                reason="OldKeyNeeded",
            )
    write_document(path, json.loads(document))
    return verified.number


def read_private(directory: Path) -> dict[TokenKind, SigningKey]:
    """Return the private key of every kind.

    Raises:
        KeyDirectoryError: one is missing or malformed.
    """
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


def release_roots() -> Mapping[str, PublicJwk] | None:
    """Return the release's root keys; None in a build without them (the source tree).

    Raises:
        KeySetError: the file cannot be read.
    """
    try:
        return load_release_roots().keys
    except KeySetError as error:
        if error.reason != "NoTrustRoot":
            raise
        _log.warning("this build carries no root keys: who signed the key set is not checked")
        return None


class KeyRing:
    """The signing keys and key set that are in force; re-read when the directory changes.

    Args:
        directory: see the module.
        roots: root keys that must have signed the set; None in a build that carries none.
        clock: returns Unix seconds.

    Raises:
        KeyDirectoryError: at the start, when the keys are missing or do not match the set, or the
            set is not signed by a root.
    """

    def __init__(
        self,
        directory: Path,
        roots: Mapping[str, PublicJwk] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self._roots = roots
        self._clock = clock
        self._lock = threading.Lock()
        self._checked = time.monotonic()
        self._stamp = self._read_stamp()
        self._load()

    def _read_stamp(self) -> tuple[object, ...]:
        names = [KEY_SET_FILE, *(f"{kind}.pem" for kind in sorted(VENDOR_KINDS))]
        found: list[object] = []
        for name in names:
            try:
                stat = (self.directory / name).stat()
            except OSError:
                found.append(None)
            else:
                found.append((stat.st_mtime_ns, stat.st_ino, stat.st_size))
        return tuple(found)

    def _load(self) -> None:
        private = read_private(self.directory)
        path = self.directory / KEY_SET_FILE
        try:
            document = path.read_bytes()
            found = (
                parse_key_set(document)
                if self._roots is None
                else verify_key_set(document, self._roots, now=int(self._clock()))
            )
        except OSError as error:
            raise KeyDirectoryError(
                f"cannot read {path} ({error.strerror}); make it with "
                "`brinkbyte billing keys signing`",
                reason="KeySetMissing",
            ) from None
        except KeySetError as error:
            raise KeyDirectoryError(
                f"{path}: {error.message} (or make it anew with `brinkbyte billing keys signing`)",
                reason=error.reason,
            ) from None
        _check_complete(private, found.keys)
        self._private, self._found = private, found
        self._document: dict[str, Any] = json.loads(document)

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
                _log.info("signing keys taken in", key_set_number=self.number)

    def key(self, kind: TokenKind) -> SigningKey:
        """Return the private key that signs a kind of documents."""
        return self._private[kind]

    @property
    def public(self) -> Mapping[str, PublicJwk]:
        """Public keys of the set by key id."""
        return self._found.keys

    @property
    def document(self) -> dict[str, Any]:
        """The ``jwks.json`` document."""
        return dict(self._document)

    @property
    def number(self) -> int:
        """Number of the key set."""
        return self._found.number

    @property
    def expires_at(self) -> int:
        """Unix seconds at which the key set ends."""
        return self._found.expires_at
