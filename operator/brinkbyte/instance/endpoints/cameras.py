"""Cameras with their components, line zones and polygon zones."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from brinkbyte.instance.http import SERVICE, InstanceDep
from brinkbyte.instance.schemas import (
    CameraBody,
    CameraPage,
    CameraView,
    ComponentBody,
    ComponentItem,
    LineZoneBody,
    LineZoneItem,
    NewCamera,
    PolygonZoneBody,
    PolygonZoneItem,
    Word,
)
from brinkbyte.license.claims import Identifier

router = APIRouter(prefix="/api/v1/cameras", tags=["cameras"], dependencies=[SERVICE])
CameraId = Annotated[Identifier, Path()]
PartName = Annotated[Word, Path()]


@router.get("")
async def list_cameras(
    instance: InstanceDep,
    after: Annotated[str, Query(max_length=128, pattern=r"^[^\x00]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> CameraPage:
    """Return cameras ordered by id, page by page."""
    return await instance.cameras.page(after, limit)


@router.post("", status_code=201)
async def create_camera(body: NewCamera, instance: InstanceDep) -> CameraView:
    """Configure a camera; 402 or 403 where its license lacks a model, analytic or output."""
    return await instance.cameras.create(body.camera_id, body)


@router.get("/{camera_id}")
async def get_camera(camera_id: CameraId, instance: InstanceDep) -> CameraView:
    """Return a camera."""
    return await instance.cameras.get(camera_id)


@router.put("/{camera_id}")
async def replace_camera(
    camera_id: CameraId, body: CameraBody, instance: InstanceDep
) -> CameraView:
    """Replace a camera's whole configuration."""
    return await instance.cameras.replace(camera_id, body)


@router.delete("/{camera_id}", status_code=204)
async def delete_camera(camera_id: CameraId, instance: InstanceDep) -> None:
    """Remove a camera's configuration; what it saw stays."""
    await instance.cameras.delete(camera_id)


@router.get("/{camera_id}/components")
async def list_components(camera_id: CameraId, instance: InstanceDep) -> tuple[ComponentItem, ...]:
    """Return a camera's components."""
    return (await instance.cameras.get(camera_id)).components


@router.put("/{camera_id}/components/{name}")
async def put_component(
    camera_id: CameraId, name: PartName, body: ComponentBody, instance: InstanceDep
) -> CameraView:
    """Add a component, or replace the one of this name."""
    item = ComponentItem(name=name, **body.model_dump(by_alias=False))
    return await instance.cameras.put_part(camera_id, item)


@router.delete("/{camera_id}/components/{name}", status_code=204)
async def delete_component(camera_id: CameraId, name: PartName, instance: InstanceDep) -> None:
    """Remove a component."""
    await instance.cameras.delete_part(camera_id, "components", name)


@router.get("/{camera_id}/line-zones")
async def list_line_zones(camera_id: CameraId, instance: InstanceDep) -> tuple[LineZoneItem, ...]:
    """Return a camera's line zones."""
    return (await instance.cameras.get(camera_id)).line_zones


@router.put("/{camera_id}/line-zones/{name}")
async def put_line_zone(
    camera_id: CameraId, name: PartName, body: LineZoneBody, instance: InstanceDep
) -> CameraView:
    """Add a line zone, or replace the one of this name."""
    item = LineZoneItem(name=name, **body.model_dump(by_alias=False))
    return await instance.cameras.put_part(camera_id, item)


@router.delete("/{camera_id}/line-zones/{name}", status_code=204)
async def delete_line_zone(camera_id: CameraId, name: PartName, instance: InstanceDep) -> None:
    """Remove a line zone."""
    await instance.cameras.delete_part(camera_id, "line_zones", name)


@router.get("/{camera_id}/polygon-zones")
async def list_polygon_zones(
    camera_id: CameraId, instance: InstanceDep
) -> tuple[PolygonZoneItem, ...]:
    """Return a camera's polygon zones."""
    return (await instance.cameras.get(camera_id)).polygon_zones


@router.put("/{camera_id}/polygon-zones/{name}")
async def put_polygon_zone(
    camera_id: CameraId, name: PartName, body: PolygonZoneBody, instance: InstanceDep
) -> CameraView:
    """Add a polygon zone, or replace the one of this name."""
    item = PolygonZoneItem(name=name, **body.model_dump(by_alias=False))
    return await instance.cameras.put_part(camera_id, item)


@router.delete("/{camera_id}/polygon-zones/{name}", status_code=204)
async def delete_polygon_zone(camera_id: CameraId, name: PartName, instance: InstanceDep) -> None:
    """Remove a polygon zone."""
    await instance.cameras.delete_part(camera_id, "polygon_zones", name)
