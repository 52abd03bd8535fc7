"""The vendor's root public keys, part of the release: a file in the wheel and image, nothing else.

In: ``roots.json`` of this package, put there when the release is built. Out: the root keys by key
id; without any an error, or none for a site that goes on unlicensed. The file in the source tree
is a placeholder without keys: a build without the vendor's file trusts nobody. May import:
``brinkbyte.kit``, ``brinkbyte.license``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from brinkbyte.kit.logging import get_logger
from brinkbyte.license.keys import KeySetError, PublicJwk, load_roots

ROOTS_FILE = "roots.json"
_log = get_logger(__name__)


@dataclass(frozen=True)
class TrustRoots:
    """The release's roots of trust.

    Attributes:
        keys: root public keys by key id.
        development: the roots were made on a developer's machine; shown as a condition.
    """

    keys: Mapping[str, PublicJwk]
    development: bool


def parse_roots(document: bytes | str) -> TrustRoots:
    """Read a roots file: ``{"keys": [JWK, …], "development": true|false}``.

    Raises:
        KeySetError: not such a file, or a file without keys.
    """
    keys = load_roots(document)
    if not keys:
        raise KeySetError(
            "this build carries no root keys and trusts nobody; build the release with the "
            "vendor's roots.json (`brinkbyte billing keys root` makes one for development)",
            reason="NoTrustRoot",
        )
    return TrustRoots(keys, bool(json.loads(document).get("development", False)))


def load_release_roots() -> TrustRoots:
    """Return the roots of this release.

    Raises:
        KeySetError: the release was built without them.
    """
    return parse_roots(files(__name__).joinpath(ROOTS_FILE).read_bytes())


def trusted_roots() -> Mapping[str, PublicJwk]:
    """Return the root keys of this release; none, and an error in the log, without any.

    For a customer's site, which goes on unlicensed rather than not at all.
    """
    try:
        return load_release_roots().keys
    except KeySetError as error:
        _log.error("no license can be verified", reason=error.reason, detail=error.message)
        return {}
