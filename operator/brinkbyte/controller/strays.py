"""What somebody made of an item of ours by changing its key; pure.

The API merges some lists by a key. Whoever changes the key (a port's number, a container's name)
turns our item into one of theirs: an apply then adds ours beside it, which the API refuses for two
ports of one name, and which would run one container twice. Such a stray has to go first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from brinkbyte.controller.compare import list_keys, same_item

_CONTAINERS: Final = frozenset({"containers", "initContainers"})


def strays(
    desired: Mapping[str, Any], live: Mapping[str, Any], pointer: str = ""
) -> Iterator[tuple[str, list[Any]]]:
    """Yield the lists that hold strays: JSON pointer, and the list without them and with ours."""
    for name, wanted in desired.items():
        found = live.get(name)
        where = f"{pointer}/{name}"
        if isinstance(wanted, Mapping) and isinstance(found, Mapping):
            yield from strays(wanted, found, where)
        elif isinstance(wanted, list) and isinstance(found, list):
            yield from _of_list(name, wanted, found, where)


def _of_list(
    name: str, wanted: Sequence[Any], found: Sequence[Any], where: str
) -> Iterator[tuple[str, list[Any]]]:
    keys = list_keys(name, wanted)
    if keys is None:
        return
    places = [
        next((i for i, it in enumerate(found) if same_item(w, it, keys)), None) for w in wanted
    ]
    others = [item for i, item in enumerate(found) if i not in places]
    kept = [item for item in others if not _is_stray(name, item, wanted)]
    if len(kept) < len(others):
        ours = [w if i is None else found[i] for w, i in zip(wanted, places, strict=True)]
        yield where, [*ours, *kept]
        return
    for item, place in zip(wanted, places, strict=True):
        if place is not None:
            yield from strays(item, found[place], f"{where}/{place}")


def _is_stray(name: str, item: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]]) -> bool:
    if name == "ports":
        return any(item.get("name") == each["name"] for each in wanted)
    if name in _CONTAINERS:
        return any(
            item.get("image") == each["image"] and item.get("command") == each["command"]
            for each in wanted
        )
    return False
