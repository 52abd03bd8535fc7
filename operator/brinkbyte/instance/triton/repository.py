"""Writes the Triton model repository: one python-backend model per catalog model."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

from brinkbyte.catalog import Catalog
from brinkbyte.kit.errors import PermanentError

_VERSION: Final = "1"
_CONFIG: Final = """\
name: "{name}"
backend: "python"
max_batch_size: 0
input [ {{ name: "IMAGE" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }} ]
output [
  {{ name: "BOXES" data_type: TYPE_FP32 dims: [ -1, 4 ] }},
  {{ name: "SCORES" data_type: TYPE_FP32 dims: [ -1 ] }},
  {{ name: "LABELS" data_type: TYPE_STRING dims: [ -1 ] }}
]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
parameters {{ key: "model" value {{ string_value: "{name}" }} }}
parameters {{ key: "hue" value {{ string_value: "{hue:.2f}" }} }}
parameters {{ key: "tolerance" value {{ string_value: "{tolerance:.2f}" }} }}
parameters {{ key: "classes" value {{ string_value: "{classes}" }} }}
"""


class ModelRepositoryError(PermanentError):
    """The model repository cannot be written."""


def model_hues(catalog: Catalog) -> dict[str, float]:
    """Return each model's hue in degrees: evenly spread over the catalog's models."""
    step = 360.0 / len(catalog.models)
    return {name: index * step for index, name in enumerate(sorted(catalog.models))}


def write_models(directory: Path, catalog: Catalog) -> list[str]:
    """Write every catalog model as ``<name>/config.pbtxt`` and ``<name>/1/model.py``.

    Running it again rewrites the same files; files of others are left alone.

    Args:
        directory: Triton's ``--model-repository``; made when missing.
        catalog: the price list that names the models.

    Returns:
        The names written, sorted.

    Raises:
        ModelRepositoryError: the directory cannot be written.
    """
    source = resources.files("brinkbyte.instance.triton").joinpath("data/detector.py.txt")
    program = source.read_text(encoding="utf-8")
    tolerance = 0.45 * 360.0 / len(catalog.models)
    hues = model_hues(catalog)
    try:
        for name, spec in sorted(catalog.models.items()):
            version = directory / name / _VERSION
            version.mkdir(parents=True, exist_ok=True)
            config = _CONFIG.format(
                name=name, hue=hues[name], tolerance=tolerance, classes=",".join(spec.classes)
            )
            _write(version / "model.py", program)
            # The configuration last: a model without one does not exist for Triton.
            _write(directory / name / "config.pbtxt", config)
    except OSError as error:
        raise ModelRepositoryError(
            f"cannot write the model repository {directory}: {error}; name a writable directory",
            reason="ModelRepositoryNotWritable",
        ) from None
    return sorted(catalog.models)


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, so that a kill leaves the old or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
