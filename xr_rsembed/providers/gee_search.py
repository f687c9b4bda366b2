"""Which images of Earth Engine a request means: the collections, their filters, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from xr_rsembed.errors import CatalogError, NoScenesError
from xr_rsembed.providers.base import SceneRequest, radar_items
from xr_rsembed.providers.gee_client import Connection, compute_value
from xr_rsembed.providers.grid import lonlat_bounds
from xr_rsembed.providers.search import footprint

if TYPE_CHECKING:
    import ee

#: Modality to its usual collection; Sentinel-1 in dB is ``COPERNICUS/S1_GRD``.
COLLECTIONS: Mapping[str, str] = {
    "S2L2A": "COPERNICUS/S2_SR_HARMONIZED",
    "S2L1C": "COPERNICUS/S2_HARMONIZED",
    "S1GRD": "COPERNICUS/S1_GRD_FLOAT",
}
_SHIFTED = {"COPERNICUS/S2_SR": "S2L2A", "COPERNICUS/S2": "S2L1C"}  # DN jump by 1000 with baseline 04.00


@dataclass(frozen=True)
class FoundImage:
    """One image of a collection that touches the grid; its footprint is in the grid's CRS, None where unknown."""

    id: str
    when: datetime
    outline: Any
    orbit: str = ""


def find_images(connection: Connection, request: SceneRequest) -> tuple[list[FoundImage], dict[str, Any]]:
    """The images that a request means, earliest first, and attrs that say how they were chosen."""
    collection = _collection_name(request)
    attrs: dict[str, Any] = {"collection": collection}

    def search(wide: bool) -> list[FoundImage]:
        return _search(connection, request, collection, _filters(request, wide))

    if request.modality == "S1GRD":
        images, rules = radar_items(request, search, lambda image: image.orbit)
        attrs |= rules
    else:
        images = search(False)
    if not images:
        raise NoScenesError(
            f"{collection} has no scene here and then.",
            found=_found_without_limit(connection, request, collection),
            expected=f"{request.start:%Y-%m-%d} to {request.end:%Y-%m-%d}, within "
            f"{request.grid.geographic_extent.boundingbox}",
            remedy=f"a longer time, another place, or {'orbit' if request.orbit else 'cloudy_pct'}=None",
        )
    return images, attrs


def _collection_name(request: SceneRequest) -> str:
    sensor, modality = request.sensor, request.modality
    if modality not in COLLECTIONS:
        raise CatalogError(
            "Earth Engine has no collection of this modality.",
            found=modality,
            expected=tuple(COLLECTIONS),
            remedy='modality="S1GRD", or fetch("stac", catalog="planetary-computer", ...)',
        )
    if sensor.collection in _SHIFTED:
        raise CatalogError(
            "This collection mixes two scales of DN, from before and after January 2022.",
            found=sensor.collection,
            expected=COLLECTIONS[_SHIFTED[sensor.collection]],
        )
    if sensor.collection is None and modality == "S1GRD" and not sensor.use_float_linear:
        return "COPERNICUS/S1_GRD"
    return sensor.collection or COLLECTIONS[modality]


# --- the search --------------------------------------------------------------------------------------------


def _filters(request: SceneRequest, wide: bool) -> list[ee.Filter]:
    """For images that are clear enough, or radar's with the bands and on the orbit wanted, of the wide mode."""
    import ee

    if request.modality != "S1GRD":
        limit = request.cloud_limit
        return [] if limit is None else [ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", limit)]
    filters = [ee.Filter.listContains("transmitterReceiverPolarisation", band) for band in request.bands]
    if request.orbit:
        filters.append(ee.Filter.eq("orbitProperties_pass", request.orbit.upper()))
    return [*filters, ee.Filter.eq("instrumentMode", "IW")] if wide else filters


def _candidates(
    request: SceneRequest, collection: str, filters: Sequence[ee.Filter] = ()
) -> ee.ImageCollection:
    """Images of the time and around the place; the service knows footprints in degrees."""
    import ee

    boxes = [
        ee.Geometry.Rectangle([b.minlon, b.minlat, b.maxlon, b.maxlat], "EPSG:4326", False)
        for b in lonlat_bounds(request.grid)
    ]
    place = [ee.Filter.bounds(box) for box in boxes]
    found = ee.ImageCollection(collection).filter(ee.Filter.date(request.start, request.end))
    for each in (place[0] if len(place) == 1 else ee.Filter.Or(*place), *filters):
        found = found.filter(each)
    return found


def _search(
    connection: Connection, request: SceneRequest, collection: str, filters: Sequence[ee.Filter]
) -> list[FoundImage]:
    """The images whose footprint touches the grid, earliest first."""
    import ee
    from shapely import box

    def described(image: Any) -> Any:
        named = {"name": image.get("system:index"), "when": image.get("system:time_start")}
        if request.modality == "S1GRD":
            named["orbit"] = image.get("orbitProperties_pass")
        return ee.Feature(image.geometry(), named)

    table = ee.FeatureCollection(_candidates(request, collection, filters).map(described))
    features = compute_value(connection, table, f"the list of images in {collection}")["features"]
    images = [_found_image(feature, collection, request) for feature in features]
    extent = box(*request.grid.boundingbox.bbox)
    touching = [image for image in images if image.outline is None or image.outline.intersects(extent)]
    return sorted(touching, key=lambda image: (image.when, image.id))


def _found_image(feature: Mapping[str, Any], collection: str, request: SceneRequest) -> FoundImage:
    named = feature["properties"]
    when = datetime.fromtimestamp(named["when"] / 1000, UTC)
    orbit = str(named.get("orbit") or "").lower()
    return FoundImage(f"{collection}/{named['name']}", when, footprint(feature, request.grid), orbit)


def _found_without_limit(connection: Connection, request: SceneRequest, collection: str) -> str:
    """How many images the cloud limit took away: the usual reason for an empty search."""
    limit = request.cloud_limit
    if limit is None:
        return "nothing"
    count = compute_value(connection, _candidates(request, collection).size(), f"the size of {collection}")
    return f"{count} images, none with a CLOUDY_PIXEL_PERCENTAGE below {limit:g}" if count else "nothing"
