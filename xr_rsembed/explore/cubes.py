"""Vector cubes: the embedding of points and polygons, through xvec."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import LabelError, MissingDependencyError, OptionError, RsEmbedWarning
from xr_rsembed.explore.cells import check_cells, computed
from xr_rsembed.explore.cover import (
    Window,
    cells_at,
    geopandas_or_error,
    in_grid_crs,
    outside,
    window_of,
)
from xr_rsembed.georef import geobox_coords, scene_geobox

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["sample", "zonal"]

_STATS = (
    "mean",
    "median",
    "min",
    "max",
    "sum",
    "stdev",
    "variance",
    "count",
    "quantile",
    "majority",
    "minority",
    "variety",
    "coefficient_of_variation",
)
_REGION = 224  # polygons are read together by squares of so many cells: at D = 768 that is 150 MB


def sample(emb: xr.DataArray, points: Any, *, crs: Any = None) -> xr.DataArray:
    """The vectors of the cells that hold some points.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
    points : GeoDataFrame, GeoSeries or sequence of shapely points
        In any CRS.
    crs : optional
        Of plain shapely points; by default the embedding's own.

    Returns
    -------
    DataArray, dims (geometry, ..., D)
        In the order of the points, lazy where the embedding is. ``geometry`` is indexed by xvec, in the embedding's
        CRS; the other columns of a GeoDataFrame are coords along it. NaN for points outside or on invalid cells.

    Raises
    ------
    LabelError
        If a geometry is no point, or no point lies on the embedding.
    MissingDependencyError
        Without geopandas and xvec.

    Warns
    -----
    RsEmbedWarning
        Of points outside.

    Examples
    --------
    >>> import shapely
    >>> emb = xr.DataArray(np.arange(6.0).reshape(2, 1, 3), dims=("D", "y", "x"))
    >>> cube = sample(emb, [shapely.Point(2.4, 0.5), shapely.Point(0.2, 0.1)])
    >>> cube.dims, cube.values.tolist()
    (('geometry', 'D'), [[2.0, 5.0], [0.0, 3.0]])
    """
    check_cells(emb)
    geobox = scene_geobox(emb)
    frame = _frame(points, crs, geobox, "sample()")
    if not (frame.geom_type == "Point").all() or frame.is_empty.any():
        raise LabelError(
            "sample() takes points.",
            found=", ".join(sorted({str(kind) for kind in frame.geom_type})),
            expected="Point",
            remedy="emb.rsembed.zonal(polygons) for areas",
        )
    *_, inside = cells_at(frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy(), geobox)
    _check_inside(inside, frame, geobox, "point")
    cube = _placed(emb, geobox).xvec.extract_points(frame.geometry, "x", "y", name="geometry")
    if not inside.all():
        cube = cube.where(xr.DataArray(inside, dims="geometry"))
    return _with_columns(cube.transpose("geometry", ..., "D").rename("embedding"), frame)


def zonal(emb: xr.DataArray, polygons: Any, stat: str = "mean", *, crs: Any = None) -> xr.DataArray:
    """One vector for each polygon, from the cells that it covers, weighted by how much of each it covers.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
        The cells around a polygon are held in memory, those of other polygons only where they are near.
    polygons : GeoDataFrame, GeoSeries or sequence of shapely polygons
        In any CRS.
    stat : str
        Of exactextract: "mean", "median", "min", "max", "sum", "stdev", "variance", "count", "quantile(q=0.9)", ...
    crs : optional
        Of plain shapely polygons; by default the embedding's own.

    Returns
    -------
    DataArray, dims (geometry, ..., D), float32
        In memory, in the order of the polygons; ``geometry`` is indexed by xvec, in the embedding's CRS. Invalid cells
        are left out; NaN for a polygon without a valid one.

    Raises
    ------
    LabelError
        If a geometry is no polygon, or no polygon lies on the embedding.
    OptionError
        For another ``stat``.
    MissingDependencyError
        Without geopandas, xvec and exactextract.

    Warns
    -----
    RsEmbedWarning
        Of polygons outside.

    Examples
    --------
    >>> import shapely
    >>> emb = xr.DataArray([[[1.0, 4.0]]], dims=("D", "y", "x"))
    >>> zonal(emb, [shapely.box(0.5, 0, 2, 1)]).values.tolist()
    [[3.0]]
    """
    check_cells(emb)
    if stat.partition("(")[0] not in _STATS:
        raise OptionError("There is no such statistic.", found=f"stat={stat!r}", expected=", ".join(_STATS))
    geobox = scene_geobox(emb)
    frame = _frame(polygons, crs, geobox, "zonal()")
    if not frame.geom_type.isin(["Polygon", "MultiPolygon"]).all():
        raise LabelError(
            "zonal() takes polygons.",
            found=", ".join(sorted({str(kind) for kind in frame.geom_type})),
            expected="Polygon or MultiPolygon",
            remedy="emb.rsembed.sample(points) for points",
        )
    regions = _regions(frame, geobox)
    inside = np.zeros(len(frame), dtype=bool)
    inside[[index for indices in regions.values() for index in indices]] = True
    _check_inside(inside, frame, geobox, "polygon")
    ordered = _placed(emb, geobox).transpose(..., "D", "y", "x")
    leading = ordered.dims[:-3]
    shape = (len(frame), *(emb.sizes[dim] for dim in leading), emb.sizes["D"])
    values = np.full(shape, np.nan, dtype="float32")
    for indices in regions.values():
        values[indices] = _statistics(ordered, frame.geometry.iloc[indices], stat, geobox)
    coords = {
        name: coord
        for name, coord in ordered.coords.items()
        if not {"y", "x"} & {*coord.dims, name} and name != "geometry"
    }
    cube = xr.DataArray(
        values,
        dims=("geometry", *leading, "D"),
        coords={**coords, "geometry": frame.geometry.to_numpy()},
        name="embedding",
        attrs={**emb.attrs, "zonal_statistic": stat},
    )
    return _with_columns(cube.xvec.set_geom_indexes("geometry", crs=frame.crs), frame)


def _frame(features: Any, crs: Any, geobox: GeoBox, doing: str) -> Any:
    """Features as a GeoDataFrame in the grid's CRS."""
    geopandas = geopandas_or_error(doing)
    try:
        import exactextract  # noqa: F401
        import rioxarray  # noqa: F401  (exactextract reads the grid through it)
        import xvec  # noqa: F401  (registers .xvec)
    except ImportError as error:
        raise MissingDependencyError(
            f"{doing} needs xvec and exactextract.",
            found=f"no package {error.name}",
            remedy="pip install 'xr-rsembed[vector]'",
        ) from error
    if isinstance(features, geopandas.GeoSeries):
        features = features.to_frame("geometry")
    if not isinstance(features, geopandas.GeoDataFrame):
        if hasattr(features, "geom_type") or not isinstance(features, Sequence | np.ndarray):
            features = [features]
        own = crs if crs is not None or geobox.crs is None else geobox.crs.proj
        features = geopandas.GeoDataFrame(geometry=list(features), crs=own)
    if not len(features):
        raise LabelError(f"{doing} was given no geometry.", found="0 rows", expected="at least one")
    return in_grid_crs(features, geobox, "geometries")


