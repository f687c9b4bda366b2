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
    if isinstance(features, str | os.PathLike):
        features = read_table(features, doing)
    if isinstance(features, Mapping):
        features = _from_geojson(features, geopandas).set_crs(crs or 4326)
    elif isinstance(features, geopandas.GeoSeries):
        features = features.to_frame("geometry")
    elif not isinstance(features, geopandas.GeoDataFrame):
        shapes, stated = _geometries(features, doing)
        features = geopandas.GeoDataFrame(geometry=shapes, crs=stated or crs or geobox.crs)
    if features.crs is None and crs is not None:
        features = features.set_crs(crs)
    if not len(features):
        raise LabelError(f"{doing} was given no geometry.", found="0 rows", expected="at least one")
    return in_grid_crs(features, geobox, "geometries")


def _from_geojson(mapping: Mapping[str, Any], geopandas: Any) -> Any:
    from shapely.errors import ShapelyError

    bare = {"type": "Feature", "properties": {}, "geometry": mapping}
    parts = list(mapping.get("features", [mapping if mapping.get("type") == "Feature" else bare]))
    try:
        return geopandas.GeoDataFrame.from_features(parts)
    except (KeyError, TypeError, AttributeError, ValueError, ShapelyError) as error:
        raise LabelError(
            "This mapping is no GeoJSON.",
            found=f"keys {', '.join(map(str, mapping))[:80]}",
            expected="a FeatureCollection, a Feature or a geometry",
        ) from error


def _geometries(features: Any, doing: str) -> tuple[list[Any], Any]:
    """One or several shapely or odc geometries, or pairs (x, y), as shapely ones, and the CRS that they name."""
    import shapely
    from odc.geo.geom import Geometry

    if isinstance(features, shapely.Geometry | Geometry):
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
    stated = [crs for one in (features, *listed) if (crs := getattr(one, "crs", None)) is not None]
    found = []
    for one in listed:
        if isinstance(one, Geometry):
            found.append(one.to_crs(stated[0]).geom if one.crs is not None else one.geom)
        elif one is None or isinstance(one, shapely.Geometry):
            found.append(one)
        elif np.asarray(one).shape == (2,) and np.asarray(one).dtype.kind in "uif":
            found.append(shapely.Point(np.asarray(one, dtype=float)))
        else:
            raise LabelError(
                f"{doing} cannot read this place.",
                found=f"{one!r}"[:80],
                expected="a shapely geometry, or a pair (x, y)",
            )
    return found, stated[0] if stated else None


def in_grid_crs(features: Any, geobox: GeoBox, what: str = "labels") -> Any:
    """A GeoDataFrame or GeoSeries in the CRS of a grid; a LabelError where only one of the two has a CRS."""
    _check_crs(features.crs, geobox, what)
    return features if geobox.crs is None else features.to_crs(geobox.crs.proj)


def outlines(geometry: Any, crs: Any, geobox: GeoBox) -> list[Any]:
    """Shapely geometries in the grid's CRS of what :func:`read_features` takes; of a single one without geopandas."""
    import shapely
    from odc.geo.geom import Geometry

    if not isinstance(geometry, shapely.Geometry | Geometry):
        return list(read_features(geometry, crs, geobox, "similarity()").geometry)
    own = Geometry(getattr(geometry, "geom", geometry), getattr(geometry, "crs", None) or crs or geobox.crs)
    _check_crs(own.crs, geobox, "geometries")
    return [own.geom if geobox.crs is None else own.to_crs(geobox.crs).geom]


def _check_crs(crs: Any, geobox: GeoBox, what: str) -> None:
    if (crs is None) == (geobox.crs is None):
        return
    raise LabelError(
        f"The {what} cannot be placed on the embedding: only one of them has a CRS.",
        found=f"{what} without a CRS" if crs is None else "an embedding without a CRS",
        expected="both with a CRS, or none",
        remedy=f'{what}.set_crs("EPSG:4326") with their own CRS'
        if crs is None
        else 'emb.rio.write_crs("EPSG:32632") with its own CRS',
    )


