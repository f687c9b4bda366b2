"""What every analysis stands on: the cells of an embedding, mapped lazily or sampled a window at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import nullcontext
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.config import get_option
from xr_rsembed.errors import MissingDependencyError, SceneError

__all__ = [
    "check_cells",
    "computed",
    "map_cells",
    "progress_bar",
    "sample_cells",
    "sklearn_or_error",
    "unit",
    "valid",
    "whole_vectors",
]

# A block of the engine, so that a window of a lazy embedding costs one block; fixed, so that what is fitted on a
# sample does not depend on the chunks.
_WINDOW = 112
_AT_ONCE = 2_000_000  # numbers that a function of vectors takes at once, in whole rows of cells
_WINDOWS = 16  # a sample comes from about so many: each of them may cost a run of the model


def check_cells(emb: xr.DataArray) -> None:
    """Raise unless this is a grid of embedding vectors.

    Raises
    ------
    SceneError
        If it is no DataArray with dims D, y and x, or an axis is empty.
    """
    if isinstance(emb, xr.DataArray) and {"D", "y", "x"} <= set(emb.dims) and emb.size:
        return
    found = (
        ", ".join(f"{dim} {size}" for dim, size in emb.sizes.items()) or "no dims"
        if isinstance(emb, xr.DataArray)
        else type(emb).__name__
    )
    raise SceneError(
        "This is no grid of embedding vectors.",
        found=found,
        expected="a DataArray with dims (..., D, y, x)",
        remedy='da.rsembed.embed("terramind") of a scene gives one, with output="grid"',
    )


def whole_vectors(emb: xr.DataArray) -> xr.DataArray:
    """The embedding with D in one chunk, which every function of whole vectors needs."""
    return emb if emb.chunks is None else emb.chunk({"D": -1})


def valid(vectors: np.ndarray) -> np.ndarray:
    """Which vectors are finite in all of D, the last axis."""
    found: np.ndarray = np.isfinite(vectors).all(axis=-1)
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1 along the last axis; a zero vector stays one.

    Examples
    --------
    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def map_cells(
    emb: xr.DataArray, function: Callable[[np.ndarray], np.ndarray], dim: Hashable, size: int
) -> xr.DataArray:
    """Apply a function of vectors to every valid cell, lazily where the embedding is lazy.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
    function : callable
        From float32 (n, D) to (n, size); it never sees an invalid cell.
    dim : str
        The dim that takes the place of D.
    size : int

    Returns
    -------
    DataArray, dims (..., dim, y, x), float32
        NaN in invalid cells.
    """
    mapped: xr.DataArray = xr.apply_ufunc(
        _on_valid,
        whole_vectors(emb),
        kwargs={"function": function, "size": size},
        input_core_dims=[["D"]],
        output_core_dims=[[dim]],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {dim: size}},
        keep_attrs=True,  # those of the coords too, where the CRS stands
    )
    return mapped.transpose(..., dim, "y", "x").drop_attrs(deep=False)


def _on_valid(values: np.ndarray, function: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray:
    mapped = np.full((*values.shape[:-1], size), np.nan, dtype="float32")
    rows = max(1, _AT_ONCE // max(1, values[..., :1, :, :].size))
    for start in range(0, values.shape[-3], rows):  # the copies that follow are of these rows alone
        part = (..., slice(start, start + rows), slice(None), slice(None))
        usable = valid(values[part])
        if usable.any():
            mapped[part][usable] = function(values[part][usable].astype("float32", copy=False))
    return mapped


def sample_cells(
    emb: xr.DataArray, size: int = 20_000, seed: int = 0, read: Callable[..., xr.DataArray] | None = None
) -> np.ndarray:
    """Vectors of valid cells from windows spread at random, read one window at a time.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
    size : int
        About how many cells; fewer where the embedding has fewer.
    seed : int
    read : callable, optional
        In place of ``emb.isel``.

    Returns
    -------
    array, shape (n, D), float32
        The same whatever the chunks.

    Raises
    ------
    SceneError
        If no cell is valid.

    Examples
    --------
    >>> emb = xr.DataArray(np.ones((3, 20, 40), "float32"), dims=("D", "y", "x"))
    >>> sample_cells(emb, 100).shape
    (100, 3)
    """
    check_cells(emb)
    rng = np.random.default_rng(seed)
    windows = list(_windows(emb))
    share = -(-size // min(len(windows), _WINDOWS))
    taken: list[np.ndarray] = []
    with progress_bar():
        for index in rng.permutation(len(windows)):
            vectors = _vectors((read or emb.isel)(windows[index]))
            vectors = vectors[valid(vectors)]
            chosen = rng.choice(len(vectors), min(share, len(vectors)), replace=False)
            taken.append(vectors[np.sort(chosen)])
            if sum(map(len, taken)) >= size:
                break
    vectors = np.concatenate(taken)[:size]
    if not len(vectors):
        raise SceneError(
            "The embedding has no valid cell.",
            found=f"NaN or infinity in all {emb.size // emb.sizes['D']} cells",
            expected="finite vectors",
            remedy="look at the scene's nodata and clouds: emb.isnull().all('D').mean()",
        )
    return vectors


def _windows(emb: xr.DataArray) -> Iterator[Mapping[Hashable, Any]]:
    """Indexers of all windows: one index of every leading dim, and a square of cells."""
    steps = {dim: _WINDOW if dim in ("y", "x") else 1 for dim in emb.dims if dim != "D"}
    axes = [range(0, emb.sizes[dim], step) for dim, step in steps.items()]
    for starts in product(*axes):
        yield {
            dim: slice(start, start + step) for (dim, step), start in zip(steps.items(), starts, strict=True)
        }


def _vectors(emb: xr.DataArray) -> np.ndarray:
    """All cells as rows, float32 (n, D)."""
    values = emb.transpose(..., "D").values.astype("float32", copy=False)
    return values.reshape(-1, emb.sizes["D"])


def computed(lazy: xr.DataArray) -> xr.DataArray:
    """The values in memory, with a progress bar when it takes long."""
    with progress_bar():
        return lazy.compute()


def progress_bar() -> Any:
    """A context with a progress bar for what takes more than three seconds, where option ``progress`` allows it."""
    from dask.diagnostics.progress import ProgressBar

    return ProgressBar(minimum=3.0) if get_option("progress") else nullcontext()


def sklearn_or_error(doing: str) -> None:
    """Raise where scikit-learn is not installed.

    Raises
    ------
    MissingDependencyError
    """
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"{doing} needs scikit-learn.",
            found="no package scikit-learn",
            remedy="pip install 'xr-rsembed[explore]'",
        ) from error
