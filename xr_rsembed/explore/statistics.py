"""Statistics of cells under polygons: one pass over the blocks, one product over D."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import OptionError
from xr_rsembed.explore.polygons import Coverage
from xr_rsembed.progress import task_progress

_STATS = ("mean", "sum", "count", "min", "max", "stdev", "variance", "coefficient_of_variation", "median")
_SIDE = 128  # cells a side that are read at once from an array in memory


def quantile_of(stat: str) -> float | None:
    """The q of a median or quantile, None of another statistic; an OptionError where there is no such one."""
    match = re.fullmatch(r"quantile\(\s*(?:q\s*=\s*)?(\d+\.?\d*|\.\d+)\s*\)", str(stat))
    if match and 0 <= float(match[1]) <= 1:
        return float(match[1])
    if stat not in _STATS:
        expected = ", ".join([*_STATS, "quantile(q=0.9)"])
        raise OptionError("There is no such statistic.", found=f"stat={stat!r}", expected=expected)
    return 0.5 if stat == "median" else None


def polygon_statistic(emb: xr.DataArray, cover: Coverage, count: int, stat: str) -> np.ndarray:
    """The statistic of ``count`` polygons over their valid cells, weighted by the share covered of each.

    float64, shape (..., D, polygon); NaN for a polygon without a valid cell.
    """
    quantile = quantile_of(stat)
    if quantile is not None:
        return _quantiles(emb, cover, count, quantile)
    shape = (*emb.shape[:-2], count)
    if stat in ("min", "max"):
        extreme, found = np.fmin if stat == "min" else np.fmax, np.full(shape, np.nan)
        for at, part in _of_blocks(emb, cover, partial(_extremes, extreme)):
            found[at] = extreme(found[at], part)
        return found
    weight, mean, squares = np.zeros((3, *shape))
    # Joined by Chan's update: no sum of squares that cancels.
    for at, part in _of_blocks(emb, cover, partial(_moments, stat not in ("mean", "sum", "count"))):
        before, away, total = weight[at], part[1] - mean[at], weight[at] + part[0]
        share = _divided(part[0], total, 0.0)
        squares[at] += part[2] + away**2 * before * share
        mean[at] += away * share
        weight[at] = total
    mean = np.where(weight > 0, mean, np.nan)
    if stat in ("mean", "sum", "count"):
        return {"mean": mean, "sum": mean * weight, "count": weight}[stat]
    variance = _divided(squares, weight, np.nan)
    if stat == "variance":
        return variance
    return np.sqrt(variance) if stat == "stdev" else np.sqrt(variance) / mean


def _of_blocks(
    emb: xr.DataArray, cover: Coverage, function: Callable[..., Any]
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """What ``function`` says of each block's polygons, and where they stand in (..., D, polygon); one pass."""
    from dask.base import compute
    from dask.delayed import delayed

    if emb.chunks is None:
        for at, values, entries in _blocks(emb, cover):
            yield at, function(values, *entries)
        return
    blocks, job = list(_blocks(emb, cover)), delayed(function, pure=False)
    with task_progress("zonal statistics"):
        parts = compute(*[job(values, *entries) for _, values, entries in blocks])
    for (at, _, _), part in zip(blocks, parts, strict=True):
        yield at, part


def _blocks(
    emb: xr.DataArray, cover: Coverage
) -> Iterator[tuple[tuple[Any, ...], Any, tuple[np.ndarray, ...]]]:
    """Blocks under polygons: where these stand in (..., D, polygon), the values, and which cells are whose."""
    from dask.array.core import normalize_chunks

    chunks = emb.chunks or normalize_chunks((*(-1,) * (emb.ndim - 2), _SIDE, _SIDE), emb.shape)
    edges = [np.cumsum([0, *sizes]) for sizes in chunks]
    in_row, in_column = (
        np.searchsorted(edge, at, "right") - 1
        for edge, at in zip(edges[-2:], (cover.row, cover.column), strict=True)
    )
    delayed = emb.data.to_delayed() if emb.chunks else None
    block = in_row * len(chunks[-1]) + in_column
    order = np.argsort(block, kind="stable")  # polygons stay sorted within a block
    for entries in np.split(order, np.flatnonzero(np.diff(block[order])) + 1) if order.size else ():
        i, j = in_row[entries[0]], in_column[entries[0]]
        row, column = cover.row[entries] - edges[-2][i], cover.column[entries] - edges[-1][j]
        polygons, starts = np.unique(cover.polygon[entries], return_index=True)
        for index in product(*(range(len(sizes)) for sizes in chunks[:-2])):
            window = tuple(slice(*edge[k : k + 2]) for edge, k in zip(edges[:-2], index, strict=True))
            place = (slice(*edges[-2][i : i + 2]), slice(*edges[-1][j : j + 2]))
            values = emb.variable[(*window, *place)].values if delayed is None else delayed[(*index, i, j)]
            yield (*window, polygons), values, (row, column, cover.share[entries], starts)


