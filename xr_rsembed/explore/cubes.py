"""Vector cubes: the embedding of points and polygons, indexed by xvec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import LabelError, warn
from xr_rsembed.explore.cells import check_cells
from xr_rsembed.explore.polygons import cells_at, coverage, outside, read_features
from xr_rsembed.explore.statistics import polygon_statistic, quantile_of
from xr_rsembed.extras import require
from xr_rsembed.georef import scene_geobox

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


def sample(emb: xr.DataArray, points: Any, *, crs: Any = None) -> xr.DataArray:
    """The vectors of the cells that hold some points.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
    points : GeoDataFrame, GeoSeries, GeoJSON, path, shapely points, or pairs (x, y)
        In any CRS.
    crs : optional
        Of plain points and pairs; by default the embedding's own.

    Returns
    -------
    DataArray, dims (geometry, ..., D)
        In the order of the points, lazy where the embedding is. ``geometry`` is indexed by xvec, in the embedding's
        CRS; the index and other columns of a GeoDataFrame are coords along it. A row without a vector is NaN, and
        coord ``error`` says why: no geometry, outside, or an invalid cell (of a lazy embedding not known yet).

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
    frame = _frame(points, crs, geobox, "sample()", ("Point",), "emb.rsembed.zonal(polygons) for areas")
    placed = frame.geometry.where(~_bare(frame))
    rows, columns, inside = cells_at(placed.x, placed.y, geobox)
    errors = _errors(inside, frame, geobox, "point")
    indexers = {"y": xr.DataArray(rows, dims="geometry"), "x": xr.DataArray(columns, dims="geometry")}
    found = emb.drop_vars(["y", "x", "geometry"], errors="ignore").isel(indexers)
    if not inside.all():
        found = found.where(xr.DataArray(inside, dims="geometry"))
    cube = found.transpose("geometry", ..., "D").rename("embedding")
    if cube.chunks is None:
        errors = _name_empty(errors, cube)
    return label_rows(cube, frame, errors)


def zonal(emb: xr.DataArray, polygons: Any, stat: str = "mean", *, crs: Any = None) -> xr.DataArray:
    """One vector for each polygon, from the cells that it covers, weighted by how much of each it covers.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
        A lazy one is read in one pass, chunk by chunk; only chunks under a polygon are computed.
    polygons : GeoDataFrame, GeoSeries, GeoJSON, path, or shapely polygons
        In any CRS.
    stat : str
        "mean", "sum", "count", "min", "max", "stdev", "variance", "coefficient_of_variation", "median" or
        "quantile(q=0.9)", each as exactextract defines it. The last two hold all covered cells in memory.
    crs : optional
        Of plain shapely polygons; by default the embedding's own.

    Returns
    -------
    DataArray, dims (geometry, ..., D), float32
        In memory, in the order of the polygons; ``geometry`` is indexed by xvec, in the embedding's CRS; the index and
        other columns of a GeoDataFrame are coords along it. Invalid cells are left out. A row without a vector is
        NaN, and coord ``error`` says why.

    Raises
    ------
    LabelError
        If a geometry is no polygon, or no polygon lies on the embedding.
    GridError
        If the embedding's coords have gaps.
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
    quantile_of(stat)  # raises where there is no such statistic
    geobox = scene_geobox(emb)
    require("exactextract", "zonal()")
    kinds = ("Polygon", "MultiPolygon")
    frame = _frame(polygons, crs, geobox, "zonal()", kinds, "emb.rsembed.sample(points) for points")
    cover = coverage(frame.geometry, geobox)
    inside = np.isin(np.arange(len(frame)), cover.polygon)
    errors = _errors(inside, frame, geobox, "polygon")
    ordered = emb.drop_vars("geometry", errors="ignore").transpose(..., "D", "y", "x")
    found = polygon_statistic(ordered, cover, len(frame), stat)
    cube = xr.DataArray(
        np.moveaxis(found, -1, 0).astype("float32"),
        dims=("geometry", *ordered.dims[:-2]),
        coords={name: one for name, one in ordered.coords.items() if not {"y", "x"} & {*one.dims, name}},
        name="embedding",
        attrs={**emb.attrs, "zonal_statistic": stat},
    )
    valid = cube if stat != "count" else cube.where(cube > 0)
    return label_rows(cube, frame, _name_empty(errors, valid))


# --- the table of places ----------------------------------------------------------------------------------------


def _frame(features: Any, crs: Any, geobox: GeoBox, doing: str, kinds: tuple[str, ...], other: str) -> Any:
    """Features of the right kind as a GeoDataFrame in the grid's CRS; rows may lack their geometry."""
    require("xvec", doing)  # registers .xvec
    frame = read_features(features, crs, geobox, doing)
    wrong = ~_bare(frame) & ~frame.geom_type.isin(kinds)
    if wrong.any():
        raise LabelError(
            f"{doing} takes {kinds[0].lower()}s.",
            found=", ".join(sorted({str(kind) for kind in frame.geom_type[wrong]})),
            expected=" or ".join(kinds),
            remedy=other,
        )
    return frame


def _bare(frame: Any) -> Any:
    """Which rows have no geometry."""
    return frame.geometry.isna() | frame.geometry.is_empty


def _errors(inside: np.ndarray, frame: Any, geobox: GeoBox, what: str) -> np.ndarray:
    """Why a row has no vector, as far as its geometry tells; raises where none lies on the grid."""
    if not inside.any():
        raise outside(list(frame.geometry), geobox, what)
    bare = _bare(frame).to_numpy()
    beyond = ~inside & ~bare
    lost = [f"{beyond.sum()} of {len(frame)} {what}s lie outside the embedding"] if beyond.any() else []
    lost += [f"{bare.sum()} of {len(frame)} rows have no geometry"] if bare.any() else []
    if lost:
        warn(f"{' and '.join(lost)}: NaN, and coord 'error' says why.")
    return np.select([bare, beyond], ["no geometry", "outside the embedding"], "").astype(object)


def _name_empty(errors: np.ndarray, cube: xr.DataArray) -> np.ndarray:
    """The errors with those rows named that met no valid cell."""
    empty = cube.isnull().all([dim for dim in cube.dims if dim != "geometry"]).values
    errors[empty & (errors == "")] = "no valid cell"
    return errors


def label_rows(cube: xr.DataArray, frame: Any, errors: np.ndarray) -> xr.DataArray:
    """The cube with its geometries, why rows are empty, and what a GeoDataFrame knows of them."""
    import shapely

    shapes = frame.geometry.to_numpy().copy()
    shapes[_bare(frame).to_numpy()] = shapely.Point()
    cube = cube.assign_coords(geometry=("geometry", shapes), error=("geometry", errors.astype(str)))
    cube = cube.xvec.set_geom_indexes("geometry", crs=frame.crs)
    table = frame.drop(columns=frame.geometry.name)
    has_index = table.index.names != [None] or table.index.tolist() != [*range(len(table))]
    table = table.reset_index() if has_index and not {*table.index.names} & {*table.columns} else table
    taken = {*cube.dims, *cube.coords}
    columns = {str(name): ("geometry", table[name].to_numpy()) for name in table.columns if name not in taken}
    return cube.assign_coords(columns)
