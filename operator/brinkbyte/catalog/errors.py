"""The one error of the catalog room."""

from collections.abc import Iterable

from brinkbyte.kit.errors import InvalidInputError


class CatalogError(InvalidInputError, ValueError):
    """A name, value or file that does not fit the catalog; says which and what to do.

    Attributes:
        problems: every problem found, one sentence each, in a stable order.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("; ".join(self.problems), reason="Catalog")
