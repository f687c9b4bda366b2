"""Statistics of cells under polygons: one pass over the blocks, one product over D."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import OptionError
from xr_rsembed.explore.cover import Coverage
from xr_rsembed.progress import task_progress

_STATS = ("mean", "sum", "count", "min", "max", "stdev", "variance", "coefficient_of_variation", "median")
_SIDE = 128  # cells a side that are read at once from an array in memory

State = dict[str, np.ndarray]


def quantile_of(stat: str) -> float | None:
    """The q of a median or quantile, None of another statistic; an OptionError where there is no such one."""
    match = re.fullmatch(r"quantile\(\s*(?:q\s*=\s*)?([\d.]+)\s*\)", str(stat))
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
    return _statistic(_reduced(emb, cover, count, stat), stat)


def _reduced(emb: xr.DataArray, cover: Coverage, count: int, stat: str) -> State:
    """The state of all polygons, shape (..., D, polygon), from one pass over the blocks that they touch."""
    from dask.base import compute
    from dask.delayed import delayed

    shape = (*emb.shape[:-2], count)
    state = {
        "weight": np.zeros(shape),
        "mean": np.zeros(shape),
        "squares": np.zeros(shape),
        "min": np.full(shape, np.nan),
        "max": np.full(shape, np.nan),
    }
    blocks = _blocks(emb, cover)
    if emb.chunks is None:
        for window, polygons, values, entries in blocks:
            _merge(state, (*window, polygons), _block_state(values, entries, stat))
        return state
    jobs, block_state = list(blocks), delayed(_block_state, pure=False)
    with task_progress("zonal statistics"):
        parts = compute(*[block_state(values, entries, stat) for _, _, values, entries in jobs])
    for (window, polygons, _, _), part in zip(jobs, parts, strict=True):
        _merge(state, (*window, polygons), part)
    return state


def _blocks(
    emb: xr.DataArray, cover: Coverage
) -> Iterator[tuple[tuple[slice, ...], np.ndarray, Any, tuple[np.ndarray, ...]]]:
    """Blocks under polygons: where they lie in the leading dims, which polygons, the values, and the entries."""
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
            yield window, polygons, values, (row, column, cover.share[entries], starts)


def _block_state(values: np.ndarray, entries: tuple[np.ndarray, ...], stat: str) -> State:
    """What one block, shape (..., D, y, x), says of its polygons, shape (..., D, polygon)."""
    row, column, share, starts = entries
    cells = values[..., row, column].astype("float64", copy=False)
    if stat in ("min", "max"):
        reduce = np.fmin if stat == "min" else np.fmax
        return {stat: reduce.reduceat(cells, starts, axis=-1)}
    absent = np.isnan(cells)
    weights: np.ndarray = share
    if absent.any():
        weights, cells = np.where(absent, 0.0, share), np.where(absent, 0.0, cells)
    weight = np.add.reduceat(weights, starts, axis=-1)
    total = np.add.reduceat(cells * weights, starts, axis=-1)
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    state = {"weight": np.broadcast_to(weight, mean.shape), "mean": mean}
    if stat not in ("mean", "sum", "count"):
        away = cells - np.repeat(mean, np.diff([*starts, len(share)]), axis=-1)
        state["squares"] = np.add.reduceat(weights * away**2, starts, axis=-1)
    return state


def _merge(state: State, at: tuple[Any, ...], part: State) -> None:
    """Join two sets of cells, moments by Chan's update: no sum of squares that cancels."""
    for name, join in (("min", np.fmin), ("max", np.fmax)):
        if name in part:
            state[name][at] = join(state[name][at], part[name])
    if "mean" not in part:
        return
    before, total = state["weight"][at], state["weight"][at] + part["weight"]
    away = part["mean"] - state["mean"][at]
    share = np.divide(part["weight"], total, out=np.zeros_like(total), where=total > 0)
    if "squares" in part:
        state["squares"][at] += part["squares"] + away**2 * before * share
    state["mean"][at] += away * share
    state["weight"][at] = total


def _statistic(state: State, stat: str) -> np.ndarray:
    if stat in ("min", "max"):
        return state[stat]
    weight = state["weight"]
    mean = np.where(weight > 0, state["mean"], np.nan)
    if stat in ("mean", "sum", "count"):
        return {"mean": mean, "sum": mean * weight, "count": weight}[stat]
    variance = np.divide(state["squares"], weight, out=np.full_like(weight, np.nan), where=weight > 0)
    spread = np.sqrt(variance)
    return {"variance": variance, "stdev": spread, "coefficient_of_variation": spread / mean}[stat]


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
