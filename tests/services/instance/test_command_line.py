"""``brinkbyte instance …``."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from typer.testing import CliRunner

from brinkbyte.catalog import load_catalog
from brinkbyte.instance.cli import app
from brinkbyte.kit.errors import TemporaryError
from brinkbyte.kit.settings import SettingsError
from support.instance_site import Site

pytestmark = pytest.mark.services
run = CliRunner().invoke


def test_migrate_brings_the_schema_up_once(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRINKBYTE_DATABASE_URL", postgres_database)
    first = run(app, ["migrate"])
    assert first.exit_code == 0, first.output
    assert "applied migrations: 0001" in first.output
    assert "0053" in first.output
    assert "up to date" in run(app, ["migrate"]).output


def test_migrate_without_a_database_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BRINKBYTE_DATABASE_URL", raising=False)
    monkeypatch.setenv("BRINKBYTE_POSTGRES_DIR", str(tmp_path))
    failed = run(app, ["migrate"])
    assert isinstance(failed.exception, TemporaryError)
    assert "BRINKBYTE_DATABASE_URL" in failed.exception.message


def test_models_writes_the_repository(tmp_path: Path) -> None:
    done = run(app, ["models", str(tmp_path / "models")])
    assert done.exit_code == 0, done.output
    written = {path.name for path in (tmp_path / "models").iterdir()}
    assert written == set(load_catalog().models)


def test_serve_takes_flags_over_the_environment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[dict[str, object]] = []

    def record(application: FastAPI, **options: object) -> None:
        served.append({"application": application, **options})

    monkeypatch.setattr(uvicorn, "run", record)
    for name, value in site.environment().items():
        monkeypatch.setenv(name, value)
    done = run(app, ["serve", "--host", "127.0.0.1", "--port", "18099"])
    assert done.exit_code == 0, done.output
    assert (served[0]["host"], served[0]["port"]) == ("127.0.0.1", 18099)


def test_serve_names_every_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRINKBYTE_CUSTOMER_ID", "a b")
    monkeypatch.setenv("BRINKBYTE_RETENTION_DAYS", "0")
    failed = run(app, ["serve"])
    assert isinstance(failed.exception, SettingsError)
    assert "BRINKBYTE_CUSTOMER_ID" in failed.exception.message
    assert "BRINKBYTE_RETENTION_DAYS" in failed.exception.message
