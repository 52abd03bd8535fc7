"""Cameras: what may be configured, and keeping it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from brinkbyte.catalog import Catalog
from brinkbyte.instance.licensing.service import LicenseService
from brinkbyte.instance.schemas import (
    CameraBody,
    CameraPage,
    CameraView,
    ComponentItem,
    LicenseView,
    LineZoneItem,
    Pipeline,
    PolygonZoneItem,
)
from brinkbyte.instance.services.refusals import camera_refused, check_granted
from brinkbyte.kit.pools import Pool
from brinkbyte.kit.problem import ProblemError
from brinkbyte.store import cameras as store
from brinkbyte.store.cameras import Camera, Component, LineZone, PolygonZone
from brinkbyte.store.policy import CameraDecision

MAX_PARTS = 64
Member = Literal["components", "line_zones", "polygon_zones"]


class CameraService:
    """Rules of the camera endpoints.

    Args:
        pool: the instance's database.
        license_service: what each camera may do.
        catalog: which names exist.
    """

    def __init__(self, pool: Pool, license_service: LicenseService, catalog: Catalog) -> None:
        self._pool = pool
        self._license = license_service
        self._catalog = catalog

    @property
    def _tenant(self) -> str:
        return self._license.customer_id

    async def page(self, after: str, limit: int) -> CameraPage:
        """Return cameras ordered by id."""
        async with self._pool.connection() as connection:
            found = await store.list_cameras(connection, self._tenant, after=after, limit=limit + 1)
        policy = self._license.policy()
        views = tuple(
            camera_view(camera, policy.camera(camera.camera_id, camera.hardware_id))
            for camera in found[:limit]
        )
        return CameraPage(cameras=views, next=views[-1].camera_id if len(found) > limit else None)

    async def get(self, camera_id: str) -> CameraView:
        """Return a camera; ProblemError 404 when it is not configured."""
        async with self._pool.connection() as connection:
            camera = await store.get_camera(connection, self._tenant, camera_id)
        if camera is None:
            raise unknown_camera(camera_id)
        return self._view(camera)

    async def create(self, camera_id: str, body: CameraBody) -> CameraView:
        """Configure a new camera.

        Raises:
            ProblemError: 402 or 403 when its license lacks something, 409 when it exists.
        """
        camera = _camera(camera_id, body)
        await self._license.look_up(camera_id)
        self._check(camera)
        async with self._pool.connection() as connection:
            if not await store.insert_camera(connection, self._tenant, camera):
                raise ProblemError(
                    409,
                    f"camera {camera_id} is configured already; change it with PUT",
                    reason="CameraExists",
                )
        return await self.get(camera_id)

    async def replace(self, camera_id: str, body: CameraBody) -> CameraView:
        """Replace a camera's whole configuration; raises like :meth:`create`, 404 without one."""
        camera = _camera(camera_id, body)
        await self._license.look_up(camera_id)
        self._check(camera)
        async with self._pool.connection() as connection:
            if not await store.lock_camera(connection, self._tenant, camera_id):
                raise unknown_camera(camera_id)
            await store.replace_camera(connection, self._tenant, camera)
        return await self.get(camera_id)

    async def delete(self, camera_id: str) -> None:
        """Remove a camera's configuration; what it saw stays."""
        async with self._pool.connection() as connection:
            if not await store.delete_camera(connection, self._tenant, camera_id):
                raise unknown_camera(camera_id)

    async def put_part(
        self, camera_id: str, part: ComponentItem | LineZoneItem | PolygonZoneItem
    ) -> CameraView:
        """Add a component or zone to a camera, or replace the one of its name."""
        member, item = _part(part)

        def change(camera: Camera) -> Camera:
            others = tuple(held for held in getattr(camera, member) if held.name != item.name)
            if len(others) >= MAX_PARTS:
                raise ProblemError(
                    409,
                    f"camera {camera_id} has {MAX_PARTS} of these already; delete one first",
                    reason="TooMany",
                )
            return _with_parts(camera, member, (*others, item))

        return await self._change(camera_id, change)

    async def delete_part(self, camera_id: str, member: Member, name: str) -> CameraView:
        """Remove a component or zone from a camera.

        Args:
            camera_id: the camera.
            member: ``components``, ``line_zones`` or ``polygon_zones``.
            name: of the part.
        """

        def change(camera: Camera) -> Camera:
            held = getattr(camera, member)
            left = tuple(item for item in held if item.name != name)
            if len(left) == len(held):
                raise ProblemError(
                    404, f"camera {camera_id} has no {name!r} there", reason="NotFound"
                )
            return _with_parts(camera, member, left)

        return await self._change(camera_id, change)

    async def _change(self, camera_id: str, change: Callable[[Camera], Camera]) -> CameraView:
        await self._license.look_up(camera_id)
        async with self._pool.connection() as connection:
            found = await store.lock_camera(connection, self._tenant, camera_id)
            camera = await store.get_camera(connection, self._tenant, camera_id) if found else None
            if camera is None:
                raise unknown_camera(camera_id)
            changed = change(camera)
            self._check(changed)
            await store.replace_camera(connection, self._tenant, changed)
        return await self.get(camera_id)

    def _check(self, camera: Camera) -> None:
        """Refuse what the camera's license lacks."""
        models, analytics, outputs = named_by(camera)
        decision = self._license.policy().camera(camera.camera_id, camera.hardware_id)
        if not decision.allowed:
            raise camera_refused(decision)
        waived = check_granted(
            self._catalog, decision, models=models, analytics=analytics, outputs=outputs
        )
        self._license.waive(decision, waived)

    def _view(self, camera: Camera) -> CameraView:
        decision = self._license.policy().camera(camera.camera_id, camera.hardware_id)
        return camera_view(camera, decision)


