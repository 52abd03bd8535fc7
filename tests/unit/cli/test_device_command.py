"""A stable id from the hardware."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from typer.testing import CliRunner

from brinkbyte.cli import device
from brinkbyte.cli.device import SOURCES, app, device_identity
from brinkbyte.kit.errors import PermanentError
from brinkbyte.license.claims import Identifier

pytestmark = pytest.mark.unit
PLACES = dict(SOURCES)
UUID = "4C4C4544-0042-3510-8051-B7C04F4D3532"


def box(root: Path, **said: str) -> Path:
    for source, text in said.items():
        path = root / PLACES[source.replace("_", "-")]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_hardwares_own_number_comes_first_and_is_not_told(tmp_path: Path) -> None:
    found = device_identity(box(tmp_path, product_uuid=f"{UUID}\n", machine_id="a1b2c3d4e5f6\n"))
    assert found.source == "product-uuid"
    assert TypeAdapter(Identifier).validate_python(found.hardware_id) == found.hardware_id
    assert UUID.lower()[:8] not in found.hardware_id
    # Another installation, and a firmware that writes it differently: the same box.
    (tmp_path / PLACES["machine-id"]).write_text("0f0e0d0c0b0a")
    (tmp_path / PLACES["product-uuid"]).write_text(UUID.lower())
    assert device_identity(tmp_path) == found


def test_known_boxes_keep_their_ids_from_release_to_release(tmp_path: Path) -> None:
    found = device_identity(box(tmp_path, product_uuid=UUID))
    assert found.hardware_id == "hw-7a9d91113fb12b7d690f1fec5687a085"


@given(first=st.uuids(version=4), second=st.uuids(version=4))
def test_two_boxes_have_two_ids(
    tmp_path_factory: pytest.TempPathFactory, first: object, second: object
) -> None:
    root = tmp_path_factory.getbasetemp() / "boxes"
    ids = {
        device_identity(box(root, product_uuid=f"x{each}")).hardware_id for each in (first, second)
    }
    assert len(ids) == len({first, second})


@pytest.mark.parametrize(
    "nothing",
    [
        "", "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "03000200-0400-0500-0006-000700080009", "To Be Filled By O.E.M.", "Default string",
        "Not Specified", "None", "123456789", "0123456789ABCDEF", "System Serial Number",
    ],
)  # fmt: skip
def test_what_the_maker_left_unsaid_is_no_identity(tmp_path: Path, nothing: str) -> None:
    root = box(tmp_path, product_uuid=nothing, board_serial=nothing, machine_id="a1b2c3d4e5f6")
    assert device_identity(root).source == "machine-id"
    box(tmp_path, device_tree_serial="1424719018742\0")
    assert device_identity(root).source == "device-tree-serial"


def test_without_any_source_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"spec\.hardwareId") as error:
        device_identity(tmp_path)
    assert error.value.reason == "NoHardwareIdentity"


def test_what_only_root_may_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = box(tmp_path, product_uuid=UUID, machine_id="a1b2c3d4e5f6")
    read = Path.read_text

    def refuse(path: Path, *arguments: object, **more: object) -> str:
        if path.name == "product_uuid":
            raise PermissionError
        return read(path, *arguments, **more)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(PermanentError, match="sudo") as error:
        device_identity(root)
    assert error.value.reason == "NotReadable"


def test_the_command_prints_the_id_alone_for_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = device_identity(box(tmp_path, machine_id="a1b2c3d4e5f6"))
    monkeypatch.setattr(device, "device_identity", lambda: found)
    done = CliRunner().invoke(app, ["identity"])
    assert (done.exit_code, done.stdout) == (0, f"{found.hardware_id}\n")
    assert "new installation" in done.stderr
    done = CliRunner().invoke(app, ["identity", "--output", "json"])
    assert json.loads(done.stdout) == {"hardwareId": found.hardware_id, "source": "machine-id"}
