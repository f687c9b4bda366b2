"""Which cells lie under a point, a line or a polygon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xr_rsembed.errors import LabelError, MissingDependencyError

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = [
    "Window",
    "cells_at",
    "cells_under",
    "geopandas_or_error",
    "in_grid_crs",
    "outlines",
    "outside",
    "window_of",
]

Window = tuple[tuple[int, int], tuple[int, int]]  # rows and columns, each from and to


def geopandas_or_error(doing: str) -> Any:
    """The package geopandas.

    Raises
    ------
    MissingDependencyError
        Where it is not installed.
    """
    try:
        import geopandas
    except ImportError as error:
        raise MissingDependencyError(
            f"{doing} needs geopandas.",
            found="no package geopandas",
            remedy="pip install 'xr-rsembed[vector]'",
        ) from error
    return geopandas


def in_grid_crs(features: Any, geobox: GeoBox, what: str = "labels") -> Any:
    """A GeoDataFrame or GeoSeries in the CRS of a grid.

    Raises
    ------
    LabelError
        If only one of the two has a CRS, so that nobody can tell where one lies in the other.
    """
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
    """Shapely geometries in the grid's CRS, of anything that has geometries.

    Parameters
    ----------
    geometry : shapely geometry, odc.geo.Geometry, GeoSeries or GeoDataFrame
    crs : optional
        Of a plain shapely geometry; the grid's own by default.
    geobox : GeoBox
    """
    from odc.geo.geom import Geometry

    if hasattr(geometry, "to_crs") and hasattr(geometry, "geometry"):
        return list(in_grid_crs(geometry, geobox, "geometries").geometry)
    own = geometry if isinstance(geometry, Geometry) else Geometry(geometry, crs or geobox.crs)
    if own.crs != geobox.crs and geobox.crs is not None:
        own = own.to_crs(geobox.crs)
    return [own.geom]


def cells_under(geometry: Any, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the cells under a geometry in the grid's CRS.

    A polygon covers the cells whose centres lie in it, or, where it holds no centre, those that it touches. A line
    covers what it touches, a point its cell.

    Parameters
    ----------
    geometry : shapely geometry
    geobox : GeoBox

    Returns
    -------
    rows, columns : int arrays, shape (n,)
        None outside the grid.

    Examples
    --------
    >>> import shapely
    >>> from affine import Affine
    >>> from odc.geo.geobox import GeoBox
    >>> box = GeoBox((4, 5), Affine(160, 0, 600000, 0, -160, 5000000), "EPSG:32632")
    >>> rows, columns = cells_under(shapely.Point(600200, 4999990), box)
    >>> rows.tolist(), columns.tolist()
    ([0], [1])
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
    (top, bottom), (left, right) = window_of(geometry.bounds, geobox)
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


def window_of(bounds: tuple[float, float, float, float], geobox: GeoBox) -> Window:
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


def outside(geometries: list[Any], geobox: GeoBox, what: str) -> LabelError:
    """The error for geometries of which none meets the grid."""
    import shapely

    bounds = shapely.total_bounds(np.array(geometries, dtype=object))
    own = geobox.boundingbox
    return LabelError(
        f"No {what} lies on the embedding.",
        found=f"{what} at x {bounds[0]:.6g} to {bounds[2]:.6g}, y {bounds[1]:.6g} to {bounds[3]:.6g}",
        expected=f"x {own.left:.6g} to {own.right:.6g}, y {own.bottom:.6g} to {own.top:.6g}"
        + (f" in {geobox.crs}" if geobox.crs is not None else ""),
        remedy="check the CRS (a wrong set_crs, or swapped x and y), or embed the scene where they lie",
    )
