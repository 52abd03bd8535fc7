"""Files that somebody carries between a site without a line and the vendor.

Lines of JSON: the first says what the file is, the last how many lines there are and their hash,
so that a file that was cut short or damaged on its way is known before anything of it is used. The
hash keeps nobody from writing another file: batches are signed by the instance, receipts by the
vendor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.model import OpenWireModel, first_problem
from brinkbyte.license.claims import Identifier, UnixTime
from brinkbyte.metering.batches import UsageHead

VERSION: Final = 1
MAX_LINE_BYTES: Final = 12 * 1024 * 1024


class FileError(PermanentError):
    """The file cannot be used; ``reason`` says why, and nothing of it was.

    Reasons: ``NotAUsageFile``, ``WrongFile``, ``NewerFile``, ``FileTruncated``, ``FileChanged``.
    """


class UsageFile(OpenWireModel):
    """First line of sealed batches; each further line is a batch as it goes over the wire.

    Attributes:
        customer_id: whose site it is.
        instance: whose batches they are.
        created_at: Unix seconds by the site's clock.
    """

    format: Literal["brinkbyte-usage"] = "brinkbyte-usage"
    version: int = VERSION
    customer_id: Identifier
    instance: Identifier
    created_at: UnixTime


class RefusedBatch(OpenWireModel):
    """The batch at which the ledger stopped, and why."""

    epoch: str
    batch_no: int
    reason: str
    message: str


class ReceiptsFile(OpenWireModel):
    """First line of receipts; each further line is ``{"receipt": "<JWS>"}``.

    Attributes:
        head: where the ledger's chain goes on.
        refused: None: every batch of the file has its receipt.
        key_set: the vendor's root-signed keys, as JSON text.
    """

    format: Literal["brinkbyte-usage-receipts"] = "brinkbyte-usage-receipts"
    version: int = VERSION
    customer_id: Identifier
    instance: Identifier
    head: UsageHead
    refused: RefusedBatch | None = None
    key_set: str


class _End(OpenWireModel):
    lines: Annotated[int, Field(ge=0)]
    sha256: str


FirstLine = UsageFile | ReceiptsFile


class FileLines:
    """The lines of a file, checked as they are read; the last one is checked at the end.

    Args:
        lines: of the file, each with its newline.
        name: of the file, for messages.
    """

    def __init__(self, lines: Iterable[bytes], name: str) -> None:
        self._lines = iter(lines)
        self._name = name
        self._hash = hashlib.sha256()
        self._count = 0

    def first(self, expected: type[UsageFile] | type[ReceiptsFile]) -> UsageFile | ReceiptsFile:
        """Return what the file says that it is.

        Raises:
            FileError: it is something else.
        """
        line = next(self._lines, b"")
        self._take(line)
        try:
            found = json.loads(line)
            name, version = found["format"], found["version"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise FileError(
                f"{self._name} is not a file of usage or receipts; take the one that "
                "`brinkbyte usage export` or `brinkbyte billing admin usage import` wrote",
                reason="NotAUsageFile",
            ) from None
        wanted = expected.model_fields["format"].default
        if name != wanted:
            raise FileError(
                f"{self._name} is a file {name!r}, not {wanted!r}: receipts are for the site, "
                "usage is for the vendor",
                reason="WrongFile",
            )
        if version != VERSION:
            raise FileError(
                f"{self._name} has version {version}; update this program", reason="NewerFile"
            )
        try:
            return expected.model_validate_json(line)
        except ValidationError as error:
            raise self._changed(first_problem(error)) from None

    def rest(self) -> Iterator[bytes]:
        """Yield the lines between the first and the last.

        Raises:
            FileError: the file was cut short or changed; raised at its end at the latest.
        """
        held: bytes | None = None
        for line in self._lines:
            if held is not None:
                self._take(held)
                yield held
            held = line
        try:
            end = _End.model_validate_json(held or b"")
        except ValidationError:
            raise FileError(
                f"{self._name} ends too early: it was cut short on its way; copy it again",
                reason="FileTruncated",
            ) from None
        if end.lines != self._count or end.sha256 != self._hash.hexdigest():
            raise self._changed("its lines are not those that were written")

    def _take(self, line: bytes) -> None:
        if len(line) > MAX_LINE_BYTES:
            raise self._changed("a line is too long")
        self._hash.update(line)
        self._count += 1

    def _changed(self, what: str) -> FileError:
        return FileError(
            f"{self._name} was changed after it was written ({what}); copy it again, or make it "
            "anew",
            reason="FileChanged",
        )


def check_file(
    lines: Iterable[bytes], expected: type[UsageFile] | type[ReceiptsFile], name: str
) -> tuple[UsageFile | ReceiptsFile, int]:
    """Read a file to its end; return its first line and how many it has between first and last.

    Raises:
        FileError: it cannot be used.
    """
    read = FileLines(lines, name)
    first = read.first(expected)
    return first, sum(1 for _ in read.rest())


class FileWriter:
    """Spells the lines of a file.

    Args:
        first: what the file is.
    """

    def __init__(self, first: FirstLine) -> None:
        self._first = first
        self._hash = hashlib.sha256()
        self._count = 0

    def begin(self) -> bytes:
        """Return the first line."""
        return self.line(self._first.model_dump_json(exclude_none=True).encode())

    def line(self, data: bytes) -> bytes:
        """Return a further line."""
        line = data + b"\n"
        self._hash.update(line)
        self._count += 1
        return line

    def end(self) -> bytes:
        """Return the last line."""
        return (
            _End(lines=self._count, sha256=self._hash.hexdigest()).model_dump_json().encode()
            + b"\n"
        )
