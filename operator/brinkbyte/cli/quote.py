"""``brinkbyte quote``: what a folder of manifests will cost a month."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from brinkbyte.catalog import Catalog, CatalogError, Quote, Terms, load_catalog, quote
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.license.claims import CameraMode
from brinkbyte.resources.camera_license import CameraLicense
from brinkbyte.resources.edge_device import EdgeDevice

_GROUP: Final = "vision.brinkbyte.io/"
_KINDS: Final[dict[str, type[EdgeDevice | CameraLicense]]] = {
    "EdgeDevice": EdgeDevice,
    "CameraLicense": CameraLicense,
}
_SUFFIXES: Final = (".yaml", ".yml", ".json")

Owner = tuple[str, str]
"""Namespace and name of the Tenant."""


def manifests(paths: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each of our objects in files and folders, with its file; lists are opened.

    Raises:
        InvalidInputError: a file cannot be read, or is no YAML.
    """
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file == path or (file.is_file() and file.suffix in _SUFFIXES):
                yield from ((file, document) for document in _objects(_documents(file)))


def _documents(file: Path) -> list[Any]:
    try:
        return list(yaml.safe_load_all(file.read_text("utf-8")))
    except (OSError, UnicodeError) as error:
        msg = f"{file} cannot be read: {error}; name a folder or files of manifests"
        raise InvalidInputError(msg, reason="NotReadable") from None
    except yaml.YAMLError as error:
        msg = f"{file} is no YAML: {error}; render templates first, or leave the file out"
        raise InvalidInputError(msg, reason="NotReadable") from None


def _objects(documents: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for document in documents:
        if not isinstance(document, dict):
            continue
        if document.get("kind") == "List" and isinstance(document.get("items"), list):
            yield from _objects(document["items"])
        elif str(document.get("apiVersion", "")).startswith(_GROUP):
            yield document


def quantities(catalog: Catalog, paths: Iterable[Path]) -> dict[Owner, dict[str, int]]:
    """Return what must be bought for the manifests, by Tenant: quantities by SKU.

    An object that is in several files counts once.

    Raises:
        InvalidInputError: a manifest cannot be read or does not fit its kind; CatalogError: it
            names a pack that is not sold.
    """
    found: dict[Owner, Counter[str]] = {}
    seen: set[tuple[str, str, str]] = set()
    for file, document in manifests(paths):
        kind = _KINDS.get(str(document.get("kind")))
        if kind is None:
            continue
        try:
            resource = kind.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            msg = f"{file}: {document['kind']}: {where}: {first['msg']}; correct the manifest"
            raise InvalidInputError(msg, reason="InvalidManifest") from None
        metadata = document.get("metadata") or {}
        namespace = str(metadata.get("namespace", "default"))
        identity = (str(document["kind"]), namespace, str(metadata.get("name")))
        if identity not in seen:
            seen.add(identity)
            owner = (namespace, resource.spec.tenant_ref.name)
            found.setdefault(owner, Counter()).update(_skus(catalog, resource))
    return {owner: _whole_tenant(catalog, counted) for owner, counted in sorted(found.items())}


def _skus(catalog: Catalog, resource: EdgeDevice | CameraLicense) -> Iterator[str]:
    if isinstance(resource, EdgeDevice):
        tier = resource.spec.management_tier.value
        yield from (s for s, spec in catalog.skus.items() if spec.tier == tier)
        return
    role = "trial_seat" if resource.spec.mode is CameraMode.TRIAL else "base_seat"
    yield from (sku for sku, spec in catalog.skus.items() if spec.role == role)
    yield from (catalog.pack(name).sku for name in resource.spec.growth_packs)


def _whole_tenant(catalog: Catalog, counted: Mapping[str, int]) -> dict[str, int]:
    """Return quantities in which packs of the whole tenant count once, however many name them."""
    once = {ref.sku for ref in catalog.pack_refs() if ref.per == "tenant"}
    return {sku: 1 if sku in once else count for sku, count in counted.items()}


def run(
    paths: Annotated[list[Path], typer.Argument(help="Folders or files of manifests.")],
    plan: Annotated[
        list[str] | None, typer.Option(help="A plan beside them: family=plan, may be repeated.")
    ] = None,
    output: Annotated[str, typer.Option(help="text or json")] = "text",
) -> None:
    """Say what the EdgeDevices and CameraLicenses of manifests cost a month, before tax."""
    catalog = load_catalog()
    plans: dict[str, str] = {}
    for word in plan or ():
        family, separator, name = word.partition("=")
        if not separator:
            raise typer.BadParameter(f"{word!r}: write family=plan, such as platform=standard")
        plans[family] = name
    wanted = quantities(catalog, paths)
    if not wanted:
        msg = "there is no EdgeDevice and no CameraLicense in what was named; name their folder"
        raise InvalidInputError(msg, reason="NothingFound")
    if plans and len(wanted) > 1:
        raise typer.BadParameter("--plan needs manifests of one Tenant; name its folder alone")
    quotes: list[tuple[Owner, Quote]] = []
    for owner, skus in wanted.items():
        try:
            quotes.append((owner, quote(catalog, Terms(plans=plans, quantities=skus))))
        except CatalogError as error:
            raise CatalogError(f"{'/'.join(owner)}: {what}" for what in error.problems) from None
    if output == "json":
        typer.echo(
            json.dumps(
                [
                    {"namespace": namespace, "tenant": tenant, **found.model_dump(mode="json")}
                    for (namespace, tenant), found in quotes
                ],
                indent=1,
            )
        )
        return
    for (namespace, tenant), found in quotes:
        _show(f"{namespace}/{tenant}", found)


def _show(owner: str, found: Quote) -> None:
    every = {"month": "a month", "year": "a year", "once": "once"}
    table = Table("item", "quantity", "price", "amount", "", title=owner, title_justify="left")
    for line in found.lines:
        table.add_row(
            line.description,
            f"{line.quantity:,}",
            f"{line.unit_price}",
            f"{line.amount}",
            every[line.every],
        )
    for item in found.contact_sales:
        table.add_row(
            item.description, f"{item.quantity:,}", "contact sales", "", every[item.every]
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{found.monthly_total} {found.currency} a month, before tax and use")
    if found.yearly_total:
        console.print(f"{found.yearly_total} {found.currency} a year")
    if found.one_time_total:
        console.print(f"{found.one_time_total} {found.currency} once")
    if found.contact_sales:
        console.print("Items without a price are not in the sums: contact sales.")
