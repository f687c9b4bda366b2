"""STAC items that describe stored embeddings, by the embedding extension; and opening what an item points to."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urljoin, urlsplit

import fsspec  # type: ignore[import-untyped]
import numpy as np
import pystac
import xarray as xr
from zarr.abc.store import Store

from xr_rsembed.errors import OptionError, StoreError, StoreNotFoundError
from xr_rsembed.georef import scene_geobox
from xr_rsembed.store.conventions import (
    model_url,
    pixel_size,
    plain,
    scrubbed,
    source_urls,
    without_credentials,
)
from xr_rsembed.store.export import open_file
from xr_rsembed.store.group import read_group
from xr_rsembed.store.target import StoreLike, Target, is_remote, resolved

_EXTENSIONS = [
    "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
]
_ASSET = "embeddings"
_MEDIA = {
    ".zarr": "application/vnd.zarr; version=3",
    ".nc": "application/x-netcdf",
    ".tif": pystac.MediaType.COG,
}
_REMOTE = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss")

Time: TypeAlias = str | datetime | tuple[str | datetime, str | datetime]


def to_stac_item(
    path: str | os.PathLike[str],
    *,
    id: str | None = None,
    time: Time | None = None,
    collection: str | None = None,
    properties: Mapping[str, Any] | None = None,
) -> pystac.Item:
    """A STAC item that describes a stored embedding, by the embedding extension.

    Parameters
    ----------
    path : path or URL
        Of a stored embedding: ``.zarr``, ``.nc`` or ``.tif``.
    id : str, optional
        By default the file's name without its suffix.
    time : str, datetime, or a pair of them, optional
        When the scene was taken, or from when to when (a pair, or ``"2022-06-01/2022-09-01"``); by default from the
        embedding's ``time`` coord or attrs.
    collection : str, optional
        Id of the collection that the item is meant for.
    properties : mapping, optional
        More properties, such as ``processing:datetime``.

    Returns
    -------
    pystac.Item
        Its place is beside the embedding, and its asset ``embeddings`` points there by a relative path, so both can
        be moved together. ``item.save_object(include_self_link=False)`` writes it.

    Raises
    ------
    StoreNotFoundError
        If there is no embedding at the path.
    StoreError
        If it has no grid with a CRS.
    OptionError
        If nothing says when the scene was taken.

    Examples
    --------
    >>> item = to_stac_item("emb.zarr", time="2022-06-01")  # doctest: +SKIP
    >>> item.save_object(include_self_link=False)  # doctest: +SKIP
    >>> emb = xr_rsembed.open("emb.json")  # doctest: +SKIP
    """
    stored = open_file(path)
    url = resolved(path)
    arrays = [stored] if isinstance(stored, xr.DataArray) else list(stored.data_vars.values())
    if not arrays:
        raise StoreError(
            f"{scrubbed(url)} has no embedding of its own to describe.",
            found=f"groups {', '.join(stored.children)}",
            expected="one embedding, or several in one group",
            remedy="an item for each, of stores of their own",
        )
    emb = arrays[0]
    folder, _, name = url.rpartition("/")
    stem, suffix = os.path.splitext(name)
    geometry, bbox, grid = _footprint(emb, url)
    start, end = _times(emb, time)
    span: dict[str, Any] = {"start_datetime": start, "end_datetime": end} if start != end else {}
    item = pystac.Item(
        id=id or stem,
        geometry=geometry,
        bbox=bbox,
        datetime=None if span else start,
        **span,
        properties=_properties(emb, url) | grid | dict(properties or {}),
        stac_extensions=list(_EXTENSIONS),
        collection=collection,
    )
    beside = f"{folder}/{stem}.json"
    item.set_self_href(without_credentials(beside) if "://" in beside else beside)
    media = _MEDIA.get(suffix.lower().replace(".tiff", ".tif"), _MEDIA[".zarr"])
    item.add_asset(_ASSET, pystac.Asset(f"./{name}", title="Embeddings", media_type=media, roles=["data"]))
    item.add_link(pystac.Link("emb:model", model_url(emb.attrs)))
    for source in source_urls(emb.attrs):
        item.add_link(pystac.Link("emb:source-data", source))
    return item


def open_embedding(
    source: pystac.Item | StoreLike,
    *,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Any:
    """Open a stored embedding, lazily.

    Parameters
    ----------
    source : path, URL, Zarr store or pystac.Item
        A ``.zarr`` store, a ``.nc`` or ``.tif`` file, or a STAC item (``.json``, or a URL of an API) whose asset
        ``embeddings`` is one of these.
    group : str, optional
        A group in a Zarr store.
    storage_options : mapping, optional
        Of fsspec, for a Zarr store.

    Returns
    -------
    DataArray, Dataset or DataTree
        A Dataset where a Zarr store holds several embeddings, a DataTree where it holds groups of them. int8 is
        decoded to the dtype that it was made from. Of a store whose writing is not finished, cells that are not
        written yet are NaN, and a warning says so.

    Raises
    ------
    StoreNotFoundError
        If there is nothing there.
    StoreError
        If it cannot be read, or if an item points to a file outside its own folder.
    OptionError
        If a suffix names no format.
    """
    if not isinstance(source, pystac.Item | Store):
        text = os.fspath(source)
        suffix = posixpath.splitext(urlsplit(text).path if "://" in text else text)[1].lower()
        if suffix in (".json", ".geojson") or (not suffix and text.startswith(("http://", "https://"))):
            source = _read_item(text)
    if isinstance(source, pystac.Item):  # no storage_options: the item's place is not that of its embedding
        return open_file(_asset_href(source), group=group)
    return open_file(source, group=group, storage_options=storage_options)


def _read_item(path: str) -> pystac.Item:
    url = resolved(path)
    place = without_credentials(url) if is_remote(url) else url
    try:
        # Not by pystac's own reader: below it urllib3 logs addresses with their signatures.
        with fsspec.open(url, "rb") as file:
            return pystac.Item.from_dict(json.load(file), href=url)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreNotFoundError(f"There is no STAC item at {place}.", expected="a STAC item") from None
    except (pystac.STACError, ValueError, KeyError, TypeError, OSError) as error:
        raise StoreError(
            f"{place} cannot be read as a STAC item.",
            found=f"{type(error).__name__}: {scrubbed(str(error))}",
            expected="a STAC item",
        ) from (None if is_remote(url) else error)


def _asset_href(item: pystac.Item) -> str:
    """Where an item's embedding is, once it is sure that the item may point there."""
    if _ASSET not in item.assets:
        raise StoreError(
            f"The STAC item {item.id!r} has no embeddings.",
            found=f"assets {', '.join(item.assets) or '(none)'}",
            expected=f"an asset {_ASSET!r}",
        )
    href, base = item.assets[_ASSET].href, item.get_self_href() or ""
    if urlsplit(href).scheme.lower() in _REMOTE:
        return href
    remote = urlsplit(base).scheme.lower() in _REMOTE
    found = _beside(base, href) if remote else _below(base, href)
    if found is None:
        raise StoreError(
            f"The STAC item {item.id!r} points to a file outside its own folder.",
            found=f"{scrubbed(href)} from {scrubbed(base) or 'an item without a place'}",
            expected="a URL, or a path in the folder of the item or below",
            remedy="open the file by its own path if you trust the item",
        )
    return found


