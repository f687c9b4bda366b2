"""From a request to the items that serve it: search a STAC catalogue, check, filter, take out duplicates.

Items are plain STAC dictionaries. Whatever a server says it can filter, every rule is applied here too, so a
catalogue that ignores the cloud query gives the same scenes as one that knows it.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_rsembed.errors import (
    CatalogError,
    MissingDependencyError,
    NoScenesError,
    ProviderAuthError,
    ProviderError,
)
from xr_rsembed.extras import require
from xr_rsembed.providers import retry
from xr_rsembed.providers.base import SceneRequest, radar_items
from xr_rsembed.providers.catalogs import Catalog, Collection, public_url
from xr_rsembed.providers.grid import lonlat_bounds
from xr_rsembed.providers.reprocessing import acquired, newest_processings

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from pystac_client.stac_api_io import StacApiIO

TIMEOUT_S = (10.0, 60.0)  # to connect, to answer
PAGE = 200  # items an answer

Item = Mapping[str, Any]


def find_items(
    request: SceneRequest, catalog: Catalog, collection: Collection, skip: Iterable[str] = ()
) -> tuple[list[Item], dict[str, int | str]]:
    """The items that serve a request, ascending in time, and attrs that say what the rules for Sentinel-1 did."""
    left_out: Counter[str] = Counter()

    def search(iw: bool) -> list[Item]:
        left_out.clear()
        return _filtered(request, catalog, collection, skip, iw, left_out)

    if request.modality.startswith("S1"):
        items, attrs = radar_items(request, search, orbit_of)
    else:
        items, attrs = search(False), {}
    if not items:
        raise _nothing(request, catalog, collection, left_out)
    names = sorted({str(item.get("collection")) for item in items})
    if len(names) > 1:  # bands of one name may then be bands of two sensors
        raise CatalogError(
            f"Catalogue {catalog.name!r} has items of several collections for this request.",
            found=", ".join(names),
            expected="one collection",
            remedy=f"collection={names[0]!r}",
        )
    return items, attrs


def orbit_of(item: Item) -> str:
    """``"ascending"`` or ``"descending"``; empty where an item does not say."""
    return str(item["properties"].get("sat:orbit_state") or "").lower()


def footprint(item: Item, grid: GeoBox) -> Any:
    """The shapely footprint of an item in the grid's CRS, or None where the item does not say."""
    import shapely
    from pyproj import Transformer
    from shapely.geometry import box, shape

    if item.get("geometry"):
        outline = shape(item["geometry"])
    elif item.get("bbox"):
        outline = box(*np.reshape(item["bbox"], (2, -1))[:, :2].ravel())
    else:
        return None
    to_grid = Transformer.from_crs("EPSG:4326", str(grid.crs), always_xy=True)
    # Vertex by vertex: a footprint across the antimeridian then stays in one piece on a grid that lies there.
    projected = shapely.transform(outline, lambda xy: np.column_stack(to_grid.transform(*xy.T)))
    if not np.isfinite(shapely.get_coordinates(projected)).all():
        return None
    return shapely.make_valid(projected)


# --- rules --------------------------------------------------------------------------------------------------


def _filtered(
    request: SceneRequest,
    catalog: Catalog,
    collection: Collection,
    skip: Iterable[str],
    iw: bool,
    left_out: Counter[str],
) -> list[Item]:
    """The items that pass every rule; ``left_out`` counts those that each rule took."""
    from shapely.geometry import box

    limit = request.cloud_limit
    extent, skipped = box(*request.grid.boundingbox.bbox), set(skip)

    def elsewhere(item: Item) -> bool:
        outline = footprint(item, request.grid)
        return outline is not None and not outline.intersects(extent)

    rules: dict[str, Callable[[Item], bool]] = {
        "outside the time": lambda item: not request.start <= acquired(item) < request.end,
        "elsewhere": elsewhere,
    }
    if limit is not None:
        rules[f"not below {limit:g} % clouds"] = lambda item: not _cloud(item) < limit
    if iw:
        rules["not in IW mode"] = lambda item: item["properties"].get("sar:instrument_mode") != "IW"
    if orbit := request.orbit:
        rules[f"not on an {orbit} orbit"] = lambda item: orbit_of(item) != orbit
    kept: dict[str, Item] = {}
    for item in _search(request, catalog, collection, iw):
        if isinstance(item, dict) and item.get("id") in skipped:
            left_out["skipped by id"] += 1
            continue
        _check(item, catalog)
        reason = next((name for name, rule in rules.items() if rule(item)), None)
        if reason is None:
            kept[item["id"]] = item
        else:
            left_out[reason] += 1
    return newest_processings(kept.values())


def _cloud(item: Item) -> float:
    """Cloud cover in percent; NaN, which is below nothing, where an item does not say."""
    cover = item["properties"].get("eo:cloud_cover")
    return float("nan") if cover is None else float(cover)


def _check(item: Any, catalog: Catalog) -> None:
    """Raise where an item is not one: what is read from it later must be there."""
    from shapely.geometry import shape

    name = item.get("id") if isinstance(item, dict) else None
    try:
        whole = isinstance(name, str) and all(isinstance(asset, dict) for asset in item["assets"].values())
        trouble = "no id, or assets that are no objects"
        acquired(item), _cloud(item), shape(item["geometry"]) if item.get("geometry") else None
    except Exception as error:  # whatever broken STAC makes of dictionaries, dates and shapes
        whole, trouble = False, f"{type(error).__name__}: {error}"
    if not whole:
        raise CatalogError(
            f"Catalogue {catalog.name!r} gave an item that is not valid STAC: {name}.",
            found=trouble,
            expected="id, assets, geometry and properties.datetime",
            remedy=f"skip_items=[{name!r}] leaves it out, or another catalog=",
        )


