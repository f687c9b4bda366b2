"""How an array lies in a Zarr store: shards of a block's size, and inside them small chunks that read well.

A shard is one object, written by one worker. The inner chunks are 64 dimensions by 28 x 28 cells: a compromise between
the two ways in which embeddings are read. Measured on a 768 x 448 x 448 float32 store (median, local disk): one cell in
all dimensions 4.7 ms and one dimension over the whole map 89 ms, where chunks that hold all dimensions of 14 x 14 cells
take 1.4 ms and 1019 ms, and chunks of one block's whole plane 39 ms and 39 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from zarr.codecs import BloscCodec

from xr_rsembed.errors import OptionError, StoreError, one_of, whole_number
from xr_rsembed.store import quantize

Index = tuple[int, ...]

_SPATIAL = ("y", "x", "tile_y", "tile_x")
_INNER = {"D": 64, **dict.fromkeys(_SPATIAL, 28)}  # every other dim, such as time: 1
_SHARD = 112  # cells a side: the engine's block without overlap
_SHARD_MAX = 448
_VECTORS = 256  # a shard of vectors that lie on no map, such as one a date

# Blosc's bytes hang on neither the threads nor the machine, which byte-identity after a resume rests on.
# Shuffled zstd 3 takes float32 embeddings to 0.87 of their size in the time that zstd alone takes for 0.93.
_COMPRESSOR = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")

# How Zarr may name a chunk's object. A store that replaces another in the same place takes the next way, so that it
# can be written whole while the old one stays, and a straggler of the old run writes where nobody reads.
KEYS = (
    {"name": "default", "separator": "/"},
    {"name": "v2", "separator": "/"},
    {"name": "default", "separator": "."},
    {"name": "v2", "separator": "."},
)


def shard_key(index: Index, way: int) -> str:
    """Name of a chunk's object below its array.

    Examples
    --------
    >>> [shard_key((0, 3), way) for way in range(4)], shard_key((), 1)
    (['c/0/3', '0/3', 'c.0.3', '0.3'], '0')
    """
    head = ["c"] if KEYS[way]["name"] == "default" else []
    return KEYS[way]["separator"].join([*head, *map(str, index)]) or "0"


@dataclass(frozen=True)
class Layout:
    """Everything a worker must know to turn one block into a shard."""

    name: str  # of the array in the store
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str  # of the stored numbers
    source: str  # dtype of the embedding's numbers
    shard: tuple[int, ...]
    inner: tuple[int, ...]  # shape of the chunks in a shard
    scale: tuple[float, ...] = ()  # of int8 made from floats: one, or one for each D

    @property
    def axis(self) -> int:
        """Axis of the embedding's dimensions."""
        return self.dims.index("D") if "D" in self.dims else 0

    @property
    def fill(self) -> float | int:
        """What a cell that was never written reads as."""
        if self.scale:
            return quantize.NODATA
        return float("nan") if np.dtype(self.dtype).kind == "f" else 0

    @property
    def grid(self) -> tuple[int, ...]:
        """Shards along every dim."""
        return tuple(-(-size // one) for size, one in zip(self.shape, self.shard, strict=True))

    def indices(self) -> list[Index]:
        """All shards, in the order of storage."""
        return list(product(*map(range, self.grid)))

    def window(self, index: Index) -> tuple[slice, ...]:
        """Where a shard lies in the array."""
        return tuple(
            slice(i * one, min((i + 1) * one, size))
            for i, one, size in zip(index, self.shard, self.shape, strict=True)
        )

    def tiles(self, attrs: Mapping[str, Any], shape: tuple[int, ...]) -> int | None:
        """How many tiles an embedding of this shape ran, by its attrs; None where they do not say."""
        if not {"y", "x"} <= set(self.dims) or not {"tile_size", "patch_size", "overlap"} <= attrs.keys():
            return None
        density, patch = int(attrs.get("density", 1)), int(attrs["patch_size"])
        cells, shared = (int(attrs[name]) * density // patch for name in ("tile_size", "overlap"))
        count = density**2
        for dim, size in zip(self.dims, shape, strict=True):
            if dim in ("y", "x"):
                count *= 1 - (-max(0, size - cells) // (cells - shared))
            elif dim not in ("D", "layer", "modality"):
                count *= size
        return count


def lay_out(
    name: str,
    array: xr.DataArray,
    dtype: str | None = None,
    *,
    shards: Mapping[str, int] | None = None,
    chunks: Mapping[str, int] | None = None,
) -> Layout:
    """The layout of an array: shards that match its dask chunks where those are regular and of a fair size.

    >>> emb = xr.DataArray(np.zeros((384, 686, 686), dtype="float32"), dims=("D", "y", "x"))
    >>> layout = lay_out("embedding", emb)
    >>> layout.shard, layout.inner
    ((384, 112, 112), (64, 28, 28))
    """
    if not array.ndim or 0 in array.shape or array.dtype.kind not in "fiub":
        raise StoreError(
            f"{name!r} cannot be stored.",
            found=f"shape {array.shape}, dtype {array.dtype}",
            expected="an array of numbers with a dim and at least one value",
            remedy="emb.astype('float32') where its numbers are of another kind",
        )
    for what, lengths in (("shards", shards or {}), ("chunks", chunks or {})):
        for dim, length in lengths.items():
            one_of(f"a dim of {what}", dim, array.dims)
            whole_number(f"{what}[{dim!r}]", length, at_least=1)
    dims = tuple(map(str, array.dims))
    pairs = [_lengths(dim, array, (shards or {}).get(dim), (chunks or {}).get(dim)) for dim in dims]
    shard, inner = (tuple(map(int, lengths)) for lengths in zip(*pairs, strict=True))
    source = str(array.dtype)
    return Layout(name, dims, array.shape, dtype or source, source, shard, inner)


def _lengths(dim: str, array: xr.DataArray, shard: int | None, inner: int | None) -> tuple[int, int]:
    """Lengths of shard and inner chunk along one dim."""
    length = shard or _fair(dim, array)
    if inner is None:
        target = _INNER.get(dim, 1 if _is_map(array) else length)
        return _fitted(array.sizes[dim], length, target, exact=shard is not None)
    if shard is not None and shard % inner:
        raise OptionError(
            f"A shard holds whole chunks along {dim!r}.",
            found=f"a shard of {shard}, chunks of {inner}",
            expected="a shard that is a multiple of the chunk",
        )
    return -(-length // inner) * inner, inner


def _fair(dim: str, array: xr.DataArray) -> int:
    """A fair length for shards along one dim."""
    size = array.sizes[dim]
    if dim == "D":
        return size
    if dim not in _SPATIAL:
        return 1 if _is_map(array) else min(size, _VECTORS)
    first, *others = array.chunksizes.get(dim, (_SHARD,))
    regular = all(length == first for length in others[:-1]) and (not others or others[-1] <= first)
    if not regular or first > _SHARD_MAX:
        return min(size, _SHARD)
    return first if first >= _INNER[dim] else min(size, first * (_SHARD // first))


def _is_map(array: xr.DataArray) -> bool:
    return any(dim in _SPATIAL for dim in array.dims)


def _fitted(size: int, shard: int, inner: int, *, exact: bool = False) -> tuple[int, int]:
    """The shard, or a little more, and the inner chunk of about ``inner`` that divides it.

    >>> _fitted(686, 112, 28), _fitted(37, 37, 28), _fitted(500, 113, 28)
    ((112, 28), (56, 28), (113, 113))
    """
    if shard >= size and not exact:  # a lone shard may reach beyond the array
        edge = min(size, inner)
        return -(-size // edge) * edge, edge
    edge = max(n for n in range(1, min(shard, inner) + 1) if shard % n == 0)
    return shard, edge if edge * 4 >= inner else shard


def encoding(layout: Layout, way: int = 0) -> dict[str, Any]:
    """xarray's encoding that gives the array its place in the store."""
    found: dict[str, Any] = {
        "dtype": layout.dtype,
        "chunks": layout.inner,
        "shards": layout.shard,
        "compressors": (_COMPRESSOR,),
        "fill_value": layout.fill,
        "chunk_key_encoding": KEYS[way],
    }
    if layout.scale or np.dtype(layout.dtype).kind == "f":
        found["_FillValue"] = np.dtype(layout.dtype).type(layout.fill)
    if len(layout.scale) == 1:
        found["scale_factor"] = layout.scale[0]
    return found