def _extremes(
    extreme: np.ufunc, values: np.ndarray, row: Any, column: Any, share: Any, starts: Any
) -> np.ndarray:
    """The least or the greatest values of a block's polygons, (..., D, polygon)."""
    cells = values[..., row, column].astype("float64", copy=False)
    return extreme.reduceat(cells, starts, axis=-1)


def _moments(
    spread: bool, values: np.ndarray, row: Any, column: Any, share: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Weight, mean and, where wanted, squares about the mean of a block's polygons, each (..., D, polygon)."""
    cells = values[..., row, column].astype("float64", copy=False)
    absent, weights = np.isnan(cells), share
    if absent.any():
        weights, cells = np.where(absent, 0.0, share), np.where(absent, 0.0, cells)
    weight = np.add.reduceat(weights, starts, axis=-1)
    mean = _divided(np.add.reduceat(cells * weights, starts, axis=-1), weight, 0.0)
    if not spread:
        return weight, mean, 0.0
    away = cells - np.repeat(mean, np.diff([*starts, len(share)]), axis=-1)
    return weight, mean, np.add.reduceat(weights * away**2, starts, axis=-1)


def _divided(one: np.ndarray, by: np.ndarray, otherwise: float) -> np.ndarray:
    shape = np.broadcast_shapes(one.shape, by.shape)
    return np.divide(one, by, out=np.full(shape, otherwise), where=by > 0)


def _quantiles(emb: xr.DataArray, cover: Coverage, count: int, q: float) -> np.ndarray:
    """A weighted quantile of every polygon, shape (..., D, polygon)."""
    cells, at = np.unique(np.stack([cover.row, cover.column]), axis=1, return_inverse=True)
    row, column = (xr.DataArray(axis, dims="cell") for axis in cells)
    with task_progress("zonal statistics"):
        values = emb.isel(y=row, x=column).transpose(..., "cell").values
    found = np.full((*values.shape[:-1], count), np.nan)
    for polygon in np.unique(cover.polygon):
        own = cover.polygon == polygon
        found[..., polygon] = _weighted_quantile(values[..., at.ravel()[own]], cover.share[own], q)
    return found


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, q: float) -> np.ndarray:
    """Along the last axis, without NaN, as exactextract interpolates; with equal weights numpy's own.

    Examples
    --------
    >>> _weighted_quantile(np.array([4.0, 1.0, np.nan, 2.0]), np.ones(4), 0.25)
    array(1.5)
    """
    order = np.argsort(values, axis=-1)  # NaN last
    x = np.take_along_axis(values, order, -1).astype("float64")
    w = np.where(np.isnan(x), 0.0, weights[order])
    n = (~np.isnan(x)).sum(axis=-1, keepdims=True)
    position = np.arange(x.shape[-1]) * w + (n - 1) * (np.cumsum(w, axis=-1) - w)
    wanted = q * (n - 1) * w.sum(axis=-1, keepdims=True)
    right = np.clip((position <= wanted).sum(axis=-1, keepdims=True), 0, np.maximum(n - 1, 0))
    left = np.maximum(right - 1, 0)
    (x0, x1), (s0, s1) = ([np.take_along_axis(a, k, -1) for k in (left, right)] for a in (x, position))
    share = np.divide(wanted - s0, s1 - s0, out=np.ones_like(s0), where=s1 > s0)
    return (x0 + np.minimum(share, 1.0) * (x1 - x0))[..., 0]
