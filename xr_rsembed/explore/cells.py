"""What every analysis stands on: the cells of an embedding, mapped lazily or sampled a window at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.bands import canonical_name
from xr_rsembed.errors import SceneError, whole_number
from xr_rsembed.explore.once import Read
from xr_rsembed.explore.spaces import check_same_space, space_of
from xr_rsembed.progress import task_progress

# A block of the engine, so that a window of a lazy embedding costs one block; fixed, so that what is fitted on a
# sample does not depend on the chunks.
_WINDOW = 112
_AT_ONCE = 2_000_000  # numbers that a function of vectors takes at once, in whole rows of cells
_WINDOWS = 16  # a sample comes from about so many: each of them may cost a run of the model


def check_cells(emb: Any) -> None:
    """Raise a SceneError unless this is a DataArray with dims D, y and x and no empty axis."""
    if isinstance(emb, xr.DataArray) and {"D", "y", "x"} <= set(emb.dims) and emb.size:
        return
    found, remedy = (
        type(emb).__name__,
        'da.rsembed.embed("terramind") of a scene gives one, with output="grid"',
    )
    if isinstance(emb, xr.DataArray):
        found = ", ".join(f"{dim} {size}" for dim, size in emb.sizes.items()) or "no dims"
    elif isinstance(emb, xr.Dataset | xr.DataTree):
        found += f": {', '.join(map(str, emb))}"
        several = "groups" if isinstance(emb, xr.DataTree) else "variables"
        remedy = f"one of its {several}, such as [{str(next(iter(emb), 'name'))!r}]"
    raise SceneError(
        "This is no grid of embedding vectors.",
        found=found,
        expected="a DataArray with dims (..., D, y, x)",
        remedy=remedy,
    )


def no_valid_cell() -> SceneError:
    """The error for an embedding of which nothing can be drawn, learned or written."""
    return SceneError(
        "The embedding has no valid cell.",
        found="NaN or infinity throughout",
        expected="finite vectors",
        remedy="look at the scene's nodata and clouds: emb.isnull().all('D').mean()",
    )


def named_as_bands(emb: xr.DataArray) -> bool:
    """Whether D has the names of a scene's bands: a GeoTIFF of a scene opens as one of vectors does."""
    names = np.ravel(emb.attrs.get("long_name", ()))
    return names.size > 0 and all(map(canonical_name, names))


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
    emb: xr.DataArray,
    function: Callable[[np.ndarray], np.ndarray],
    dim: Hashable,
    size: int,
    space: Mapping[str, Any],
    fitted: str,
) -> xr.DataArray:
    """Apply a function of vectors to every valid cell, lazily where the embedding is lazy; NaN in invalid cells.

    ``function`` takes float32 (n, D), in any order of memory, to (n, size), and dims (..., D, y, x) become
    (..., dim, y, x). An embedding of another vector space than ``space``, where the function was fitted, raises a
    MismatchError that begins with ``fitted``.
    """
    check_cells(emb)
    check_same_space(space, space_of(emb), fitted)
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
        if usable.all():  # no copy of the rows of a grid in memory
            vectors = values[part].reshape(-1, values.shape[-1])
            mapped[part] = function(vectors.astype("float32", copy=False)).reshape(*usable.shape, size)
        elif usable.any():
            mapped[part][usable] = function(values[part][usable].astype("float32", copy=False))
    return mapped


def sample_cells(
    emb: xr.DataArray, size: int = 20_000, seed: int = 0, read: Read | None = None
) -> np.ndarray:
    """Vectors of valid cells from windows spread at random, read one window at a time: (n, D), float32.

    About ``size`` of them, the same whatever the chunks; ``read`` stands in place of ``emb.isel``.

    Examples
    --------
    >>> emb = xr.DataArray(np.ones((3, 20, 40), "float32"), dims=("D", "y", "x"))
    >>> sample_cells(emb, 100).shape
    (100, 3)
    """
    from dask.array.core import normalize_chunks, slices_from_chunks

    check_cells(emb)
    size = whole_number("sample", size, at_least=1)
    rng = np.random.default_rng(seed)
    steps = {dim: _WINDOW if dim in ("y", "x") else 1 for dim in emb.dims if dim != "D"}
    sizes = [emb.sizes[dim] for dim in steps]
    windows = slices_from_chunks(normalize_chunks(tuple(steps.values()), sizes))
    share = -(-size // min(len(windows), _WINDOWS))
    taken: list[np.ndarray] = []
    with task_progress("sampling cells"):
        for index in rng.permutation(len(windows)):
            window = dict(zip(steps, windows[index], strict=True))
            vectors = (read or emb.isel)(window).transpose(..., "D").values
            places = np.argwhere(valid(vectors))
            chosen = rng.choice(len(places), min(share, len(places)), replace=False)
            taken.append(vectors[tuple(places[np.sort(chosen)].T)].astype("float32", copy=False))
            if sum(map(len, taken)) >= size:
                break
    vectors = np.concatenate(taken)[:size]
    if not len(vectors):
        raise no_valid_cell()
    return vectors


def computed(lazy: xr.DataArray) -> xr.DataArray:
    """The values in memory, with a progress bar where it takes long."""
    with task_progress("computing"):
        return lazy.compute()
