"""Triton's HTTP v2 API (the KServe protocol with its model-repository extension)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httpx

from brinkbyte.kit.errors import PermanentError, TemporaryError
from brinkbyte.resources.names import TRITON_CONTROL_HEADER

# A pod that is gone must not hold up the others, a model may take its time to load.
INFER_TIMEOUT: Final = httpx.Timeout(5.0, connect=1.0)
LOOK_TIMEOUT: Final = httpx.Timeout(4.0, connect=2.0)
CHANGE_TIMEOUT: Final = httpx.Timeout(60.0, connect=2.0)
_READY: Final = "READY"
_OUTPUTS: Final = ("BOXES", "SCORES", "LABELS")


class TritonUnavailableError(TemporaryError):
    """Triton did not answer, or not as it should; it is asked again."""


class ModelLoadError(TemporaryError):
    """Triton could not load or unload a model; it is tried again."""


class FrameRefusedError(PermanentError):
    """Triton refused the frame itself."""


@dataclass(frozen=True)
class Detection:
    """One thing found. ``box`` is left, top, right, bottom in pixels; ``score`` 0 to 1."""

    box: tuple[float, float, float, float]
    score: float
    label: str


class TritonClient:
    """Calls Triton servers by their address.

    Args:
        http: where requests go through.
        control_key: returns the control key as it is now; None: it is not there yet.
    """

    def __init__(self, http: httpx.AsyncClient, control_key: Callable[[], str | None]) -> None:
        self._http = http
        self._control_key = control_key

    async def models(self, base: str) -> dict[str, bool]:
        """Return every model of the repository, and whether it is loaded and ready.

        Raises:
            TritonUnavailableError: no answer, or the control key is refused.
        """
        response = await self._control(base, "index", LOOK_TIMEOUT)
        try:
            listed: dict[str, bool] = {}
            for entry in response.json():
                name = str(entry["name"])
                listed[name] = listed.get(name, False) or entry.get("state") == _READY
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _unexpected(base) from None
        return listed

    async def load(self, base: str, model: str) -> None:
        """Load a model; loading a loaded one changes nothing.

        Raises:
            ModelLoadError: Triton could not.
            TritonUnavailableError: no answer, or the control key is refused.
        """
        await self._control(base, f"models/{model}/load", CHANGE_TIMEOUT)

    async def unload(self, base: str, model: str) -> None:
        """Unload a model; raises like :meth:`load`."""
        await self._control(base, f"models/{model}/unload", CHANGE_TIMEOUT)

    async def infer(
        self, base: str, model: str, *, width: int, height: int, pixels: bytes
    ) -> list[Detection]:
        """Send an RGB frame through a model.

        Args:
            base: the server's URL.
            model: name of a loaded model.
            width: pixels a row.
            height: rows.
            pixels: ``width * height * 3`` bytes, row by row.

        Raises:
            FrameRefusedError: the model refused the frame.
            TritonUnavailableError: no answer, or the model is not ready there.
        """
        header = json.dumps(
            {
                "inputs": [
                    {
                        "name": "IMAGE",
                        "datatype": "UINT8",
                        "shape": [height, width, 3],
                        "parameters": {"binary_data_size": len(pixels)},
                    }
                ],
                "outputs": [
                    {"name": name, "parameters": {"binary_data": False}} for name in _OUTPUTS
                ],
            }
        ).encode()
        try:
            response = await self._http.post(
                f"{base}/v2/models/{model}/infer",
                content=header + pixels,
                headers={
                    "content-type": "application/octet-stream",
                    "inference-header-content-length": str(len(header)),
                },
                timeout=INFER_TIMEOUT,
            )
        except httpx.HTTPError as error:
            raise _unreachable(base, error) from None
        if response.status_code == httpx.codes.OK:
            return _detections(base, response)
        message = _error_of(response)
        if "not ready" in message or "unknown model" in message:
            raise TritonUnavailableError(
                f"model {model} is not loaded on {base} yet; try again in a few seconds",
                reason="ModelNotReady",
            )
        if response.is_client_error:
            raise FrameRefusedError(
                f"model {model} refused the frame: {message}. Correct the frame",
                reason="FrameRefused",
            )
        raise TritonUnavailableError(
            f"{base} could not infer with {model}: {message}", reason="InferenceFailed"
        )

    async def _control(self, base: str, path: str, timeout: httpx.Timeout) -> httpx.Response:  # noqa: ASYNC109 - httpx's own
        headers = {}
        key = self._control_key()
        if key is not None:
            headers[TRITON_CONTROL_HEADER] = key
        try:
            response = await self._http.post(
                f"{base}/v2/repository/{path}",
                json={},
                headers=headers,
                timeout=timeout,
            )
        except httpx.HTTPError as error:
            raise _unreachable(base, error) from None
        if response.status_code == httpx.codes.OK:
            return response
        if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise TritonUnavailableError(
                f"{base} refuses our control key; restart Triton with the key of its Secret",
                reason="ControlKeyRefused",
            )
        raise ModelLoadError(f"{base}, {path}: {_error_of(response)}", reason="ModelLoadFailed")


def _detections(base: str, response: httpx.Response) -> list[Detection]:
    try:
        outputs = {item["name"]: item["data"] for item in response.json()["outputs"]}
        numbers = [float(value) for value in outputs["BOXES"]]
        boxes = [numbers[start : start + 4] for start in range(0, len(numbers), 4)]
        return [
            Detection((left, top, right, bottom), float(score), str(label))
            for (left, top, right, bottom), score, label in zip(
                boxes, outputs["SCORES"], outputs["LABELS"], strict=True
            )
        ]
    except (ValueError, KeyError, TypeError):
        raise _unexpected(base) from None


def _error_of(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])[:400]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"


def _unreachable(base: str, error: httpx.HTTPError) -> TritonUnavailableError:
    return TritonUnavailableError(
        f"Triton at {base} does not answer ({type(error).__name__}); look at its pod",
        reason="TritonUnreachable",
    )


def _unexpected(base: str) -> TritonUnavailableError:
    return TritonUnavailableError(
        f"{base} answered what is not Triton's; check that the name resolves to Triton's pods",
        reason="UnexpectedAnswer",
    )