def in_cells(shapes: Any, geobox: GeoBox) -> Any:
    """Shapely geometries in the grid's CRS, measured in cells: x counts columns and y rows, from the grid's corner."""
    import shapely

    step_x, _, west, _, step_y, north = geobox.affine[:6]
    # By division, which leaves the corners of cells whole numbers.
    return shapely.transform(shapes, lambda at: (at - (west, north)) / (step_x, step_y))


def cells_at(x: Any, y: Any, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column of the cells that hold some points, and which points lie on the grid; 0 and 0 of the others."""
    step_x, _, west, _, step_y, north = geobox.affine[:6]
    down, across = (np.asarray(y, float) - north) / step_y, (np.asarray(x, float) - west) / step_x
    height, width = geobox.shape.yx
    inside = (down >= 0) & (down < height) & (across >= 0) & (across < width)  # not where NaN or infinite
    rows, columns = (np.where(inside, at, 0).astype(int) for at in (down, across))
    return rows, columns, inside


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
    shape = None if geometry is None else in_cells(geometry, geobox)
    if shape is None or not np.isfinite(shape.bounds).all():  # empty, or what cannot be projected
        return none, none
    if shape.geom_type == "Point":
        row, column, inside = cells_at([geometry.x], [geometry.y], geobox)
        return row[inside], column[inside]
    if shape.geom_type.endswith("Polygon"):
        shape = shapely.make_valid(shape, method="structure")
    # The window of the grid that it lies in, at least one cell.
    start = np.floor(shape.bounds[:2]).astype(int)
    end = np.minimum(np.maximum(np.ceil(shape.bounds[2:]).astype(int), start + 1), geobox.shape.xy)
    left, top = start = np.maximum(start, 0)
    if (end <= start).any():
        return none, none
    for touched in (False, True) if shape.geom_type.endswith("Polygon") else (True,):
        burnt = rasterize(
            [shape],
            out_shape=(end - start)[::-1],
            transform=Affine.translation(left, top),
            all_touched=touched,
            dtype="uint8",
        )
        if burnt.any():
            break
    rows, columns = np.nonzero(burnt)
    return rows + top, columns + left


@dataclass(frozen=True)
class Coverage:
    """How much of each cell each polygon covers, 0 to 1: the entries of a sparse matrix, sorted by polygon."""

    polygon: np.ndarray
    row: np.ndarray
    column: np.ndarray
    share: np.ndarray


def coverage(polygons: Iterable[Any], geobox: GeoBox) -> Coverage:
    """The shares of cells that polygons in the grid's CRS cover, exactly, by exactextract.

    Of an outline that crosses itself all that it goes around counts, once.

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
    shapes = in_cells(np.array([*polygons], dtype=object), geobox)
    shapes[~np.isfinite(shapely.bounds(shapes)).all(axis=-1)] = None  # empty, or what cannot be projected
    shapes = shapely.make_valid(shapes, method="structure", keep_collapsed=False)
    usable = np.flatnonzero(~(shapely.is_missing(shapes) | shapely.is_empty(shapes)))
    # In cells, so that neither the CRS nor the direction of an axis matters; the CRS is one that exactextract wants.
    plane = pyproj.CRS(3857)
    frame = geopandas.GeoDataFrame(geometry=shapes[usable], crs=plane)
    ones = np.broadcast_to(np.uint8(1), (height, width))
    source = NumPyRasterSource(ones, srs_wkt=plane.to_wkt())
    found = exact_extract(source, frame, ["cell_id", "coverage"], output="pandas") if len(usable) else None
    cells, shares = ([], []) if found is None else (found["cell_id"], found["coverage"])
    polygon = np.repeat(usable, [len(one) for one in cells])
    share = np.concatenate([np.empty(0), *shares])
    up, column = np.divmod(np.concatenate([np.empty(0, int), *cells]).astype(int), width)
    some = share > 0
    return Coverage(polygon[some], height - 1 - up[some], column[some], share[some])


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
