"""A change of signing keys in three steps, so that nobody ever meets a signature it cannot check.

1. *Publish*: the next keys are made and their public halves go into a new set; nothing is signed
   with them yet.
2. *Switch*: they sign from now on; the old public keys stay in the set.
3. *Retire*: the old public keys go, once nothing that they signed is in use. Left alone, a key
   goes :data:`~brinkbyte.billing.licenses.keys.RETIRED_SECONDS` after it signed last.

Who has seen what, and so when a step is due, is judged in :mod:`brinkbyte.billing.rollout`. Each
step may be killed anywhere: run again it finishes, and until then the server goes on signing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from brinkbyte.billing.licenses.keys import (
    KEY_SET_FILE,
    RETIRED_FILE,
    RETIRED_SECONDS,
    KeyDirectoryError,
    check_size,
    read_private,
    replace_private,
    write_document,
)
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.license.claims import VENDOR_KINDS, TokenKind
from brinkbyte.license.keys import PublicJwk, SigningKey, parse_key_set, sign_key_set

ROTATION_FILE: Final = "rotation.json"
NEXT: Final = "next.pem"
Phase = Literal["settled", "published", "overlap"]


@dataclass(frozen=True)
class KeyState:
    """Where the keys of a directory stand. Read from its public files alone.

    Attributes:
        number: of the set.
        expires_at: Unix seconds; end of the set.
        keys: public keys of the set by key id.
        next: published, and signing nothing yet.
        retired: since when a key signs nothing any more, Unix seconds.
        published: number of the set that a key first came with, where that is known.
    """

    number: int
    expires_at: int
    keys: Mapping[str, PublicJwk]
    next: frozenset[str]
    retired: Mapping[str, int]
    published: Mapping[str, int]

    @property
    def signing(self) -> frozenset[str]:
        """Keys that sign now."""
        return frozenset(self.keys) - self.next - frozenset(self.retired)

    @property
    def phase(self) -> Phase:
        """Which step was the last."""
        if self.next:
            return "published"
        return "overlap" if self.retired else "settled"

    def came_with(self, kids: Iterable[str]) -> dict[str, int]:
        """Return the number of the set that each key came with; unknown: this one."""
        return {kid: self.published.get(kid, self.number) for kid in kids}

    @property
    def target(self) -> int:
        """Number of the set that the newest keys came with: who has seen it can check them."""
        return max(self.came_with(self.next or self.signing).values(), default=self.number)


def read_state(directory: Path) -> KeyState:
    """Read where the keys stand.

    Raises:
        KeyDirectoryError: there is no key set.
        KeySetError: the key set cannot be read.
    """
    path = directory / KEY_SET_FILE
    try:
        found = parse_key_set(path.read_bytes())
    except OSError as error:
        raise KeyDirectoryError(
            f"cannot read {path} ({error.strerror}); make it with `brinkbyte billing keys signing`",
            reason="KeySetMissing",
        ) from None
    note = _read(directory / ROTATION_FILE)
    coming, published = note.get("next"), note.get("published")
    retired = _read(directory / RETIRED_FILE)
    since = {kid: at for kid, at in retired.items() if kid in found.keys and isinstance(at, int)}
    return KeyState(
        number=found.number,
        expires_at=found.expires_at,
        keys=found.keys,
        # A name that is not in the set is of a step that was killed before it did anything; one
        # that is retired, of a rotation that another one at once overtook.
        next=frozenset(coming if isinstance(coming, list) else ()) & (set(found.keys) - set(since)),
        retired=since,
        published={
            kid: number
            for kid, number in (published if isinstance(published, dict) else {}).items()
            if kid in found.keys and isinstance(number, int)
        },
    )


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _note(directory: Path, *, coming: Iterable[str], published: Mapping[str, int]) -> None:
    write_document(
        directory / ROTATION_FILE, {"next": sorted(coming), "published": dict(published)}
    )


def publish(directory: Path, root_pem: bytes, *, now: int) -> int:
    """Make the next keys and the root-signed set with their public halves.

    Args:
        directory: of the signing keys.
        root_pem: the root's private key.
        now: Unix seconds.

    Returns:
        The number of the new set.

    Raises:
        KeyDirectoryError: the next keys are published already, or too many old keys must stay.
        InvalidInputError: the root key cannot be read.
    """
    read_private(directory)
    state, root = read_state(directory), SigningKey.from_pem(root_pem)
    if state.next:
        raise KeyDirectoryError(
            f"key set {state.target} has the next keys already; see `keys status`, then "
            "`keys switch`",
            reason="RotationUnderWay",
        )
    made = {kind: SigningKey.generate([kind]) for kind in sorted(VENDOR_KINDS)}
    gone = {kid for kid, at in state.retired.items() if now >= at + RETIRED_SECONDS}
    public = [key.jwk for key in made.values()]
    public += [key for kid, key in state.keys.items() if kid not in gone]
    check_size(public)
    number = state.number + 1
    document = sign_key_set(root, public, number=number, now=now)
    for kind, key in made.items():
        replace_private(directory / f"{kind}.{NEXT}", key)
    coming = [key.kid for key in made.values()]
    _note(
        directory,
        coming=coming,
        published={
            **state.came_with(set(state.keys) - gone),
            **dict.fromkeys(coming, number),
        },
    )
    write_document(directory / KEY_SET_FILE, document)
    return number


def switch(directory: Path, *, now: int) -> int:
    """Sign with the next keys from now on; returns the number of the set, which stays.

    Raises:
        KeyDirectoryError: no keys were published, or a private one is missing.
    """
    state = read_state(directory)
    if not state.next:
        raise KeyDirectoryError(
            "there are no next keys to switch to; publish them with `keys publish`",
            reason="NothingPublished",
        )
    staged = {kind: key for kind in sorted(VENDOR_KINDS) if (key := _staged(directory, kind))}
    signing = read_private(directory)
    missing = [
        kind
        for kind in sorted(VENDOR_KINDS)
        if (staged.get(kind) or signing[kind]).kid not in state.next
    ]
    if missing:
        raise KeyDirectoryError(
            f"the private half of the next key is missing for {', '.join(missing)}; restore "
            f"<kind>.{NEXT} from where the keys were published, or rotate with `keys signing`",
            reason="KeyMissing",
        )
    retiring = {kid: state.retired.get(kid, now) for kid in set(state.keys) - state.next}
    write_document(directory / RETIRED_FILE, retiring)
    for kind in staged:
        (directory / f"{kind}.{NEXT}").replace(directory / f"{kind}.pem")
    _note(directory, coming=(), published=state.came_with(state.keys))
    return state.number


def _staged(directory: Path, kind: TokenKind) -> SigningKey | None:
    path = directory / f"{kind}.{NEXT}"
    try:
        return SigningKey.from_pem(path.read_bytes(), [kind])
    except FileNotFoundError:
        return None
    except InvalidInputError as error:
        raise KeyDirectoryError(f"{path}: {error.message}", reason="MalformedKey") from None


def retire(directory: Path, root_pem: bytes, *, now: int) -> int:
    """Take the public halves of retired keys out of the set.

    What they signed verifies nowhere any more once the new set is there; the server cuts it anew.

    Returns:
        The number of the new set.

    Raises:
        KeyDirectoryError: no key is retired, or the next keys are not in use yet.
        InvalidInputError: the root key cannot be read.
    """
    signing = {key.kid for key in read_private(directory).values()}
    state, root = read_state(directory), SigningKey.from_pem(root_pem)
    if state.next:
        raise KeyDirectoryError(
            f"the keys of set {state.target} are not in use yet; `keys switch` comes first",
            reason="RotationUnderWay",
        )
    going = set(state.retired) - signing
    if not going:
        raise KeyDirectoryError(
            "no key is retired; `keys publish` and `keys switch` come first",
            reason="NothingRetired",
        )
    number = state.number + 1
    public = [key for kid, key in state.keys.items() if kid not in going]
    write_document(directory / KEY_SET_FILE, sign_key_set(root, public, number=number, now=now))
    write_document(directory / RETIRED_FILE, {})
    _note(directory, coming=(), published=state.came_with(set(state.keys) - going))
    return number
