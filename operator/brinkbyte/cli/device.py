"""``brinkbyte device``: on an edge device outside Kubernetes."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from brinkbyte.kit.errors import PermanentError

app = typer.Typer(no_args_is_help=True, help="On an edge device outside Kubernetes.")

SOURCES: Final[tuple[tuple[str, str], ...]] = (
    ("product-uuid", "sys/class/dmi/id/product_uuid"),
    ("device-tree-serial", "sys/firmware/devicetree/base/serial-number"),
    ("board-serial", "sys/class/dmi/id/board_serial"),
    ("machine-id", "etc/machine-id"),
)
"""Best first. The first three are the hardware's; the last lives as long as the installation."""
_DOMAIN: Final = "brinkbyte device identity 1"
_LEAST: Final = 6
# What boards say whose maker left the field as it was.
_PLACEHOLDER: Final = re.compile(
    r"""(.)\1*                                  # one character again and again
    | 0*123456789.*
    | 03000200-?0400-?0500-?0006-?000700080009  # the reference board's UUID
    | (to\ be\ filled|default|not\ |none|system\ serial|base\ ?board|o\.?e\.?m|unknown|n/a).*
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class DeviceIdentity:
    """Who a box is.

    Attributes:
        hardware_id: for ``spec.hardwareId`` of its EdgeDevice.
        source: what it was made from: one of ``SOURCES``.
    """

    hardware_id: str
    source: str


def device_identity(root: Path = Path("/")) -> DeviceIdentity:
    """Return a stable id made from the hardware: the same after each boot and new installation.

    It is a hash, which tells nobody the serial number it was made from.

    Args:
        root: of the file system.

    Raises:
        PermanentError: ``NotReadable``, where the best source there is needs more rights: with a
            lesser one the same box would have two ids; ``NoHardwareIdentity``, where there is none.
    """
    for source, place in SOURCES:
        path = root / place
        try:
            text = path.read_text("utf-8", errors="replace")
        except PermissionError:
            raise PermanentError(
                f"{path} may be read by root only, and a lesser source would give this box a "
                "second id; run the command with sudo",
                reason="NotReadable",
            ) from None
        except OSError:
            continue
        said = text.replace("\0", "").strip().lower()
        plain = re.sub(r"[\s-]", "", said)
        if len(plain) < _LEAST or _PLACEHOLDER.fullmatch(said) or _PLACEHOLDER.fullmatch(plain):
            continue
        digest = hashlib.sha256(f"{_DOMAIN}\n{source}\n{said}".encode()).hexdigest()
        return DeviceIdentity(f"hw-{digest[:32]}", source)
    raise PermanentError(
        "neither the hardware nor /etc/machine-id says who this box is; choose an id of your own "
        "for spec.hardwareId of its EdgeDevice, and keep it",
        reason="NoHardwareIdentity",
    )


@app.callback()
def device() -> None:
    """On an edge device outside Kubernetes."""


@app.command()
def identity(
    output: Annotated[str, typer.Option(help="text or json")] = "text",
) -> None:
    """Print this box's stable id, for spec.hardwareId of its EdgeDevice."""
    found = device_identity()
    if output == "json":
        typer.echo(json.dumps({"hardwareId": found.hardware_id, "source": found.source}))
        return
    typer.echo(found.hardware_id)
    if found.source == "machine-id":
        typer.echo(
            "made from /etc/machine-id, as the hardware has no number of its own: a new "
            "installation is a new device",
            err=True,
        )
