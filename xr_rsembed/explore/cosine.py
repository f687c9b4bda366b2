"""Cosine similarity: where a scene looks like a place, and what has changed between two dates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import LabelError, MismatchError, SceneError, whole_number
from xr_rsembed.explore.cells import check_cells, computed, whole_vectors
from xr_rsembed.explore.once import note_pass
from xr_rsembed.explore.polygons import cells_under, outlines, outside
from xr_rsembed.explore.spaces import check_same_grid, check_same_space, provenance, space_of
from xr_rsembed.extras import require
from xr_rsembed.georef import scene_geobox


def similarity(emb: xr.DataArray, query: Any, *, crs: Any = None) -> xr.DataArray:
    """Cosine similarity of every cell to a place or a vector.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
    query : (x, y), vector, DataArray, geometry, GeoJSON or path
        What to compare with. Two numbers are a point, D numbers a vector. A DataArray with dim D is one vector, or
        with more dims several: each gets its map. Of a geometry (shapely, odc-geo, GeoSeries, GeoDataFrame) the mean
        of the valid cells under it is taken, at each date that of the same date.
    crs : optional
        Of a point or a plain shapely geometry; by default the embedding's own. ``crs=4326`` takes (lon, lat).

    Returns
    -------
    DataArray, dims (..., y, x), float32
        -1 to 1, lazy where the embedding is; NaN in invalid cells, and throughout where the cell asked for is not
        valid.

    Raises
    ------
    LabelError
        If the place lies outside the embedding.
    MismatchError
        If the vector is of another model, or of another length.
    SceneError
        If the embedding is no grid, or the query has other dates.

    Examples
    --------
    >>> emb = xr.DataArray(np.eye(2, dtype="float32").reshape(2, 1, 2), dims=("D", "y", "x"))
    >>> similarity(emb, emb[:, 0, 0]).values
    array([[1., 0.]], dtype=float32)
    """
    check_cells(emb)
    return _cosine(emb, _vector(emb, query, crs), keep=emb).assign_attrs(
        provenance(emb), long_name="cosine similarity", units="1"
    )


def nearest(emb: xr.DataArray, query: Any, k: int = 10, *, crs: Any = None) -> Any:
    """The cells most similar to a place or a vector.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
        A lazy one is computed, a block at a time; only the similarity is held.
    query, crs
        As for :func:`similarity`; one vector. The cell asked for is the first of its own neighbours.
    k : int

    Returns
    -------
    GeoDataFrame
        At most ``k`` rows, the most similar first: the cell's outline, ``score``, its centre ``x`` and ``y``, and the
        leading coords such as ``time``.

    Raises
    ------
    LabelError, MismatchError
        As for :func:`similarity`.
    MissingDependencyError
        Without geopandas.
    OptionError
        If ``k`` is no whole number of at least 1.
    SceneError
        If no cell can be compared.
    """
    geopandas = require("geopandas", "nearest()")
    import shapely

    check_cells(emb)
    k = whole_number("k", k, at_least=1)
    note_pass(emb)
    scores = computed(similarity(emb, query, crs=crs)).transpose(..., "y", "x")
    extra = set(scores.dims) - set(emb.dims)
    if extra:
        raise SceneError(
            "nearest takes one query.", found=f"a query with dims {extra}", expected="one vector"
        )
    flat = np.where(np.isfinite(scores.values), scores.values, -np.inf).ravel()
    best = np.argsort(-flat, kind="stable")[:k]
    best = best[np.isfinite(flat[best])]
    if not len(best):
        raise SceneError(
            "There is nothing to compare.",
            found="no valid cell, or a query on a cell that is not valid",
            expected="a query and cells with finite vectors",
        )
    at = dict(zip(scores.dims, np.unravel_index(best, scores.shape), strict=True))
    columns = {str(dim): scores[dim].values[index] for dim, index in at.items()}  # without coords: the index
    geobox = scene_geobox(emb)
    affine: Any = geobox.affine
    (left, top), (right, bottom) = (affine * (at["x"] + k, at["y"] + k) for k in (0, 1))
    crs_out = geobox.crs.proj if geobox.crs is not None else None
    boxes = shapely.box(left, bottom, right, top)
    return geopandas.GeoDataFrame({"score": flat[best], **columns}, geometry=boxes, crs=crs_out)


def change(emb_a: xr.DataArray, emb_b: xr.DataArray) -> xr.DataArray:
    """How much every cell has changed between two embeddings: 1 minus their cosine similarity.

    Parameters
    ----------
    emb_a, emb_b : DataArray, dims (..., D, y, x)
        On one grid, of one model with the same weights, normalization and layer.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        0 (the same direction) to 2 (the opposite), lazy where an input is; NaN where a cell is invalid in either.

    Raises
    ------
    MismatchError
        If the attrs tell of different models, weights, normalizations, bands or layers.
    GridError
        If the grids differ.
    SceneError
        If leading dims of one name have different labels.

    Examples
    --------
    >>> before = xr.DataArray(np.ones((2, 1, 2), dtype="float32"), dims=("D", "y", "x"))
    >>> after = before * xr.DataArray([[1.0, 1.0], [1.0, -1.0]], dims=("D", "x"))
    >>> change(before, after).values
    array([[0., 1.]], dtype=float32)
    """
    check_cells(emb_a)
    check_cells(emb_b)
    check_same_space(space_of(emb_a), space_of(emb_b), "change()")
    check_same_grid(emb_a, emb_b, "change()")
    _check_labels(emb_a, emb_b)
    # Coords that agree to a hundredth of a cell are the same cells; xarray would join them by exact value.
    same = {dim: emb_a[dim] for dim in ("D", "y", "x") if dim in emb_a.coords}
    alike = _cosine(emb_a, emb_b.assign_coords(same), keep=emb_a)
    return (1 - alike).assign_attrs(provenance(emb_a), long_name="1 - cosine similarity", units="1")


def _check_labels(one: xr.DataArray, other: xr.DataArray) -> None:
    for dim in set(one.dims) & set(other.dims) - {"D", "y", "x"}:
        if not one[dim].equals(other[dim]):
            raise SceneError(
                f"The two have different labels along {dim}.",
                found=f"{other[dim].values}",
                expected=f"{one[dim].values}",
                remedy=f"choose one of each: isel({dim}=0)",
            )


def _cosine(one: xr.DataArray, other: xr.DataArray, keep: xr.DataArray) -> xr.DataArray:
    """Cosine along D, with the dims of ``keep`` last and in their order."""
    found: xr.DataArray = xr.apply_ufunc(
        _cosines,
        whole_vectors(one),
        whole_vectors(other),
        input_core_dims=[["D"], ["D"]],
        join="exact",
        dask="parallelized",
        output_dtypes=[np.float32],
        keep_attrs=True,  # those of the coords too, where the CRS stands
    )
    return found.transpose(..., *[dim for dim in keep.dims if dim != "D"]).rename(None).drop_attrs(deep=False)


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = (vectors.astype("float32", copy=False) for vectors in (one, other))
    dot, first, second = (
        np.einsum("...d,...d->...", a, b) for a, b in ((one, other), (one, one), (other, other))
    )
    with np.errstate(invalid="ignore", divide="ignore"):  # a zero vector has no direction: NaN
        cosine: np.ndarray = np.clip(dot / (np.sqrt(first) * np.sqrt(second)), -1, 1)
    return cosine.astype("float32", copy=False)


def _vector(emb: xr.DataArray, query: Any, crs: Any) -> xr.DataArray:
    """The query as vectors with dim D."""
    if isinstance(query, xr.DataArray):
        return _labelled_vector(emb, query)
    named = isinstance(query, Mapping | str | os.PathLike)  # GeoJSON or a file
    if named or hasattr(query, "geom_type") or hasattr(query, "geometry"):
        return _mean_under(emb, query, crs)
    values = np.asarray(query)
    if values.shape == (2,) and emb.sizes["D"] != 2:
        import shapely

        return _mean_under(emb, shapely.Point(values), crs)
    if values.shape != (emb.sizes["D"],) or values.dtype.kind not in "fiu":
        raise MismatchError(
            "The query is neither a place nor a vector of this embedding.",
            found=f"{type(query).__name__} of shape {values.shape}",
            expected=f"(x, y), {emb.sizes['D']} numbers, a DataArray with dim D, a geometry, or GeoJSON",
        )
    return xr.DataArray(values.astype("float32"), dims="D")


def _labelled_vector(emb: xr.DataArray, query: xr.DataArray) -> xr.DataArray:
    if "D" not in query.dims or {"y", "x"} & set(query.dims):
        raise MismatchError(
            "A query is one vector, not a grid.",
            found=f"dims {query.dims}",
            expected="dims (D,) or (..., D) without y and x",
            remedy='emb.sel(x=x, y=y, method="nearest"), or xr_rsembed.change(emb, query) for two grids',
        )
    if space_of(query).keys() > {"D"} or query.sizes["D"] != emb.sizes["D"]:
        check_same_space(space_of(emb), space_of(query), "similarity()")
    _check_labels(emb, query)
    return query.reset_coords(drop=True).drop_vars("D", errors="ignore")


def _mean_under(emb: xr.DataArray, geometry: Any, crs: Any) -> xr.DataArray:
    """The mean vector of the valid cells under a geometry, lazily; dims (..., D)."""
    geobox = scene_geobox(emb)
    geometries = outlines(geometry, crs, geobox)
    found = [np.stack(cells_under(one, geobox)) for one in geometries]
    cells = np.unique(np.concatenate(found, axis=1), axis=1)  # each once, also under two that overlap
    if not cells.size:
        raise outside(geometries, geobox, "geometry")
    rows, columns = (xr.DataArray(axis, dims="cell") for axis in cells)
    mean: xr.DataArray = emb.isel(y=rows, x=columns).mean("cell", skipna=True)
    if emb.chunks is None and not np.isfinite(mean.values).any():
        raise LabelError(
            "The place asked for has no valid cell.",
            found=f"{cells.shape[1]} cells, all NaN",
            expected="a finite vector",
            remedy="another place, away from nodata and clouds",
        )
    return mean.reset_coords(drop=True).drop_vars("D", errors="ignore")
