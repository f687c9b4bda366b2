"""One run of the model for what is fitted on some cells and then maps all: blocks that were read stay in memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import xarray as xr

from xr_rsembed.errors import warn

P = ParamSpec("P")
T = TypeVar("T")
Read = Callable[[Mapping[Hashable, Any]], xr.DataArray]  # such as ``emb.isel``

_LAYER = "rsembed-"  # dask layers of the engine begin so
_seen: dict[str, bool] = {}  # names of lazy embeddings that were computed here: whether the user was warned


def fit_once(
    fit: Callable[Concatenate[xr.DataArray, Read, P], T], emb: xr.DataArray, *args: P.args, **kwargs: P.kwargs
) -> tuple[T, xr.DataArray]:
    """What ``fit(emb, read, ...)`` finds, and the embedding, lazy where it was, with the blocks that it read in memory.

    Examples
    --------
    >>> emb = xr.DataArray(np.arange(8.0).reshape(2, 2, 2), dims=("D", "y", "x")).chunk({"y": 1})
    >>> total, same = fit_once(lambda emb, read: float(read({"y": slice(0, 1)}).sum()), emb)
    >>> total, same.chunks == emb.chunks, bool((same == emb).all())
    (10.0, True, True)
    """
    note_pass(emb)
    if not isinstance(emb, xr.DataArray) or emb.chunks is None:  # ``fit`` names what is no embedding
        return fit(emb, emb.isel, *args, **kwargs), emb
    kept: dict[tuple[int, ...], Any] = {}  # block index to a dask array of that one block, in memory

    def read(indexers: Mapping[Hashable, Any]) -> xr.DataArray:
        from dask.base import persist

        wanted = _blocks_under(emb, indexers) - kept.keys()
        parts = persist(*[emb.data.blocks[index] for index in wanted])
        kept.update(zip(wanted, parts, strict=True))
        return _with_blocks(emb, kept).isel(indexers)

    return fit(emb, read, *args, **kwargs), _with_blocks(emb, kept)


def _with_blocks(emb: xr.DataArray, kept: Mapping[tuple[int, ...], Any]) -> xr.DataArray:
    """The lazy embedding with some of its blocks replaced."""
    import dask.array
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    array = emb.data
    name = f"once-{tokenize(array.name, sorted(kept))}"
    keys = {index: (array.name, *index) for index in np.ndindex(array.numblocks)}
    keys |= {index: (part.name, *(0,) * array.ndim) for index, part in kept.items()}
    graph = HighLevelGraph.from_collections(
        name, {(name, *index): key for index, key in keys.items()}, [array, *kept.values()]
    )
    return emb.copy(data=dask.array.Array(graph, name, array.chunks, array.dtype))


def _blocks_under(emb: xr.DataArray, indexers: Mapping[Hashable, Any]) -> set[tuple[int, ...]]:
    """Indices of the blocks that cells lie in; arrays along one shared dim are places, as for ``isel``."""
    axes = []
    for dim, sizes in zip(emb.dims, emb.data.chunks, strict=True):
        block_of, index = np.repeat(np.arange(len(sizes)), sizes), indexers.get(dim, slice(None))
        if isinstance(index, xr.DataArray):
            axes.append(xr.DataArray(block_of[index.values], dims=index.dims))
        else:
            axes.append(xr.DataArray(np.unique(block_of[index]), dims=[dim]))
    return set(zip(*(axis.values.ravel().tolist() for axis in xr.broadcast(*axes)), strict=True))


def note_pass(emb: xr.DataArray) -> None:
    """Note that the model runs over a lazy embedding; warn at the second run, once."""
    if not isinstance(emb, xr.DataArray) or emb.chunks is None:
        return
    if not any(layer.startswith(_LAYER) for layer in emb.data.dask.layers):
        return
    warned = _seen.get(emb.data.name)
    if warned is False:
        warn(
            "This lazy embedding is computed again: each map or picture made from it runs the model anew. "
            'Store it once and work with what is stored: emb = emb.rsembed.to_zarr("embedding.zarr")'
        )
    _seen[emb.data.name] = warned is not None
