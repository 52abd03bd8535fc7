"""Settings from ``BRINKBYTE_…`` environment variables, validated at start.

A program's settings derive from :class:`Settings`; its command-line flags override the
environment. A wrong value ends the program with a message that names the variable.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from brinkbyte.kit.errors import PermanentError


class SettingsError(PermanentError):
    """A setting is missing or wrong."""


class Settings(BaseSettings):
    """Base of every program's settings."""

    model_config = SettingsConfigDict(env_prefix="BRINKBYTE_", extra="ignore", frozen=True)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment; keyword arguments that are not None win over it.

        Raises:
            SettingsError: names each wrong variable.
        """
        given = {key: value for key, value in overrides.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            prefix = cls.model_config.get("env_prefix", "")
            lines = [
                f"{prefix}{'_'.join(str(p) for p in e['loc']).upper()}: {e['msg']}"
                for e in error.errors()
            ]
            raise SettingsError("Correct these settings: " + "; ".join(lines)) from None
