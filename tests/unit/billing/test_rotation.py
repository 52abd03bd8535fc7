"""The three steps of a change of signing keys on disk, and a kill in each of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from brinkbyte.billing.licenses import rotation
from brinkbyte.billing.licenses.keys import (
    RETIRED_SECONDS,
    KeyDirectoryError,
    KeyRing,
    make_signing_keys,
)
from brinkbyte.billing.licenses.rotation import publish, read_state, retire, switch
from brinkbyte.license.claims import VENDOR_KINDS
from brinkbyte.license.keys import load_roots, verify_key_set

pytestmark = pytest.mark.unit
NOW = 1_800_000_000
DAY = 86_400


@pytest.fixture
def pem(root: Path) -> bytes:
    return (root / "root.pem").read_bytes()


def signing(keys: Path) -> set[str]:
    ring = KeyRing(keys, clock=lambda: NOW)
    return {ring.key(kind).kid for kind in VENDOR_KINDS}


def test_publish_then_switch_then_retire(root: Path, keys: Path, pem: bytes) -> None:
    old = signing(keys)
    before = read_state(keys)
    assert (before.phase, before.target, before.number) == ("settled", 1, 1)

    assert publish(keys, pem, now=NOW) == 2
    published = read_state(keys)
    assert (published.phase, published.target) == ("published", 2)
    assert published.signing == old
    assert len(published.next) == len(VENDOR_KINDS)
    # Both are in the set, root-signed, and the old ones go on signing.
    roots = load_roots((root / "roots.json").read_bytes())
    found = verify_key_set((keys / "jwks.json").read_bytes(), roots, now=NOW)
    assert set(found.keys) == old | published.next
    assert signing(keys) == old
    for kind in VENDOR_KINDS:
        assert (keys / f"{kind}.next.pem").stat().st_mode & 0o777 == 0o600

    assert switch(keys, now=NOW + DAY) == 2
    overlap = read_state(keys)
    assert (overlap.phase, overlap.target, overlap.number) == ("overlap", 2, 2)
    assert signing(keys) == overlap.signing == published.next
    assert overlap.retired == dict.fromkeys(old, NOW + DAY)

    assert retire(keys, pem, now=NOW + 2 * DAY) == 3
    ended = read_state(keys)
    # Who has seen set 2 needs nothing of set 3 to check what is signed.
    assert (ended.phase, ended.number, ended.target) == ("settled", 3, 2)
    assert set(ended.keys) == signing(keys) == published.next


def test_steps_out_of_turn_are_refused_and_change_nothing(keys: Path, pem: bytes) -> None:
    def refused(step: Callable[[], int]) -> str:
        before = {path.name: path.read_bytes() for path in keys.iterdir()}
        with pytest.raises(KeyDirectoryError) as caught:
            step()
        assert {path.name: path.read_bytes() for path in keys.iterdir()} == before
        return caught.value.reason

    assert refused(lambda: switch(keys, now=NOW)) == "NothingPublished"
    assert refused(lambda: retire(keys, pem, now=NOW)) == "NothingRetired"
    publish(keys, pem, now=NOW)
    assert refused(lambda: publish(keys, pem, now=NOW)) == "RotationUnderWay"
    assert refused(lambda: retire(keys, pem, now=NOW)) == "RotationUnderWay"
    (keys / "license.next.pem").unlink()
    assert refused(lambda: switch(keys, now=NOW)) == "KeyMissing"
    (keys / "license.next.pem").write_text("half a key")
    assert refused(lambda: switch(keys, now=NOW)) == "MalformedKey"
    (keys / "jwks.json").unlink()
    assert refused(lambda: switch(keys, now=NOW)) == "KeySetMissing"


def test_publishing_killed_before_the_set_is_made_again(
    keys: Path, pem: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = signing(keys)
    write = rotation.write_document

    def killed(path: Path, document: Mapping[str, Any]) -> None:
        if path.name == "jwks.json":
            raise KeyboardInterrupt
        write(path, document)

    monkeypatch.setattr(rotation, "write_document", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(keys, pem, now=NOW)
    monkeypatch.setattr(rotation, "write_document", write)
    assert read_state(keys).phase == "settled"
    assert signing(keys) == old
    assert publish(keys, pem, now=NOW) == 2
    switch(keys, now=NOW)
    assert signing(keys).isdisjoint(old)


@pytest.mark.parametrize("done", [0, 1, 3, 5])
def test_a_switch_killed_between_files_signs_on_and_is_finished_by_another(
    keys: Path, pem: bytes, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    old = signing(keys)
    publish(keys, pem, now=NOW)
    coming = read_state(keys).next
    replace, left = Path.replace, [done]

    def killed(self: Path, target: Path) -> Path:
        if self.name.endswith(".next.pem"):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    if done < len(VENDOR_KINDS):
        with pytest.raises(KeyboardInterrupt):
            switch(keys, now=NOW)
    monkeypatch.undo()
    # Half old, half new: every one of them is in the set.
    assert len(signing(keys) & coming) == (done if done < len(VENDOR_KINDS) else 0)
    switch(keys, now=NOW + DAY)
    state = read_state(keys)
    assert signing(keys) == state.signing == coming
    assert set(state.retired) == old


def test_keys_that_were_retired_long_ago_go_by_themselves(keys: Path, pem: bytes) -> None:
    old = signing(keys)
    publish(keys, pem, now=NOW)
    switch(keys, now=NOW)
    publish(keys, pem, now=NOW + RETIRED_SECONDS - 1)
    assert old < set(read_state(keys).keys)
    switch(keys, now=NOW + RETIRED_SECONDS - 1)
    publish(keys, pem, now=NOW + RETIRED_SECONDS)
    assert not old & set(read_state(keys).keys)


def test_a_rotation_at_once_overtakes_one_that_was_published(keys: Path, pem: bytes) -> None:
    old = signing(keys)
    publish(keys, pem, now=NOW)
    coming = read_state(keys).next
    make_signing_keys(keys, pem, now=NOW)
    state = read_state(keys)
    assert (state.phase, state.number, state.target) == ("overlap", 3, 3)
    assert set(state.retired) == old | coming
    assert signing(keys) == state.signing
    with pytest.raises(KeyDirectoryError, match="no next keys"):
        switch(keys, now=NOW)


@pytest.mark.parametrize("text", ["", "[]", '{"next": 7, "published": []}', '{"next": ["x"]}'])
def test_a_note_that_cannot_be_read_says_the_strictest(keys: Path, text: str) -> None:
    (keys / "rotation.json").write_text(text)
    (keys / "retired.json").write_text(json.dumps({"stranger": 1}))
    state = read_state(keys)
    assert (state.phase, state.target, state.retired) == ("settled", 1, {})
