"""What every billing command shares: options, one-sentence errors, output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import psycopg
import typer
from pydantic import ValidationError
from rich.console import Console

from brinkbyte.kit.errors import BrinkByteError

OUT = Console(width=None if sys.stdout.isatty() else 160)
_ERR = Console(stderr=True)


class Output(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text or json")]
CustomerOption = Annotated[str, typer.Option("--customer", help="customer id")]


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """End with status 1 and one clear sentence."""
    try:
        yield
    except BrinkByteError as error:
        fail(f"{error.reason}: {error.message}")
    except ValidationError as error:
        fail("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
    except psycopg.OperationalError as error:
        fail(f"DatabaseUnavailable: {str(error).strip()}")
    except psycopg.Error as error:
        fail(f"the database refused: {str(error).strip()}")
    except OSError as error:
        fail(f"{error.filename or 'file'}: {error.strerror}")


def fail(message: str) -> NoReturn:
    """End with status 1 and a sentence on stderr."""
    _ERR.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def print_json(value: Any) -> None:
    """Print plain data as JSON."""
    typer.echo(json.dumps(value, indent=1, default=str))
