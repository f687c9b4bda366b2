"""One pass of the model for a verb that fits on some cells and then maps all: blocks that were read stay in memory."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import RsEmbedWarning

__all__ = ["OncePerBlock", "note_pass"]

_LAYER = "rsembed-"  # dask layers of the engine begin so
_seen: dict[str, bool] = {}  # names of lazy embeddings that a verb has computed: whether the user was told


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
        numbers, places = [], {}
        for dim, sizes in zip(self.emb.dims, self.emb.data.chunks, strict=True):
            block_of = np.repeat(np.arange(len(sizes)), sizes)
            index = indexers.get(dim, slice(None))
            if isinstance(index, xr.DataArray):
                places[dim] = block_of[index.values]
                numbers.append([-1])
            else:
                numbers.append(np.unique(block_of[index]).tolist())
        pointwise = set(zip(*[blocks.tolist() for blocks in places.values()], strict=True)) or {()}
        found = set()
        for block, at in product(product(*numbers), pointwise):
            there = iter(at)
            found.add(tuple(next(there) if number < 0 else number for number in block))
        return found


def note_pass(emb: xr.DataArray, stacklevel: int = 3) -> None:
    """Take note that a verb runs the model over a lazy embedding; from the second run on, say so once.

    Warns
    -----
    RsEmbedWarning
        With the line that stores the embedding.
    """
    if emb.chunks is None or not any(layer.startswith(_LAYER) for layer in emb.data.dask.layers):
        return
    told = _seen.get(emb.data.name)
    if told is False:
        warnings.warn(
            "This lazy embedding is computed again: each map or picture made from it runs the model anew. "
            'Store it once and work with what is stored: emb = emb.rsembed.to_zarr("embedding.zarr")',
            RsEmbedWarning,
            stacklevel=stacklevel + 1,
        )
    _seen[emb.data.name] = told is not None
