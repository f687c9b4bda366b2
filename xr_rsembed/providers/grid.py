"""From a place to the grid that its scene will have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import GridError, OptionError
from xr_rsembed.georef import scene_geobox
from xr_rsembed.specs import DEGREES, BBox, PointBuffer

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

PATCH = 16  # pixels a cell: requests share one lattice of cells
_UTM_LATITUDES = (-80.0, 84.0)
_UTM_REACH = 1_000_000.0  # metres from the central meridian; beyond, a zone's scale is off by more than 1 %


def target_grid(spatial: Any = None, *, bbox: Any = None, like: Any = None, scale_m: float = 10.0) -> GeoBox:
    """The grid of a request.

    Parameters
    ----------
    spatial : bbox, BBox, PointBuffer, GeoJSON, shapely geometry, GeoDataFrame, odc Geometry, DataArray, or GeoBox
        The place. A bbox is (min lon, min lat, max lon, max lat) in degrees, as a sequence or an array; GeoJSON and
        shapely geometries too are in degrees.
        A DataArray or GeoBox is a grid already and is used as it is.
    bbox, like : optional
        The same under the names that say what they are; give one of the three.
    scale_m : float
        Pixel size in metres of a grid that is made here.

    Returns
    -------
    odc.geo.geobox.GeoBox
        For a place: the UTM zone of its centre, snapped outwards to multiples of a cell (16 pixels, 160 m
        at 10 m), so that neighbouring requests share one lattice of cells. A PointBuffer whose side is whole pixels
        keeps its size, on the lattice of pixels.

    Raises
    ------
    GridError
        For a place that is empty, beyond UTM's latitudes or too wide for one zone, or a rotated grid.

    Examples
    --------
    >>> grid = target_grid(bbox=(9.0, 45.0, 9.02, 45.01))
    >>> str(grid.crs), [edge % 160 for edge in grid.boundingbox.bbox]
    ('EPSG:32632', [0.0, 0.0, 0.0, 0.0])
    """
    given = [place for place in (spatial, bbox, like) if place is not None]
    if len(given) != 1:
        raise OptionError(
            "A request needs one place.",
            found=f"{len(given)} of spatial=, bbox=, like=",
            remedy="bbox=(9.0, 45.0, 9.2, 45.2)",
        )
    place = given[0]
    if (grid := _existing_grid(place)) is not None:
        return _checked(grid)
    if like is not None:
        raise GridError(
            "like= has no grid.", found=type(like).__name__, expected="a georeferenced DataArray or GeoBox"
        )
    if isinstance(place, PointBuffer):
        return _around(place, scale_m)
    outline = place_outline(place)
    return _snapped(*_rim(*outline.boundingbox.bbox), str(outline.crs), scale_m)


def lonlat_bounds(grid: GeoBox) -> list[BBox]:
    """The boxes of longitude and latitude that hold a grid: one, or two where it crosses the antimeridian."""
    crs, box = str(grid.crs), grid.boundingbox
    lon, lat = _transform(crs, "EPSG:4326", *_rim(*box.bbox))
    south, north = float(lat.min()), float(lat.max())
    pole = math.copysign(90, south + north)
    (x,), (y,) = _transform("EPSG:4326", crs, np.array([0.0]), np.array([pole]))
    if box.left <= x <= box.right and box.bottom <= y <= box.top:  # every longitude meets at the pole
        return [BBox(-180, min(south, pole), 180, max(north, pole))]
    centre = np.array([(box.left + box.right) / 2]), np.array([(box.bottom + box.top) / 2])
    middle = float(_transform(crs, "EPSG:4326", *centre)[0][0])
    lon = middle + (lon - middle + 180) % 360 - 180
    west, east = float(lon.min()), float(lon.max())
    if west < -180:
        return [BBox(west + 360, south, 180, north), BBox(-180, south, east, north)]
    if east > 180:
        return [BBox(west, south, 180, north), BBox(-180, south, east - 360, north)]
    return [BBox(west, south, east, north)]


def _existing_grid(place: Any) -> GeoBox | None:
    """The grid that a GeoBox or a georeferenced DataArray has; None for a place without one."""
    from odc.geo.geobox import GeoBox

    if isinstance(place, xr.Dataset):
        place = next(iter(place.data_vars.values()))
    if isinstance(place, xr.DataArray):
        place = scene_geobox(place)
    return place if isinstance(place, GeoBox) else None


def _checked(grid: GeoBox) -> GeoBox:
    if grid.crs is None:
        raise GridError(
            "The grid has no CRS.",
            found=grid,
            remedy='da.rio.write_crs("EPSG:32632"), with the CRS that it is in',
        )
    if not grid.axis_aligned or grid.transform.a <= 0 or grid.transform.e >= 0:
        raise GridError(
            "The grid is rotated or flipped.",
            found=tuple(grid.transform)[:6],
            expected="x ascending, y descending, no rotation",
            remedy="da.sortby('y', ascending=False), or reproject it",
        )
    return grid


_PLACES = "a bbox, PointBuffer, BBox, GeoJSON, shapely geometry, GeoDataFrame, DataArray or GeoBox"


def place_outline(place: Any, expected: str = _PLACES) -> Geometry:
    """The outline of a place in its own CRS; longitudes run on past 180 where it crosses that line.

    Of several geometries it is the box around them.
    """
    import shapely
    from odc.geo.geom import Geometry

    if (grid := _existing_grid(place)) is not None:
        return grid.extent
    if isinstance(place, PointBuffer):
        return Geometry(shapely.Point(place.lon, place.lat), DEGREES)
    if isinstance(place, np.ndarray) and place.ndim == 1:
        place = place.tolist()  # gdf.total_bounds
    if isinstance(place, Sequence) and not isinstance(place, str) and len(place) in (4, 6):
        edges = [float(edge) for edge in place]  # GeoJSON's bbox may hold heights
        corners = [*edges[: len(edges) // 2][:2], *edges[len(edges) // 2 :][:2]]
        if max(map(abs, corners)) > 360:
            raise GridError(
                "A bbox must be in degrees.",
                found=tuple(corners),
                expected="(min lon, min lat, max lon, max lat)",
                remedy="pass the GeoDataFrame itself, or gdf.to_crs(4326).total_bounds",
            )
        place = BBox(*corners)
    if isinstance(place, BBox):
        east = place.maxlon + 360 * place.crosses_antimeridian
        box = shapely.box(place.minlon, place.minlat, east, place.maxlat)
        return Geometry(box, DEGREES if place.in_degrees else place.crs)
    crs: Any = getattr(place, "crs", DEGREES)  # GeoJSON is in degrees, and shapely knows no CRS
    if isinstance(place, Mapping) or (hasattr(place, "__geo_interface__") and not hasattr(place, "crs")):
        place = _geojson(place if isinstance(place, Mapping) else place.__geo_interface__)
    elif hasattr(place, "total_bounds"):  # GeoDataFrame, GeoSeries
        bounds = place.total_bounds
        place = shapely.box(*bounds) if np.isfinite(bounds).all() else shapely.Polygon()
    elif hasattr(place, "boundingbox"):  # odc Geometry
        place = place.geom
    else:
        raise GridError(
            "The place cannot be read.",
            found=type(place).__name__,
            expected=expected,
            remedy="(9.0, 45.0, 9.2, 45.2): west, south, east, north in degrees",
        )
    if crs is None:
        raise GridError("The geometries have no CRS.", found=type(place).__name__, remedy="gdf.set_crs(4326)")
    if place.is_empty:
        raise GridError("The place is empty.", found=type(place).__name__, expected="a geometry")
    return Geometry(place, crs)


def _geojson(found: Mapping[str, Any]) -> Any:
    """The shapely geometry of a GeoJSON geometry, Feature or FeatureCollection, in degrees by definition."""
    import shapely
    from shapely.geometry import shape

    try:
        if found["type"] == "FeatureCollection":
            geometry = shapely.union_all([shape(feature["geometry"]) for feature in found["features"]])
        else:
            geometry = shape(found["geometry"] if found["type"] == "Feature" else found)
    except Exception as error:  # whatever shapely makes of broken GeoJSON
        raise GridError(
            "The GeoJSON cannot be read.",
            found=f"{type(error).__name__}: {error}",
            expected="a geometry, Feature or FeatureCollection with coordinates",
        ) from None
    west, south, east, north = geometry.bounds if not geometry.is_empty else (0, 0, 0, 0)
    if not (-360 <= west <= east <= 360 and -90 <= south <= north <= 90):
        raise GridError(
            "A geometry without a CRS must be in degrees.",
            found=geometry.bounds,
            expected="longitude and latitude",
            remedy="pass a GeoDataFrame with its CRS instead",
        )
    return geometry


def _rim(
    west: float, south: float, east: float, north: float, steps: int = 33
) -> tuple[np.ndarray, np.ndarray]:
    """Points along the four sides of a box: straight sides bend when projected, so corners are not enough."""
    x, y = np.linspace(west, east, steps), np.linspace(south, north, steps)
    return (
        np.concatenate([x, x, np.full(steps, west), np.full(steps, east)]),
        np.concatenate([np.full(steps, south), np.full(steps, north), y, y]),
    )


def _transform(source: str, target: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True).transform(x, y)


def _utm(lon: float, lat: float) -> str:
    low, high = _UTM_LATITUDES
    if not low <= lat <= high:
        raise GridError(
            "The place lies beyond UTM.",
            found=f"latitude {lat:.2f}",
            expected=f"{low:g} to {high:g}",
            remedy="pass spatial=GeoBox.from_bbox(..., crs='EPSG:3413', resolution=10) from odc.geo.geobox",
        )
    lon = (lon + 180) % 360 - 180
    return f"EPSG:{(32600 if lat >= 0 else 32700) + int((lon + 180) // 6) + 1}"


def _around(point: PointBuffer, scale_m: float) -> GeoBox:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    crs, reach = _utm(point.lon, point.lat), point.buffer_m
    (x,), (y,) = _transform("EPSG:4326", crs, np.array([point.lon]), np.array([point.lat]))
    pixels = 2 * reach / scale_m
    if abs(pixels - round(pixels)) >= 1e-6 * pixels:
        return _lattice((x - reach, y - reach, x + reach, y + reach), crs, scale_m)
    # Whole pixels: a square of just these, on the lattice of pixels.
    west, north = (round(edge / scale_m) * scale_m for edge in (x - reach, y + reach))
    return GeoBox((round(pixels), round(pixels)), Affine(scale_m, 0, west, 0, -scale_m, north), crs)


def _snapped(x: np.ndarray, y: np.ndarray, crs: str, scale_m: float) -> GeoBox:
    lon, lat = _transform(crs, "EPSG:4326", x, y) if crs != "EPSG:4326" else (x, y)
    utm = _utm(float(lon.min() + lon.max()) / 2, float(lat.min() + lat.max()) / 2)
    east, north = _transform("EPSG:4326", utm, lon, lat)
    reach = np.abs(east - 500_000).max()
    if not np.isfinite(reach) or reach > _UTM_REACH or not np.isfinite(north).all():
        raise GridError(
            "The place is too wide for one UTM zone.",
            found=f"longitude {lon.min():.2f} to {lon.max():.2f}, latitude {lat.min():.2f} to {lat.max():.2f}",
            expected=f"within {_UTM_REACH / 1000:g} km of the central meridian of {utm}",
            remedy="split it, or pass a GeoBox in a CRS that suits it",
        )
    return _lattice((east.min(), north.min(), east.max(), north.max()), utm, scale_m)


def _lattice(bounds: tuple[float, float, float, float], crs: str, scale_m: float) -> GeoBox:
    from odc.geo.geobox import GeoBox

    cells = GeoBox.from_bbox(bounds, crs, resolution=PATCH * scale_m, anchor="edge", tol=1e-6)
    return cells.zoom_out(1 / PATCH)


def covered(grid: GeoBox, outlines: Sequence[Any]) -> dict[str, float]:
    """The attr ``covered``: the share of a grid under footprints in its CRS; none where a footprint is not known."""
    import shapely

    if any(outline is None for outline in outlines):
        return {}
    extent = shapely.box(*grid.boundingbox.bbox)
    under = shapely.union_all(outlines).intersection(extent)
    return {"covered": round(under.area / extent.area, 4)}