def _nothing(
    request: SceneRequest, catalog: Catalog, collection: Collection, left_out: Mapping[str, int]
) -> NoScenesError:
    taken = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
    box = lonlat_bounds(request.grid)[0]
    if "clouds" in taken:
        remedy = "cloudy_pct=None takes all clouds, or widen time="
    elif "orbit" in taken:
        remedy = "orbit=None takes both, or widen time="
    else:
        remedy = "widen time=, move the place, or name another collection="
    return NoScenesError(
        f"Catalogue {catalog.name!r} has no scene of {collection.id or request.modality} for this request.",
        found=f"none of {sum(left_out.values())} items ({taken})" if taken else "no items",
        expected=f"{request.start:%Y-%m-%d} to {request.end:%Y-%m-%d}, lon {box.minlon:.3f} to {box.maxlon:.3f}, "
        f"lat {box.minlat:.3f} to {box.maxlat:.3f}",
        remedy=remedy,
    )


# --- sources of items ---------------------------------------------------------------------------------------


def _search(request: SceneRequest, catalog: Catalog, collection: Collection, iw: bool) -> Iterator[Any]:
    """Every item that the catalogue offers; more than asked for, where it cannot search."""
    try:
        if catalog.local_folder is not None:
            offered = _from_file(Path(catalog.href))
        else:
            offered = _from_server(request, catalog, collection, iw)
        for item in offered:
            known = isinstance(item, dict) and item.get("collection")
            if not collection.id or not known or known == collection.id:
                yield item
    except (ProviderError, MissingDependencyError):
        raise
    except Exception as error:
        # "from None": the client's own errors can carry addresses with a key in them.
        raise _explained(error, catalog, collection) from None


def _from_server(request: SceneRequest, catalog: Catalog, collection: Collection, iw: bool) -> Iterator[Any]:
    from pystac_client import Client, ConformanceClasses

    limit = request.cloud_limit
    query: dict[str, Any] = {"eo:cloud_cover": {"lt": limit}} if limit is not None else {}
    query |= {"sar:instrument_mode": {"eq": "IW"}} if iw else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pystac-client's, on conformance: we look ourselves
        client = Client.open(catalog.href, stac_io=_retrying_io())
        if client.get_search_link() is None:
            yield from _static_items(client)
            return
        client.add_conforms_to("ITEM_SEARCH")
        for box in lonlat_bounds(request.grid):
            search = client.search(
                collections=[collection.id] if collection.id else None,
                bbox=(box.minlon, box.minlat, box.maxlon, box.maxlat),
                datetime=[request.start, request.end],
                query=query if query and client.conforms_to(ConformanceClasses.QUERY) else None,
                limit=PAGE,
            )
            yield from search.items_as_dicts()


def _from_file(path: Path) -> Iterator[Any]:
    """Items of a static catalogue, of a file of items, or of a stac-geoparquet table."""
    if path.suffix in (".parquet", ".geoparquet"):
        tables = require("stac_geoparquet.arrow", "A stac-geoparquet file")
        parquet = require("pyarrow.parquet", "A stac-geoparquet file")
        yield from tables.stac_table_to_items(parquet.read_table(path))
        return
    content = json.loads(path.read_text())
    if content.get("type") in ("FeatureCollection", "Feature"):
        yield from content.get("features", [content])
        return
    import pystac

    yield from _static_items(pystac.read_file(str(path.resolve())))


def _static_items(catalog: Any) -> Iterator[Item]:
    """Items of a static catalogue, their assets' addresses made absolute."""
    for item in catalog.get_items(recursive=True):
        yield item.make_asset_hrefs_absolute().to_dict(transform_hrefs=False)


def _retrying_io() -> StacApiIO:
    """pystac-client's connection, which tries again after transient failures."""
    from pystac_client.stac_api_io import StacApiIO

    class RetryingIO(StacApiIO):
        def request(self, *args: Any, **kwargs: Any) -> str:
            return retry.retry(lambda attempt: super(RetryingIO, self).request(*args, **kwargs))

    return RetryingIO(timeout=TIMEOUT_S, max_retries=None)


def _explained(error: Exception, catalog: Catalog, collection: Collection) -> ProviderError:
    """Our error for what pystac-client, pystac or the parser of an answer raised."""
    status = retry.http_status(error)
    what = f"Catalogue {catalog.name!r} ({public_url(catalog.href)})"
    if status in (401, 403):
        return ProviderAuthError(f"{what} refuses the search.", found=f"HTTP {status}", remedy=catalog.login)
    if status == 404:
        return CatalogError(f"{what} has no such collection or is no STAC API.", found=collection.id)
    if retry.is_transient(error):
        found = f"HTTP {status}" if status else "no answer, or a connection cut"
        return ProviderError(
            f"{what} did not answer the search.",
            found=f"{found} (after {retry.ATTEMPTS} attempts)",
            remedy="try later, or another catalog=",
        )
    return CatalogError(
        f"{what} does not give STAC that can be read.",
        found=f"HTTP {status}" if status else type(error).__name__,
        expected="a STAC API, a catalog.json, a file of items, or stac-geoparquet",
    )
