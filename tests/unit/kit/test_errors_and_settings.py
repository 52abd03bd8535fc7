"""Errors become problem+json; wrong settings name their variable; secrets stay out of logs."""

from __future__ import annotations

import json
import logging

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from brinkbyte.kit import logging as kit_logging
from brinkbyte.kit.errors import BrinkByteError, InvalidInputError, TemporaryError
from brinkbyte.kit.problem import MEDIA_TYPE, ProblemError, install_problem_handlers
from brinkbyte.kit.settings import Settings, SettingsError

pytestmark = pytest.mark.unit


class Body(BaseModel):
    count: int = Field(ge=1)


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = FastAPI()
    install_problem_handlers(app)
    raises: dict[str, Exception] = {
        "temporary": TemporaryError("try later", reason="Busy", retry_after=7, used=1),
        "permanent": InvalidInputError("wrong", reason="Wrong"),
        "problem": ProblemError(409, "gap", reason="Gap", missing=[1, 2]),
        "bug": RuntimeError("secret detail"),
    }

    @app.get("/{name}")
    def fail(name: str) -> None:
        raise raises[name]

    @app.post("/body")
    def body(value: Body) -> Body:
        return value

    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://test"
    )


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/temporary", 503, "Busy"),
        ("/permanent", 422, "Wrong"),
        ("/problem", 409, "Gap"),
        ("/bug", 500, "InternalError"),
        ("/a/b", 404, "NotFound"),
    ],
)
async def test_errors_are_problems(
    client: httpx.AsyncClient, path: str, status: int, reason: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["reason"] == reason
    assert "secret detail" not in answer.text


async def test_details_and_retry_after_travel(client: httpx.AsyncClient) -> None:
    answer = await client.get("/temporary")
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["used"] == 1
    assert (await client.get("/problem")).json()["missing"] == [1, 2]


async def test_invalid_input_names_the_field(client: httpx.AsyncClient) -> None:
    answer = await client.post("/body", json={"count": 0})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body.count"
    assert (await client.post("/body", content=b"{")).status_code == 422


class Port(Settings):
    port: int = Field(8080, ge=1, le=65535)


def test_settings_come_from_the_environment_and_flags_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRINKBYTE_PORT", "9000")
    assert Port.load().port == 9000
    assert Port.load(port=1).port == 1
    assert Port.load(port=None).port == 9000


def test_a_wrong_setting_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRINKBYTE_PORT", "lots")
    with pytest.raises(SettingsError, match="BRINKBYTE_PORT"):
        Port.load()


def test_secrets_never_reach_a_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        kit_logging.configure_logging(json_lines=True)
        kit_logging.get_logger("test").info("hello", password="hunter2", user="u")
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    finally:
        root.handlers[:], root.level = before
    assert lines[0]["password"] == "[redacted]"
    assert lines[0]["user"] == "u"
    assert lines[0]["level"] == "info"


def test_a_reason_defaults_to_the_class() -> None:
    assert InvalidInputError("x").reason == "InvalidInput"
    assert BrinkByteError("x", reason="Y", a=1).details == {"a": 1}