def _beside(base: str, href: str) -> str | None:
    """A relative link of a remote item, if it stays below the item's folder."""
    url = urljoin(base, href)
    folder = posixpath.dirname(urlsplit(base).path)
    path = posixpath.normpath(unquote(urlsplit(url).path))
    same_host = urlsplit(url)[:2] == urlsplit(base)[:2]
    return url if same_host and path.startswith(folder.rstrip("/") + "/") else None


def _below(base: str, href: str) -> str | None:
    """The path of a local item's file, if it lies below the item's folder, links followed."""
    if not base or urlsplit(href).scheme not in ("", "file"):
        return None
    place, link = (
        unquote(text.removeprefix("file://")) if text.startswith("file://") else text for text in (base, href)
    )
    folder = Path(place).parent.resolve()
    path = (folder / link).resolve()
    return str(path) if path.is_relative_to(folder) else None


def _footprint(emb: xr.DataArray, url: str) -> tuple[dict[str, Any], list[float], dict[str, Any]]:
    """GeoJSON geometry, bbox, and the properties of the projection extension."""
    geobox = scene_geobox(emb) if {"y", "x"} <= set(emb.dims) else None
    if geobox is None or geobox.crs is None:
        raise StoreError(
            f"{scrubbed(url)} has no place on the ground.",
            found=f"dims {emb.dims}, no grid with a CRS",
            expected="an embedding (..., D, y, x) with a CRS",
            remedy='emb.rio.write_crs("EPSG:32632") before it is stored',
        )
    extent = geobox.extent.to_crs("EPSG:4326", resolution="auto", wrapdateline=True)
    parts = sorted(part.bounds for part in getattr(extent.geom, "geoms", [extent.geom]))
    # Across the antimeridian the bbox of GeoJSON begins with the part that lies west of it, at the larger longitude.
    bbox = [parts[-1][0], min(part[1] for part in parts), parts[0][2], max(part[3] for part in parts)]
    epsg = geobox.crs.to_epsg()
    grid = {
        **({"proj:code": f"EPSG:{epsg}"} if epsg else {"proj:code": None, "proj:wkt2": geobox.crs.to_wkt()}),
        "proj:shape": [int(n) for n in geobox.shape],
        "proj:transform": [float(v) for v in list(geobox.affine)[:6]],
        "proj:bbox": [float(v) for v in geobox.boundingbox.bbox],
    }
    return plain(extent.json), plain(bbox), grid


