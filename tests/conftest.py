"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# Machines of continuous integration are slow at times; that is no failure of the code.
settings.register_profile("brinkbyte", deadline=None)
settings.load_profile("brinkbyte")
