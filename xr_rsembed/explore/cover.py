"""Which cells lie under a point, a line or a polygon."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_rsembed.crs import crs_name
from xr_rsembed.errors import GridError, LabelError
from xr_rsembed.extras import require

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


def read_table(path: str | os.PathLike[str], purpose: str) -> Any:
    """The GeoDataFrame in a file: GeoParquet, or whatever GDAL reads; a GridError tells why it cannot be read."""
    geopandas, text = require("geopandas", purpose), os.fspath(path)
    try:
        return (geopandas.read_parquet if text.endswith("parquet") else geopandas.read_file)(text)
    except Exception as error:
        raise GridError(
            "The vector file cannot be read.",
            found=f"{text}: {type(error).__name__}: {error}".splitlines()[0],
            expected="a GeoParquet file, GeoJSON, a GeoPackage or another file that GDAL reads",
            remedy=None if os.path.exists(text) else "check the path",
        ) from error


def read_features(features: Any, crs: Any, geobox: GeoBox, doing: str) -> Any:
    """Features in any form as a GeoDataFrame in the grid's CRS; ``doing`` names what asks, for messages.

    GeoDataFrame, GeoSeries, GeoJSON (a mapping, in degrees), path, shapely or odc geometries, or pairs (x, y). ``crs``
    is that of features that carry none, by default the grid's own. A LabelError tells what cannot be read.
    """
    geopandas = require("geopandas", doing)
    own = crs if crs is not None or geobox.crs is None else geobox.crs.proj
    if isinstance(features, str | os.PathLike):
        features = read_table(features, doing)
    if isinstance(features, geopandas.GeoSeries):
        features = features.to_frame("geometry")
    if isinstance(features, Mapping):
        features = _from_geojson(features, crs, geopandas)
    if not isinstance(features, geopandas.GeoDataFrame):
        features = geopandas.GeoDataFrame(geometry=_geometries(features, doing), crs=own)
    elif features.crs is None and crs is not None:
        features = features.set_crs(crs)
    if not len(features):
        raise LabelError(f"{doing} was given no geometry.", found="0 rows", expected="at least one")
    return in_grid_crs(features, geobox, "geometries")


def _from_geojson(mapping: Mapping[str, Any], crs: Any, geopandas: Any) -> Any:
    from shapely.errors import ShapelyError

    bare = {"type": "Feature", "properties": {}, "geometry": mapping}
    parts = list(mapping.get("features", [mapping if mapping.get("type") == "Feature" else bare]))
    try:
        return geopandas.GeoDataFrame.from_features(parts, crs=4326 if crs is None else crs)
    except (KeyError, TypeError, AttributeError, ValueError, ShapelyError) as error:
        raise LabelError(
            "This mapping is no GeoJSON.",
            found=f"keys {', '.join(map(str, mapping))[:80]}",
            expected="a FeatureCollection, a Feature or a geometry",
        ) from error


def _geometries(features: Any, doing: str) -> list[Any]:
    """Shapely geometries of one or several shapely or odc geometries, or of pairs (x, y)."""
    import shapely

    if isinstance(features, shapely.Geometry) or hasattr(features, "geom"):
        features = [features]
    if not isinstance(features, Iterable) or hasattr(features, "columns"):
        raise LabelError(
            f"{doing} cannot read these features.",
            found=type(features).__name__,
            expected="a GeoDataFrame, GeoJSON, shapely geometries or pairs (x, y)",
            remedy="geopandas.GeoDataFrame(df, geometry=geopandas.points_from_xy(df.lon, df.lat), crs=4326)",
        )
    listed = list(features)
    if len(listed) == 2 and all(np.isscalar(one) and np.isreal(one) for one in listed):
        listed = [tuple(listed)]
    found = []
    for one in listed:
        if one is None or hasattr(one, "geom_type"):
            found.append(one)
        elif hasattr(one, "geom"):
            found.append(one.geom)
        elif np.asarray(one).shape == (2,) and np.asarray(one).dtype.kind in "uif":
            found.append(shapely.Point(np.asarray(one, dtype=float)))
        else:
            raise LabelError(
                f"{doing} cannot read this place.",
                found=f"{one!r}"[:80],
                expected="a shapely geometry, or a pair (x, y)",
            )
    return found


def in_grid_crs(features: Any, geobox: GeoBox, what: str = "labels") -> Any:
    """A GeoDataFrame or GeoSeries in the CRS of a grid; a LabelError where only one of the two has a CRS."""
    if features.crs is None and geobox.crs is None:
        return features
    if features.crs is None or geobox.crs is None:
        bare = features.crs is None
        raise LabelError(
            f"The {what} cannot be placed on the embedding: only one of them has a CRS.",
            found=f"{what} without a CRS" if bare else "an embedding without a CRS",
            expected=f"the CRS of the {what}" if bare else "the CRS of the embedding's scene",
            remedy=f'{what}.set_crs("EPSG:4326") with their own CRS'
            if bare
            else 'emb.rio.write_crs("EPSG:32632") with its own CRS',
        )
    return features.to_crs(geobox.crs.proj)


def outlines(geometry: Any, crs: Any, geobox: GeoBox) -> list[Any]:
    """Shapely geometries in the grid's CRS, of anything that has geometries; ``crs`` is that of a plain shapely one."""
    from odc.geo.geom import Geometry

    if isinstance(geometry, Mapping | str | os.PathLike):
        return list(read_features(geometry, crs, geobox, "similarity()").geometry)
    if hasattr(geometry, "to_crs") and hasattr(geometry, "geometry"):
        return list(in_grid_crs(geometry, geobox, "geometries").geometry)
    own = geometry if isinstance(geometry, Geometry) else Geometry(geometry, crs or geobox.crs)
    if own.crs != geobox.crs and geobox.crs is not None:
        own = own.to_crs(geobox.crs)
    return [own.geom]


