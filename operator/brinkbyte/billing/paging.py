"""Pages of lists: ``limit`` from 1 to 100, an opaque ``cursor``, ``next`` in the answer.

A repository is asked for one row more than the limit; :meth:`Page.cut` keeps the page and makes
the cursor of the next from its last row.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar
from uuid import UUID

from fastapi import Depends, Query

from brinkbyte.kit.problem import ProblemError

MAX_LIMIT: Final = 100
DEFAULT_LIMIT: Final = 50
_MAX_CURSOR: Final = 600
R = TypeVar("R")


def _bad() -> ProblemError:
    return ProblemError(
        422,
        "cursor: this is none of ours; send what `next` said, or leave it out for the first page",
        reason="InvalidCursor",
    )


@dataclass(frozen=True)
class Page:
    """Which page is wanted.

    Attributes:
        limit: rows at most.
        after: what the cursor stands for; None on the first page.
    """

    limit: int
    after: tuple[str, ...] | None

    @property
    def fetch(self) -> int:
        """Rows to ask the database for: one more tells whether there is a next page."""
        return self.limit + 1

    def texts(self, count: int) -> tuple[str, ...] | None:
        """Return the cursor's texts, None on the first page.

        Raises:
            ProblemError: 422 ``InvalidCursor`` when they are more or fewer.
        """
        if self.after is not None and len(self.after) != count:
            raise _bad()
        return self.after

    def text(self) -> str | None:
        """Return the cursor's one text (see :meth:`texts`)."""
        found = self.texts(1)
        return None if found is None else found[0]

    def uuid(self) -> UUID | None:
        """Return the cursor's one id.

        Raises:
            ProblemError: 422 ``InvalidCursor``.
        """
        text = self.text()
        if text is None:
            return None
        try:
            return UUID(text)
        except ValueError:
            raise _bad() from None

    def cut(
        self, rows: Sequence[R], key: Callable[[R], str | tuple[str, ...]]
    ) -> tuple[tuple[R, ...], str | None]:
        """Return this page's rows and the cursor of the next, None on the last.

        Args:
            rows: at most :attr:`fetch` rows in order.
            key: what the next page begins after.
        """
        kept = tuple(rows[: self.limit])
        if len(rows) <= self.limit:
            return kept, None
        last = key(kept[-1])
        parts = [last] if isinstance(last, str) else list(last)
        return kept, encode_cursor(parts)


def encode_cursor(parts: Sequence[str]) -> str:
    """Return a cursor that stands for some texts."""
    text = json.dumps(list(parts), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> tuple[str, ...]:
    """Return what a cursor stands for.

    Raises:
        ProblemError: 422 ``InvalidCursor``.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        raise _bad() from None
    if (
        not isinstance(found, list)
        or not found
        or not all(isinstance(part, str) and "\0" not in part for part in found)
    ):
        raise _bad()
    try:
        "".join(found).encode()
    except UnicodeEncodeError:
        raise _bad() from None
    return tuple(found)


def page(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="rows at most")] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None,
        Query(min_length=1, max_length=_MAX_CURSOR, description="`next` of the page before"),
    ] = None,
) -> Page:
    """Return which page is wanted (FastAPI dependency)."""
    return Page(limit, None if cursor is None else decode_cursor(cursor))


Paged = Annotated[Page, Depends(page)]