def _placed(emb: xr.DataArray, geobox: GeoBox) -> xr.DataArray:
    """The embedding with coords y and x, by which xvec finds cells."""
    if "y" in emb.coords and "x" in emb.coords:
        return emb
    return emb.assign_coords(geobox_coords(geobox))


def _check_inside(inside: np.ndarray, frame: Any, geobox: GeoBox, what: str) -> None:
    if not inside.any():
        raise outside(list(frame.geometry), geobox, what)
    if not inside.all():
        warnings.warn(
            f"{int((~inside).sum())} of {len(inside)} {what}s lie outside the embedding and get NaN.",
            RsEmbedWarning,
            stacklevel=3,
        )


def _regions(frame: Any, geobox: GeoBox) -> dict[tuple[int, int], list[int]]:
    """Polygons that meet the grid, by the square of cells in which their window begins."""
    regions = defaultdict(list)
    for index, polygon in enumerate(frame.geometry):
        if polygon is None or polygon.is_empty:
            continue
        (top, bottom), (left, right) = window_of(polygon.bounds, geobox)
        if top < bottom and left < right:
            regions[top // _REGION, left // _REGION].append(index)
    return dict(regions)


def _statistics(emb: xr.DataArray, polygons: Any, stat: str, geobox: GeoBox) -> np.ndarray:
    """The statistic of some polygons that lie near each other, shape (polygon, ..., D)."""
    from affine import Affine

    (top, bottom), (left, right) = _union([window_of(polygon.bounds, geobox) for polygon in polygons])
    part = computed(emb.isel(y=slice(top, bottom), x=slice(left, right)))
    # A window of one row or column no longer tells the size of its cells.
    part = part.rio.write_transform(geobox.affine * Affine.translation(left, top))
    if geobox.crs is None:  # exactextract wants one; areas are plane anyway
        part, polygons = part.rio.write_crs(3857), polygons.set_crs(3857)
    cube = part.xvec.zonal_stats(polygons, "x", "y", stats=stat, method="exactextract")
    found: np.ndarray = cube.transpose("geometry", *emb.dims[:-2]).values
    return found


def _union(windows: Sequence[Window]) -> Window:
    rows, columns = zip(*windows, strict=True)
    top, bottom = (pick(edge) for pick, edge in zip((min, max), zip(*rows, strict=True), strict=True))
    left, right = (pick(edge) for pick, edge in zip((min, max), zip(*columns, strict=True), strict=True))
    return (top, bottom), (left, right)


def _with_columns(cube: xr.DataArray, frame: Any) -> xr.DataArray:
    """What a GeoDataFrame knows of its geometries, as coords; the cube's own names go first."""
    taken = {*cube.dims, *cube.coords, frame.geometry.name}
    columns = {str(name): ("geometry", frame[name].to_numpy()) for name in frame.columns if name not in taken}
    return cube.assign_coords(columns)
