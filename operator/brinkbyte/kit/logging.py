"""Structured logs: one JSON object a line in a container, readable text on a terminal."""

from __future__ import annotations

import logging
import sys

import structlog

# A value under one of these keys never reaches a log line.
_SECRET_KEYS = frozenset(
    {"password", "token", "secret", "credential", "authorization", "private_key", "api_key"}
)


def configure_logging(*, level: str = "info", json_lines: bool | None = None) -> None:
    """Set up structlog and the standard library's loggers alike.

    Args:
        level: debug, info, warning or error.
        json_lines: JSON lines if true, text if false; by default JSON unless stderr is a terminal.
    """
    as_json = not sys.stderr.isatty() if json_lines is None else json_lines
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def redact(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Replace the value of every key that names a secret."""
    for key in event.keys() & _SECRET_KEYS:
        event[key] = "[redacted]"
    return event


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a room."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
