"""Mounted Secrets: directories whose files change all at once, by a swapped symlink."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeAlias

from brinkbyte.license.claims import TokenKind
from brinkbyte.resources.names import KEY_SET_KEY, LICENSE_KEY, REVOCATIONS_KEY, SEATS_KEY

_DOCUMENTS: Final = {
    TokenKind.KEY_SET: KEY_SET_KEY,
    TokenKind.REVOCATIONS: REVOCATIONS_KEY,
    TokenKind.LICENSE: LICENSE_KEY,
    TokenKind.SEATS: SEATS_KEY,
}
Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]


class WatchedDirectory:
    """A directory that is looked at again and again.

    The kubelet swaps the symlink ``..data``; elsewhere files are replaced one by one. Both change
    the names, inodes, sizes or times of the files as seen through the symlinks.

    Args:
        path: the directory; it may come into being later.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: Signature | None = None

    def changed(self) -> bool:
        """Tell whether the files differ from those at the last call; true on the first one."""
        signature = self._signature()
        if signature == self._seen:
            return False
        self._seen = signature
        return True

    def forget(self) -> None:
        """Make the next :meth:`changed` true: what was read could not be used yet."""
        self._seen = None

    def _signature(self) -> Signature:
        entries = []
        try:
            for path in sorted(self.path.iterdir()):
                if path.name.startswith(".."):
                    continue
                status = path.stat()
                entries.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            # Missing, or swapped while we looked: the next look sees the whole.
            return (("", 0, 0, 0), *entries)
        return tuple(entries)


def read_text(path: Path) -> str | None:
    """Return a file's text without surrounding space; None when it is missing or empty."""
    try:
        return path.read_text("utf-8").strip() or None
    except (OSError, UnicodeError):
        return None


def read_documents(path: Path) -> dict[TokenKind, str]:
    """Return the signed documents of a mounted license directory; they are not verified yet."""
    found = {kind: read_text(path / name) for kind, name in _DOCUMENTS.items()}
    return {kind: text for kind, text in found.items() if text is not None}
