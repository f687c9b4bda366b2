"""The pixels that each block reads, as a dask array with one chunk a block."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import prod
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import normalize_chunks

from xr_rsembed.tiling import Blocks

Range = tuple[int, int]

_PARTS = 12  # parts of chunks that a block takes, on average, above which small chunks are merged first
_MERGED_BYTES = 2**28  # a merged chunk stays below: a few blocks' windows, 75 MiB each for 12 bands of uint16


def as_dask(scene: xr.DataArray, blocks: Blocks) -> da.Array:
    """The scene's pixels as a dask array; what has no chunks (also a file that is not read yet) in those of blocks."""
    if scene.chunks is not None:
        return scene.data
    chunks = {}
    for dim, along in (("y", blocks.y), ("x", blocks.x)):
        edges = [*(block.window[0] for block in along), along[-1].window[1]]
        chunks[dim] = tuple(stop - start for start, stop in pairwise(edges))
    # A token of its own: dask would read all pixels to make one.
    return scene.chunk(chunks, token=uuid4().hex).data


def read_windows(source: da.Array, leading: Sequence[int], blocks: Blocks) -> da.Array:
    """The raw pixels that the blocks' tiles see: windows that overlap in the scene stand side by side here.

    Of a source (..., band, y, x) in any chunks it gives a dask array whose chunk (..., 0, i, j) holds all bands of
    ``blocks.y[i].window`` by ``blocks.x[j].window``, and ``leading`` indices of each leading dim. Its keys begin with
    ``rsembed-windows-``, by which stores find it.

    A window is cut where its chunks live, first along y, then along x, so a worker never sends a whole chunk for the
    pixels of a halo. ``dask.array.overlap`` needs two to three times as many tasks.
    """
    ranges = [[block.window for block in along] for along in (blocks.y, blocks.x)]
    source = _coarsened(source, *ranges)
    whole = {-3: source.shape[-3:-2]} | {
        number: normalize_chunks(size, shape=(source.shape[number],))[0]
        for number, size in enumerate(leading)
    }
    for axis, along in zip((-2, -1), ranges, strict=True):
        source = _side_by_side(source, axis, along, whole)
    meta = np.empty((0,) * source.ndim, dtype=source.dtype)
    return da.map_blocks(np.asarray, source, token="rsembed-windows", dtype=source.dtype, meta=meta)


def _side_by_side(
    source: da.Array, axis: int, ranges: Sequence[Range], chunks: dict[int, tuple[int, ...]]
) -> da.Array:
    """Ranges of an axis one after the other, a chunk each, and the other axes in these chunks."""
    rest = (slice(None),) * (-axis - 1)
    parts = [
        _rechunk(source[(..., slice(start, stop), *rest)], {**chunks, axis: (stop - start,)})
        for start, stop in ranges
    ]
    return da.concatenate(parts, axis=axis)


def _coarsened(source: da.Array, rows: Sequence[Range], columns: Sequence[Range]) -> da.Array:
    """The source with neighbouring chunks merged where a block would otherwise take parts of very many.

    Chunks of one band, as catalogues give them, would cost 40 tasks a block and more; merged they cost four to eight.
    Chunks are merged whole, along their own borders, bands first, and never beyond 256 MiB: so slabs as wide as the
    scene stay as they are, and cost more tasks rather than more memory.
    """
    wanted = {-3: [(0, source.shape[-3])], -2: rows, -1: columns}
    chunks = list(source.chunks)
    for axis, ranges in wanted.items():
        if prod(_touched(chunks[one], pairs) for one, pairs in wanted.items()) <= _PARTS:
            break
        others = prod(max(sizes) for number, sizes in enumerate(chunks, -len(chunks)) if number != axis)
        room = _MERGED_BYTES // (others * source.dtype.itemsize)
        chunks[axis] = _merged(chunks[axis], min(room, max(stop - start for start, stop in ranges)))
    return _rechunk(source, dict(zip(range(-len(chunks), 0), chunks, strict=True)))


def _rechunk(array: da.Array, chunks: dict[int, tuple[int, ...]]) -> da.Array:
    """Not by p2p, which a distributed client would choose: that writes every chunk to a disk."""
    if all(array.chunks[axis] == wanted for axis, wanted in chunks.items()):
        return array
    return array.rechunk(chunks, method="tasks")


def _touched(chunks: Sequence[int], ranges: Sequence[Range]) -> float:
    """Chunks that a range reaches into, on average."""
    ends = np.array(list(accumulate(chunks)))
    starts, stops = np.array(ranges).T
    return float((np.searchsorted(ends, stops) - np.searchsorted(ends, starts, side="right") + 1).mean())


def _merged(sizes: Sequence[int], length: int) -> tuple[int, ...]:
    """Neighbouring chunks joined while they stay within a length.

    >>> _merged((5, 5, 5, 12, 3), 11)
    (10, 5, 12, 3)
    """
    merged = [sizes[0]]
    for size in sizes[1:]:
        if merged[-1] + size <= length:
            merged[-1] += size
        else:
            merged.append(size)
    return tuple(merged)