def _properties(emb: xr.DataArray, url: str) -> dict[str, Any]:
    attrs = plain(scrubbed(emb.attrs))
    quantization = _quantization(emb, url)
    data_type = quantization["quantized_dtype"] if quantization else str(emb.dtype)
    found: dict[str, Any] = {"emb:runtime_parameters": attrs, "data_type": data_type}
    if quantization:
        found["emb:quantization"] = quantization
    if "normalization" in attrs:
        found["emb:preprocessing"] = {"format": "xr-rsembed", "expression": attrs["normalization"]}
    if (size := pixel_size(emb)) is not None:
        found["gsd"] = size
    if "xr_rsembed_version" in attrs:
        found["processing:software"] = {"xr-rsembed": str(attrs["xr_rsembed_version"])}
    return found


def _quantization(emb: xr.DataArray, url: str) -> dict[str, Any] | None:
    """What the extension says of int8 stores: the same as ``geoemb:``, but with all scales in one list."""
    group = read_group(Target.at(url)) if url.lower().endswith(".zarr") else None
    if group is None or not (found := group.attrs.get("geoemb:quantization")):
        return None
    scale = list(group.scale(str(emb.name)))
    return {**found, "scale": scale, "offset": [0.0] * len(scale)}


def _times(emb: xr.DataArray, given: Time | None) -> tuple[datetime, datetime]:
    """When the scene was taken, from when to when."""
    found: Any = given.split("/") if isinstance(given, str) else given
    if found is None and "time" in emb.coords:
        found = [str(value) for value in np.datetime_as_string(np.ravel(emb["time"].values), unit="s")]
    if found is None:
        ends = [emb.attrs.get(f"scene_time_{end}") for end in ("start", "end")]
        found = [date for date in emb.attrs.get("scene_dates") or ends if date]
    moments = [_moment(one) for one in (found if isinstance(found, list | tuple) else [found])]
    if not moments:
        raise OptionError(
            "Nothing says when the scene was taken, and a STAC item must.",
            found="no time coord and no dates in the attrs",
            expected="a date, or a pair of them",
            remedy='to_stac_item(path, time="2022-06-01") or time=("2022-06-01", "2022-09-01")',
        )
    return min(moments), max(moments)


def _moment(value: str | datetime) -> datetime:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise OptionError(
            "The time cannot be read.", found=repr(value), expected="ISO 8601: '2022-06-01'"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
