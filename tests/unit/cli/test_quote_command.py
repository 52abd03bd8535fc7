"""What a folder of manifests will cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from brinkbyte.catalog import CatalogError, load_catalog
from brinkbyte.cli.main import build_app
from brinkbyte.cli.quote import quantities
from brinkbyte.kit.errors import InvalidInputError

pytestmark = pytest.mark.unit

EXAMPLE = Path(__file__).parents[3] / "examples" / "customer"
CATALOG = load_catalog()


def quoted(*arguments: str) -> Any:
    words = ["quote", *arguments]
    return CliRunner().invoke(build_app(words), words)


def manifest(kind: str, name: str, **spec: object) -> dict[str, object]:
    spec.setdefault("tenantRef", {"name": "acme"})
    return {
        "apiVersion": "vision.brinkbyte.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "acme"},
        "spec": spec,
    }


def camera(name: str, *packs: str, **spec: object) -> dict[str, object]:
    return manifest(
        "CameraLicense",
        name,
        cameraId=name,
        deviceRef={"name": "box"},
        growthPacks=list(packs),
        **spec,
    )


def write(folder: Path, name: str, *documents: object) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return path


def test_devices_cameras_and_packs_are_counted(tmp_path: Path) -> None:
    write(
        tmp_path,
        "a.yaml",
        manifest("EdgeDevice", "box", hardwareId="hw-1"),
        manifest("EdgeDevice", "other", hardwareId="hw-2", managementTier="managed"),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}},
        None,
    )
    inner = tmp_path / "inner"
    inner.mkdir()
    items = [camera("one", "advanced_analytics", "intelligence"), camera("two", "intelligence")]
    write(inner, "b.yml", {"kind": "List", "items": items}, camera("three", mode="trial"))
    # The same object in a second file counts once, and no other file is read.
    write(inner, "c.json", camera("one"))
    (inner / "notes.txt").write_text("{{ not yaml")
    assert quantities(CATALOG, [tmp_path]) == {
        ("acme", "acme"): {
            "vision.device.basic": 1,
            "vision.device.managed": 1,
            "vision.base_seat": 2,
            "vision.pack.advanced_analytics": 1,
            "vision.pack.intelligence": 1,
            "vision.trial_seat": 1,
        }
    }


def test_the_price_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", camera("one", "advanced_analytics"), camera("two", "retail"))
    found = quoted(str(tmp_path), "--plan", "platform=standard", "--output", "json")
    assert found.exit_code == 0, found.output
    [answer] = json.loads(found.output)
    assert (answer["namespace"], answer["tenant"]) == ("acme", "acme")
    assert answer["monthly_total"] == "239.00"  # 2 x 60 + 20 + 99
    assert [item["sku"] for item in answer["contact_sales"]] == ["vision.pack.retail"]
    text = quoted(str(tmp_path)).output
    assert "140.00 USD a month, before tax and use" in text
    assert "contact sales" in text


def test_the_example_has_a_price() -> None:
    found = quoted(str(EXAMPLE))
    assert found.exit_code == 0, found.output
    assert "USD a month" in found.output


@pytest.mark.parametrize(
    ("documents", "error", "what"),
    [
        ([camera("one", "retial")], CatalogError, "retail"),
        ([camera("one", mode="gold")], InvalidInputError, r"a\.yaml: CameraLicense: spec\.mode"),
    ],
)
def test_what_cannot_be_priced_is_named(
    tmp_path: Path, documents: list[object], error: type[Exception], what: str
) -> None:
    write(tmp_path, "a.yaml", *documents)
    with pytest.raises(error, match=what):
        quantities(CATALOG, [tmp_path])


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read"):
        quantities(CATALOG, [tmp_path / "none.yaml"])
    (tmp_path / "a.yaml").write_text("{{ .Values }}: [")
    with pytest.raises(InvalidInputError, match="render templates first"):
        quantities(CATALOG, [tmp_path])


def test_nothing_to_price_and_wrong_words_are_refused(tmp_path: Path) -> None:
    assert isinstance(quoted(str(tmp_path)).exception, InvalidInputError)
    write(tmp_path, "a.yaml", *(camera(name, mode="trial") for name in ("a", "b", "c")))
    assert "acme/acme: quantity of 'vision.trial_seat' is 3" in str(quoted(str(tmp_path)).exception)
    assert quoted(str(tmp_path), "--plan", "standard").exit_code == 2
    write(tmp_path, "b.yaml", camera("d", tenantRef={"name": "other"}))
    assert quoted(str(tmp_path), "--plan", "platform=free").exit_code == 2
