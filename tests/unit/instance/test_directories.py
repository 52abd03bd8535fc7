from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from brinkbyte.instance.credentials import Caller, Credentials
from brinkbyte.store.directories import WatchedDirectory, read_text
from support.instance_site import volume

pytestmark = pytest.mark.unit


def test_a_swap_is_seen_once(tmp_path: Path) -> None:
    directory = WatchedDirectory(tmp_path / "secret")
    assert directory.changed()
    assert not directory.changed()
    volume(tmp_path / "secret", {"a": "1"})
    assert directory.changed()
    assert not directory.changed()
    volume(tmp_path / "secret", {"a": "1"})
    assert directory.changed()
    directory.forget()
    assert directory.changed()


def test_plain_files_are_followed_too(tmp_path: Path) -> None:
    directory = WatchedDirectory(tmp_path)
    directory.changed()
    (tmp_path / "a").write_text("1")
    assert directory.changed()
    (tmp_path / "a").unlink()
    assert directory.changed()


def test_text_of_missing_and_binary_files_is_none(tmp_path: Path) -> None:
    assert read_text(tmp_path / "missing") is None
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert read_text(tmp_path / "binary") is None
    (tmp_path / "blank").write_text(" \n")
    assert read_text(tmp_path / "blank") is None


def test_a_missing_list_of_devices_changes_nothing(tmp_path: Path) -> None:
    listed = json.dumps(
        [
            {
                "hardwareId": "hw-1",
                "name": "edge-1",
                "managementTier": "basic",
                "tokenSha256": hashlib.sha256(b"token").hexdigest(),
                "createdAt": 1,
            }
        ]
    )
    credentials = Credentials(tmp_path / "access", tmp_path / "devices")
    assert credentials.reload() is False
    assert credentials.revision == 0
    volume(tmp_path / "devices", {"devices.json": listed})
    assert credentials.reload() is True
    volume(tmp_path / "devices", {})
    assert credentials.reload() is False
    assert credentials.authenticate("token") is not None
    volume(tmp_path / "devices", {"devices.json": listed})
    assert credentials.reload() is False
    volume(tmp_path / "devices", {"devices.json": "[]"})
    assert credentials.reload() is True
    assert (credentials.revision, credentials.authenticate("token")) == (2, None)


def test_the_first_list_counts_even_when_it_is_empty(tmp_path: Path) -> None:
    volume(tmp_path / "devices", {"devices.json": "[]"})
    credentials = Credentials(tmp_path / "access", tmp_path / "devices")
    assert credentials.reload() is True
    assert credentials.revision == 1


def test_unknown_tokens_do_not_read_the_directories_every_time(tmp_path: Path) -> None:
    clock = [0.0]
    volume(tmp_path / "access", {"service-token": "one"})
    credentials = Credentials(tmp_path / "access", tmp_path / "devices", monotonic=lambda: clock[0])
    credentials.reload()
    volume(tmp_path / "access", {"service-token": "two"})
    assert credentials.authenticate("two") is None
    clock[0] = 1.0
    found = credentials.authenticate("two")
    assert found is not None
    assert (found.caller, found.credential_id) == (Caller.SERVICE, "service")
    assert credentials.authenticate("one") is None
