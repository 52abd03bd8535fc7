"""Which addresses a webhook may reach: none inside the vendor's own network.

A name is resolved once and the connection goes to the address that was judged, so a name that
answers otherwise the second time gains nothing. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from brinkbyte.kit.errors import PermanentError, TemporaryError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class RefusedAddressError(PermanentError):
    """A webhook's address must not be reached."""


class UnresolvedError(TemporaryError):
    """A webhook's name does not resolve right now."""


def _embedded(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv6 address leads to, if it leads to one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address.teredo is not None:
            return address.teredo[1]
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: IpAddress) -> bool:
    """Tell whether an address is of the open internet: not loopback, private or link-local."""
    inner = _embedded(address)
    return inner.is_global and not (
        inner.is_multicast
        or inner.is_reserved
        or inner.is_loopback
        or inner.is_link_local
        or inner.is_unspecified
        or inner.is_private
    )


def check_url(url: str, *, allow_private: bool) -> tuple[str, int]:
    """Judge what can be judged without a look at names; returns host and port.

    Raises:
        RefusedAddressError: no absolute https URL, or one with a login or an address inside.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise RefusedAddressError("the URL cannot be read; correct it") from None
    schemes = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in schemes or not host:
        raise RefusedAddressError("a webhook's URL begins with https:// and a host; correct it")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise RefusedAddressError("leave login and fragment out of a webhook's URL")
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        _refuse_inside([literal], allow_private=allow_private)
    return host, port or (443 if parts.scheme == "https" else 80)


async def resolve(host: str, port: int, *, allow_private: bool) -> str:
    """Return an address of a host that may be reached.

    Raises:
        RefusedAddressError: any of its addresses is inside.
        UnresolvedError: it has none right now.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnresolvedError(f"{host} does not resolve: {error}") from None
    addresses = [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]
    if not addresses:
        raise UnresolvedError(f"{host} does not resolve")
    _refuse_inside(addresses, allow_private=allow_private)
    return str(addresses[0])


def _refuse_inside(addresses: list[IpAddress], *, allow_private: bool) -> None:
    if allow_private:
        return
    if not all(is_public(address) for address in addresses):
        raise RefusedAddressError(
            "the address is not of the open internet (loopback, private, link-local or metadata); "
            "give one that is"
        )
