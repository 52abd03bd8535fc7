"""Passwords: scrypt (RFC 7914) with its parameters beside each hash, so that they may rise."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from typing import Final

LOG2_N: Final = 15
R: Final = 8
P: Final = 3
"""32 MiB and 0.2 to 0.5 s of one core a guess; what OWASP's list of 2025 gives for scrypt."""
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_MEMORY: Final = 128 * 1024 * 1024
MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 200
_AT_ONCE: Final = 2


def _scrypt(password: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=1 << log2_n,
        r=r,
        p=p,
        maxmem=_MEMORY,
        dklen=_HASH_BYTES,
    )


def hash_password(password: str) -> str:
    """Return what is stored: ``scrypt$<log2 n>$<r>$<p>$<salt>$<hash>``."""
    salt = secrets.token_bytes(_SALT_BYTES)
    made = _scrypt(password, salt, LOG2_N, R, P)
    salt_text, hash_text = (base64.b64encode(part).decode() for part in (salt, made))
    return f"scrypt${LOG2_N}${R}${P}${salt_text}${hash_text}"


def verify_password(password: str, stored: str | None) -> bool:
    """Tell whether a password is the stored one; as slow where none is stored."""
    nobodys = f"scrypt${LOG2_N}${R}${P}${'A' * 22}==${'A' * 43}="
    _, log2_n, r, p, salt, wanted = (stored or nobodys).split("$")
    found = _scrypt(password, base64.b64decode(salt), int(log2_n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(wanted)) and stored is not None


class Passwords:
    """Hashing off the event loop, a few at a time, so that sign-in cannot take the machine."""

    def __init__(self) -> None:
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def hash(self, password: str) -> str:
        """Return what is stored of a password."""
        async with self._gate:
            return await asyncio.to_thread(hash_password, password)

    async def verify(self, password: str, stored: str | None) -> bool:
        """Tell whether a password is the stored one."""
        async with self._gate:
            return await asyncio.to_thread(verify_password, password, stored)
