"""kopf, imported without the client libraries that it only asks after.

Where pykube and kubernetes are installed, kopf imports them to know their objects should a handler
hand it one. None of ours does, and with what they bring they are 12 MB of the operator's memory.
The module ``kubernetes`` itself can be imported afterwards.
"""

from __future__ import annotations

from brinkbyte.controller.lean import not_installed

with not_installed("kubernetes.client", "pykube.objects"):
    import kopf

__all__ = ["kopf"]
