"""Scenes from STAC catalogues: search now, read and put together when a chunk is computed.

Opening searches and makes a plan of plain values: which assets, on which solar day, with which offset. A chunk is
one task: it reads the assets that reach it, a few at a time, and makes one image of them. So the graph stays as
small as the result, the memory of a median is that of one chunk and one band over its dates, and addresses are
signed where they are read, not where the graph is built.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import xarray as xr

from xr_rsembed.config import get_option
from xr_rsembed.errors import CatalogError, check_names, one_of, warn, whole_number
from xr_rsembed.providers.base import SceneRequest
from xr_rsembed.providers.catalogs import (
    Catalog,
    Collection,
    asset_keys,
    find_catalog,
    mask_key,
    public_url,
)
from xr_rsembed.providers.encoding import Encoding, encoding_of
from xr_rsembed.providers.lazy import by_solar_day, scene_of_days
from xr_rsembed.providers.plan import Acquisition, ReadPlan
from xr_rsembed.providers.readers import READERS, Asset, Source
from xr_rsembed.providers.reprocessing import acquired
from xr_rsembed.providers.search import find_items, footprint


@dataclass(frozen=True)
class StacOptions:
    """What only this provider understands, as keyword arguments of ``fetch("stac", ...)``.

    Parameters
    ----------
    catalog : str, path or Catalog
        ``"earth-search"``, ``"planetary-computer"``, ``"cdse"``, the address of a STAC API or of a static
        catalogue, the path of a catalog.json, a file of items or a stac-geoparquet table.
    reader : {"odc", "stackstac"}
        Both give the same pixels; odc-stac's is the faster one.
    resampling : str
        rasterio's name of it, such as ``"nearest"`` or ``"bilinear"``. Masks are always read with ``nearest``.
    scale : float, optional
        Reflectance (Sentinel-1: linear power) of one stored unit, where items do not say or say it wrong.
    offset : float or mapping of str to float, optional
        What to add to DN, where items do not say or say it wrong (see :func:`.encoding.boa_offset`); for all items, or
        by item id.
    skip_items : sequence of str
        Ids of items to leave out.
    data_root : path, optional
        For a catalogue on disk: the folder that its assets lie in, if not its own.
    workers : int, optional
        Assets read at a time, per process; by default option ``terramind.fetch_workers``.
    gdal : mapping of str to str
        GDAL's settings over ours, such as ``{"GDAL_HTTP_TIMEOUT": "5"}``. They travel in the dask graph: no secrets.

    Raises
    ------
    OptionError
        For a value that cannot be used.

    Examples
    --------
    >>> StacOptions(reader="odc", gdal={"GDAL_HTTP_TIMEOUT": 5}).gdal
    {'GDAL_HTTP_TIMEOUT': '5'}
    """

    catalog: Any = "earth-search"
    reader: str = "odc"
    resampling: str = "nearest"
    scale: float | None = None
    offset: float | Mapping[str, float] | None = None
    skip_items: Sequence[str] = ()
    data_root: str | os.PathLike[str] | None = None
    workers: int | None = None
    gdal: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from rasterio.enums import Resampling

        one_of("reader", self.reader, READERS, "There is no such reader.")
        one_of("resampling", self.resampling, Resampling.__members__, "There is no such resampling.")
        if self.workers is not None:
            whole_number("workers", self.workers, at_least=1)
        if isinstance(self.skip_items, str):  # else "in" would look for parts of it
            object.__setattr__(self, "skip_items", (self.skip_items,))
        object.__setattr__(self, "gdal", {name: str(value) for name, value in self.gdal.items()})


class Stac:
    """The provider ``"stac"``; its options are those of :class:`StacOptions`."""

    def open(self, request: SceneRequest) -> xr.DataArray:
        """Describe the scene lazily: searches, reads no pixel."""
        check_names(request.options, [option.name for option in fields(StacOptions)], 'Provider "stac"')
        options = StacOptions(**request.options)
        catalog = find_catalog(options.catalog)
        collection = catalog.collection(request.modality, request.sensor.collection)
        items, rules = find_items(request, catalog, collection, options.skip_items)
        acquisitions, incomplete = _acquisitions(items, request, catalog, collection, options)
        days = by_solar_day(acquisitions, request.grid)
        plan = ReadPlan(
            tuple(days),
            # The catalogue's own address may hold a key, and reading pixels asks nothing of it.
            Source(replace(catalog, href=catalog.name), options.reader, options.resampling, options.gdal),
            request.composite,
            request.dtype,
            float(request.nodata),
            options.workers or get_option("terramind.fetch_workers"),
        )
        attrs = {
            "provider": "stac",
            "catalog": public_url(catalog.name) if "://" in catalog.name else catalog.name,
            "collection": collection.id or str(items[0].get("collection") or ""),
            "reader": options.reader,
            "resampling": options.resampling,
            **({"items_incomplete": incomplete} if incomplete else {}),
            **rules,
        }
        return scene_of_days(request, plan.read, days, attrs)


def _acquisitions(
    items: Iterable[Mapping[str, Any]],
    request: SceneRequest,
    catalog: Catalog,
    collection: Collection,
    options: StacOptions,
) -> tuple[list[Acquisition], list[str]]:
    """What to read of each item, and the ids of items that lack an asset and are left out."""
    acquisitions: list[Acquisition] = []
    lacking: dict[str, str] = {}
    for item in items:
        keys = asset_keys(collection, request.bands, item["assets"])
        mask = mask_key(collection, item["assets"]) if request.mask_clouds else None
        missing = [band for band in request.bands if band not in keys]
        if request.mask_clouds and mask is None:
            missing.append("the scene classification (SCL)")
        if missing:
            lacking[item["id"]] = ", ".join(missing)
            found = ", ".join(item["assets"])
        else:
            acquisitions.append(
                _acquisition(item, [keys[band] for band in request.bands], mask, request, catalog, options)
            )
    if not acquisitions:
        raise CatalogError(
            f"No item of catalogue {catalog.name!r} has an asset for {next(iter(lacking.values()))}.",
            found=found,
            expected=", ".join(collection.assets.values()) or ", ".join(request.bands),
            remedy="bands= those that are there, or add_catalog(Catalog(...)) with these assets' names",
        )
    if lacking:
        first = "; ".join(f"{item} lacks {missing}" for item, missing in list(lacking.items())[:3])
        warn(f"{len(lacking)} items lack an asset and are left out: {first}.")
    return acquisitions, list(lacking)


def _acquisition(
    item: Mapping[str, Any],
    keys: Sequence[str],
    mask: str | None,
    request: SceneRequest,
    catalog: Catalog,
    options: StacOptions,
) -> Acquisition:
    def asset(key: str, encoding: Encoding | None) -> Asset:
        return Asset(item["id"], key, _checked_href(item, key, catalog, options.data_root), encoding)

    optical = request.modality.startswith("S2")
    encodings = (
        encoding_of(item, item["assets"][key], optical, options.scale, options.offset) for key in keys
    )
    return Acquisition(
        item["id"],
        acquired(item),
        tuple(map(asset, keys, encodings)),
        asset(mask, None) if mask else None,
        footprint(item, request.grid),
    )


def _checked_href(item: Mapping[str, Any], key: str, catalog: Catalog, data_root: Any) -> str:
    """The asset's address; a path must lie in the catalogue's folder, and only a catalogue on disk has paths."""
    href = str(item["assets"][key].get("href", ""))
    if href.startswith(("https://", "http://", "s3://", "gs://")):
        return href
    path, folder = href.removeprefix("file://"), catalog.local_folder
    problem, remedy = "cannot be opened", f"skip_items=[{item['id']!r}]"
    if path and "://" not in path and folder is not None:
        root = Path(data_root).resolve() if data_root is not None else folder
        resolved = (folder / path).resolve()
        if resolved.is_relative_to(root):
            return str(resolved)
        problem, remedy = (
            f"points out of {root}",
            "data_root= the folder that holds the data, if you trust it",
        )
    raise CatalogError(
        f"The address of asset {key!r} of item {item['id']} {problem}.",
        found=public_url(href) or "no address",
        expected="http(s), s3 or gs; in a catalogue on disk a path below its folder",
        remedy=remedy,
    )
