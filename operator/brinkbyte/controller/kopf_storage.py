"""Storages for kopf that keep nothing: it has no state of ours, and writes no annotation.

Its own would copy and compare every object of every event for handlers that we do not have; with a
thousand licenses that is most of the operator's work.
"""

from __future__ import annotations

from typing import Any

from brinkbyte.controller.lean_kopf import kopf


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers no last-handled state."""

    def build(self, **_: Any) -> Any:
        """Return nothing to compare."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Return that nothing was handled before."""

    def store(self, **_: Any) -> None:
        """Store nothing."""


class NoProgress(kopf.ProgressStorage):
    """Remembers no progress of handlers."""

    def fetch(self, **_: Any) -> None:
        """Return that nothing is under way."""

    def store(self, **_: Any) -> None:
        """Store nothing."""

    def purge(self, **_: Any) -> None:
        """Leave everything as it is."""

    def touch(self, **_: Any) -> None:
        """Touch nothing."""

    def clear(self, *, essence: Any) -> Any:
        """Return what came in."""
        return essence
