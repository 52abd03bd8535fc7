"""Large parts of files that people carry: deflated, then base64url without padding."""

from __future__ import annotations

import base64
import binascii
import zlib


def pack(data: bytes) -> str:
    """Return data as compressed text."""
    return base64.urlsafe_b64encode(zlib.compress(data, 9)).rstrip(b"=").decode()


def unpack(text: str, *, limit: int) -> bytes:
    """Return the data of a compressed text.

    Args:
        text: as :func:`pack` made it.
        limit: bytes at most; a short text can stand for a great many.

    Raises:
        ValueError: it is truncated, larger, or not such a text.
    """
    inflater = zlib.decompressobj()
    try:
        padded = text + "=" * (-len(text) % 4)
        data = inflater.decompress(base64.b64decode(padded, altchars=b"-_", validate=True), limit)
    except (binascii.Error, zlib.error, UnicodeError) as error:
        raise ValueError(str(error)) from None
    if inflater.unconsumed_tail or inflater.unused_data or not inflater.eof:
        raise ValueError("truncated, or larger than any of ours")
    return data
