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
_seen: dict[str, bool] = {}  # names of lazy embeddings that were computed here: whether the user was told


def fit_once(
    fit: Callable[Concatenate[xr.DataArray, Read, P], T], emb: xr.DataArray, *args: P.args, **kwargs: P.kwargs
) -> tuple[T, xr.DataArray]:
    """What ``fit(emb, read, ...)`` finds, and the embedding with the blocks that it read in memory."""
    note_pass(emb)
    blocks = OncePerBlock(emb)
    return fit(emb, blocks.isel, *args, **kwargs), blocks.embedding()


class OncePerBlock:
    """A lazy embedding whose blocks are computed at most once.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)

    Examples
    --------
    >>> emb = xr.DataArray(np.arange(8.0).reshape(2, 2, 2), dims=("D", "y", "x")).chunk({"y": 1})
    >>> blocks = OncePerBlock(emb)
    >>> blocks.isel({"y": slice(0, 1)}).values.tolist()
    [[[0.0, 1.0]], [[4.0, 5.0]]]
    >>> len(blocks.kept), bool((blocks.embedding() == emb).all())
    (1, True)
    """

    def __init__(self, emb: xr.DataArray) -> None:
        self.emb = emb
        self.kept: dict[tuple[int, ...], Any] = {}  # block index to a dask array of that one block, in memory

    def isel(self, indexers: Mapping[Hashable, Any]) -> xr.DataArray:
        """These cells, from blocks that are in memory from now on; still a lazy array."""
        if self.emb.chunks is None:
            return self.emb.isel(indexers)
        from dask.base import persist

        array = self.emb.data
        wanted = self._blocks(indexers) - self.kept.keys()
        for index, part in zip(wanted, persist(*[array.blocks[index] for index in wanted]), strict=True):
            self.kept[index] = part
        return self.embedding().isel(indexers)

    def embedding(self) -> xr.DataArray:
        """The embedding, lazy where it was, with the blocks that were read in memory."""
        if not self.kept:
            return self.emb
        import dask.array
        from dask.base import tokenize
        from dask.highlevelgraph import HighLevelGraph

        array = self.emb.data
        name = f"once-{tokenize(array.name, sorted(self.kept))}"
        where = {index: (array.name, *index) for index in np.ndindex(array.numblocks)}
        where |= {index: (part.name, *(0,) * array.ndim) for index, part in self.kept.items()}
        graph = HighLevelGraph.from_collections(
            name, {(name, *index): key for index, key in where.items()}, [array, *self.kept.values()]
        )
        return self.emb.copy(data=dask.array.Array(graph, name, array.chunks, array.dtype))

    def _blocks(self, indexers: Mapping[Hashable, Any]) -> set[tuple[int, ...]]:
        """Indices of the blocks that cells lie in; arrays along one shared dim are places, as for ``isel``."""
        axes = []
        for dim, sizes in zip(self.emb.dims, self.emb.data.chunks, strict=True):
            block_of, index = np.repeat(np.arange(len(sizes)), sizes), indexers.get(dim, slice(None))
            if isinstance(index, xr.DataArray):
                axes.append(xr.DataArray(block_of[index.values], dims=index.dims))
            else:
                axes.append(xr.DataArray(np.unique(block_of[index]), dims=[dim]))
        return set(zip(*(axis.values.ravel().tolist() for axis in xr.broadcast(*axes)), strict=True))


def note_pass(emb: xr.DataArray) -> None:
    """Take note that the model runs over a lazy embedding, and warn, once, from the second run on."""
    if emb.chunks is None or not any(layer.startswith(_LAYER) for layer in emb.data.dask.layers):
        return
    told = _seen.get(emb.data.name)
    if told is False:
        warn(
            "This lazy embedding is computed again: each map or picture made from it runs the model anew. "
            'Store it once and work with what is stored: emb = emb.rsembed.to_zarr("embedding.zarr")'
        )
    _seen[emb.data.name] = told is not None