def named_by(camera: Camera) -> tuple[list[str], list[str], list[str]]:
    """Return the models, analytics and outputs that a camera's configuration names."""
    pipeline = Pipeline.model_validate(camera.pipeline)
    models, analytics = list(pipeline.models), list(pipeline.analytics)
    outputs = list(pipeline.outputs)
    for part in camera.components:
        if part.kind == "sink":
            outputs.append(part.type)
        elif part.kind == "processor" and part.type == "inference":
            models.append(str(part.settings["model"]))
        elif part.kind == "processor":
            analytics.append(part.type)
    return models, analytics, outputs


def camera_view(camera: Camera, decision: CameraDecision) -> CameraView:
    """Return a camera as the API shows it."""
    return CameraView(
        camera_id=camera.camera_id,
        name=camera.name,
        hardware_id=decision.hardware_id or camera.hardware_id,
        enabled=camera.enabled,
        pipeline=Pipeline.model_validate(camera.pipeline),
        components=tuple(
            ComponentItem(
                name=part.name, kind=part.kind, type=part.type, settings=dict(part.settings)
            )
            for part in camera.components
        ),
        line_zones=tuple(
            LineZoneItem(name=zone.name, start=zone.start, end=zone.end, direction=zone.direction)
            for zone in camera.line_zones
        ),
        polygon_zones=tuple(
            PolygonZoneItem(name=zone.name, points=zone.points) for zone in camera.polygon_zones
        ),
        license=LicenseView(
            licensed=decision.allowed,
            mode=decision.mode,
            reason=decision.reason,
            message=decision.message,
        ),
        created_at=camera.created_at,
        updated_at=camera.updated_at,
    )


def unknown_camera(camera_id: str) -> ProblemError:
    """Return the 404 of a camera that is not configured."""
    return ProblemError(
        404,
        f"camera {camera_id} is not configured; POST it to /api/v1/cameras first",
        reason="CameraNotConfigured",
    )


def _camera(camera_id: str, body: CameraBody) -> Camera:
    return Camera(
        camera_id=camera_id,
        name=body.name,
        hardware_id=body.hardware_id,
        enabled=body.enabled,
        pipeline=body.pipeline.model_dump(mode="json"),
        components=tuple(_component(item) for item in body.components),
        line_zones=tuple(_line(item) for item in body.line_zones),
        polygon_zones=tuple(PolygonZone(item.name, item.points) for item in body.polygon_zones),
    )


def _component(item: ComponentItem) -> Component:
    return Component(item.name, item.kind, item.type, item.settings)


def _line(item: LineZoneItem) -> LineZone:
    return LineZone(item.name, item.start, item.end, item.direction)


def _part(
    part: ComponentItem | LineZoneItem | PolygonZoneItem,
) -> tuple[Member, Component | LineZone | PolygonZone]:
    if isinstance(part, ComponentItem):
        return "components", _component(part)
    if isinstance(part, LineZoneItem):
        return "line_zones", _line(part)
    return "polygon_zones", PolygonZone(part.name, part.points)


def _with_parts(camera: Camera, member: Member, parts: tuple[Any, ...]) -> Camera:
    if member == "components":
        return replace(camera, components=parts)
    if member == "line_zones":
        return replace(camera, line_zones=parts)
    return replace(camera, polygon_zones=parts)