def cells_under(geometry: Any, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the cells under a geometry in the grid's CRS; none outside the grid.

    A polygon covers the cells whose centres lie in it, or, where it holds no centre, those that it touches. A line
    covers what it touches, a point its cell.

    Examples
    --------
    >>> import shapely
    >>> from affine import Affine
    >>> from odc.geo.geobox import GeoBox
    >>> box = GeoBox((4, 5), Affine(160, 0, 600000, 0, -160, 5000000), "EPSG:32632")
    >>> rows, columns = cells_under(shapely.box(600000, 4999700, 600320, 5000000), box)
    >>> rows.tolist(), columns.tolist()
    ([0, 0, 1, 1], [0, 1, 0, 1])
    """
    import shapely
    from affine import Affine
    from rasterio.features import rasterize

    none = np.empty(0, dtype=int)
    if geometry is None or shapely.is_empty(geometry):
        return none, none
    if geometry.geom_type == "Point":
        row, column, inside = cells_at(np.array([geometry.x]), np.array([geometry.y]), geobox)
        return row[inside], column[inside]
    (top, bottom), (left, right) = _window_of(geometry.bounds, geobox)
    if top >= bottom or left >= right:
        return none, none
    transform = geobox.affine * Affine.translation(left, top)
    polygon = geometry.geom_type.endswith("Polygon")
    for touched in (False, True) if polygon else (True,):
        burnt = rasterize(
            [(geometry, 1)],
            out_shape=(bottom - top, right - left),
            transform=transform,
            all_touched=touched,
            dtype="uint8",
        )
        if burnt.any():
            break
    rows, columns = np.nonzero(burnt)
    return rows + top, columns + left


def _window_of(
    bounds: tuple[float, float, float, float], geobox: GeoBox
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns that a bounding box overlaps, within the grid; at least one cell where it lies inside."""
    if not np.isfinite(bounds).all():  # what cannot be projected
        return (0, 0), (0, 0)
    west, south, east, north = bounds
    corners = [~geobox.affine * corner for corner in ((west, south), (east, north))]
    spans = []
    for axis, length in ((1, geobox.shape.y), (0, geobox.shape.x)):
        low, high = sorted(corner[axis] for corner in corners)
        spans.append(
            (max(0, int(np.floor(low))), min(length, max(int(np.floor(low)) + 1, int(np.ceil(high)))))
        )
    return spans[0], spans[1]


def cells_at(x: np.ndarray, y: np.ndarray, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column of the cells that hold some points, and which points lie on the grid at all."""
    step_x, _, west, _, step_y, north = geobox.affine[:6]
    with np.errstate(invalid="ignore"):  # what cannot be projected is infinite, and outside
        rows, columns = (
            np.floor((np.asarray(at, dtype="float64") - origin) / step).astype(int)
            for at, origin, step in ((y, north, step_y), (x, west, step_x))
        )
    inside = (rows >= 0) & (rows < geobox.shape.y) & (columns >= 0) & (columns < geobox.shape.x)
    return rows, columns, inside


@dataclass(frozen=True)
class Coverage:
    """How much of each cell each polygon covers, 0 to 1: the entries of a sparse matrix, sorted by polygon."""

    polygon: np.ndarray
    row: np.ndarray
    column: np.ndarray
    share: np.ndarray


def coverage(polygons: Iterable[Any], geobox: GeoBox) -> Coverage:
    """The shares of cells that polygons in the grid's CRS cover, exactly, by exactextract.

    Examples
    --------
    >>> import shapely
    >>> from affine import Affine
    >>> from odc.geo.geobox import GeoBox
    >>> found = coverage([shapely.box(0.5, 0, 2, 1)], GeoBox((1, 3), Affine(1, 0, 0, 0, -1, 1), None))
    >>> found.column.tolist(), found.share.tolist()
    ([0, 1], [0.5, 1.0])
    """
    import geopandas
    import pyproj
    import shapely
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource

    height, width = geobox.shape.yx
    there = {
        index: polygon
        for index, polygon in enumerate(polygons)
        if polygon is not None and not polygon.is_empty and np.isfinite(polygon.bounds).all()
    }
    step_x, _, west, _, step_y, north = geobox.affine[:6]

    def in_cells(points: np.ndarray) -> np.ndarray:
        return np.stack([(points[:, 0] - west) / step_x, height - (points[:, 1] - north) / step_y], axis=1)

    # In cells, so that neither the CRS nor the direction of an axis matters; the CRS is one that exactextract wants.
    plane = pyproj.CRS(3857)
    shapes = [shapely.transform(polygon, in_cells) for polygon in there.values()]
    frame = geopandas.GeoDataFrame(geometry=shapes, crs=plane)
    ones = np.broadcast_to(np.uint8(1), (height, width))
    source = NumPyRasterSource(ones, xmin=0, ymin=0, xmax=width, ymax=height, srs_wkt=plane.to_wkt())
    found = exact_extract(source, frame, ["cell_id", "coverage"], output="pandas") if there else None
    cells, shares = ([], []) if found is None else (found["cell_id"], found["coverage"])
    counts = np.array([len(one) for one in cells], dtype=int)
    joined = np.concatenate([np.empty(0, int), *cells]).astype(int)
    share = np.concatenate([np.empty(0), *shares]).astype("float64")
    polygon = np.repeat(np.array(list(there), dtype=int), counts)
    some = share > 0
    row, column = np.divmod(joined[some], width)
    return Coverage(polygon[some], row, column, share[some])


def outside(geometries: list[Any], geobox: GeoBox, what: str) -> LabelError:
    """The error for geometries of which none meets the grid."""
    import shapely

    bounds = shapely.total_bounds(np.array([one for one in geometries if one is not None], dtype=object))
    own = geobox.boundingbox
    return LabelError(
        f"No {what} lies on the embedding.",
        found=f"{what} at x {bounds[0]:.6g} to {bounds[2]:.6g}, y {bounds[1]:.6g} to {bounds[3]:.6g}",
        expected=f"x {own.left:.6g} to {own.right:.6g}, y {own.bottom:.6g} to {own.top:.6g}"
        + (f" in {crs_name(geobox.crs)}" if geobox.crs is not None else ""),
        remedy="check the CRS (crs=4326 for degrees, a wrong set_crs, or swapped x and y), or embed the scene there",
    )
