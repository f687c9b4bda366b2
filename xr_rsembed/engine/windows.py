"""The pixels that a block reads: cut where their chunks live, put together where they are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import List, Task, TaskRef

from xr_rsembed.tiling import AxisBlock

__all__ = ["assemble", "coarsened", "window"]

_CUTS = 12  # cuts a block, on average, above which small chunks are merged first
_MERGED_BYTES = 2**28  # a merged chunk stays below: a few blocks' windows, 75 MiB each for 12 bands of uint16


def coarsened(source: da.Array, rows: Sequence[AxisBlock], columns: Sequence[AxisBlock]) -> da.Array:
    """The source with neighbouring chunks merged where a block would otherwise take parts of very many.

    Chunks of one band, as catalogues give them, would cost 40 tasks a block and more; merged they cost four to eight.
    Chunks are merged whole, along their own borders, bands first, and never beyond 256 MiB: so slabs as wide as the
    scene stay as they are, and cost more tasks rather than more memory.

    Parameters
    ----------
    source : dask array, shape (..., band, y, x)
    rows, columns : sequence of AxisBlock
    """
    wanted = _wanted(source, rows, columns)
    chunks = list(source.chunks)
    for axis in (-3, -2, -1):
        if _cuts(chunks, wanted) <= _CUTS:
            break
        others = prod(max(sizes) for number, sizes in enumerate(chunks, -len(chunks)) if number != axis)
        room = _MERGED_BYTES // (others * source.dtype.itemsize)
        chunks[axis] = _merged(chunks[axis], min(room, max(stop - start for start, stop in wanted[axis])))
    # Not p2p, which a distributed client would choose: it writes every chunk to a disk.
    return source if tuple(chunks) == source.chunks else source.rechunk(tuple(chunks), method="tasks")


def window(
    graph: dict[Any, Any],
    name: str,
    source: da.Array,
    index: tuple[int, ...],
    y: AxisBlock,
    x: AxisBlock,
) -> List:
    """What a block task reads, still in pieces; the cuts that make them are added to the graph.

    Parameters
    ----------
    graph : dict
    name : str
        Of the cuts.
    source : dask array, shape (..., band, y, x)
    index : tuple of int
        Position in the leading dims.
    y, x : AxisBlock
    """
    wanted = [*((one, one + 1) for one in index), (0, source.shape[-3]), y.window, x.window]
    pieces = []
    for overlaps in product(
        *(_overlaps(chunks, *pair) for chunks, pair in zip(source.chunks, wanted, strict=True))
    ):
        chunk_key = (source.name, *(number for number, _, _ in overlaps))
        cut = tuple(part for _, part, _ in overlaps)
        place = tuple((start, start + part.stop - part.start) for _, part, start in overlaps)
        if any(
            part.stop - part.start < chunks[n]
            for (n, part, _), chunks in zip(overlaps, source.chunks, strict=True)
        ):
            key = (name, *chunk_key[1:], *(part.start for part in cut), *(part.stop for part in cut))
            graph.setdefault(key, Task(key, _cut, TaskRef(chunk_key), cut))
            chunk_key = key
        pieces.append((place, TaskRef(chunk_key)))
    shape = tuple(stop - start for start, stop in wanted)
    return List(shape, List(*(place for place, _ in pieces)), List(*(piece for _, piece in pieces)))


def assemble(shape: tuple[int, ...], places: list[Any], pieces: list[np.ndarray]) -> np.ndarray:
    """One window from its pieces; the piece itself where there is just one."""
    if len(pieces) == 1:
        return np.asarray(pieces[0])
    whole = np.empty(shape, dtype=np.result_type(*(piece.dtype for piece in pieces)))
    for place, piece in zip(places, pieces, strict=True):
        whole[tuple(slice(*pair) for pair in place)] = piece
    return whole


def _cut(chunk: Any, part: tuple[slice, ...]) -> Any:
    """A part of a chunk; a small one as a copy, because a view would keep the whole chunk in memory."""
    piece = chunk[part]
    return piece.copy() if 2 * piece.size <= chunk.size else piece


def _wanted(
    source: da.Array, rows: Sequence[AxisBlock], columns: Sequence[AxisBlock]
) -> list[list[tuple[int, int]]]:
    """The ranges that blocks read, axis by axis."""
    leading = [[(one, one + 1) for one in range(size)] for size in source.shape[:-3]]
    return [*leading, [(0, source.shape[-3])], [y.window for y in rows], [x.window for x in columns]]


def _cuts(chunks: Sequence[Sequence[int]], wanted: Sequence[Sequence[tuple[int, int]]]) -> float:
    """Chunks that a block takes only a part of, on average."""
    touched, whole = 1.0, 1.0
    for sizes, ranges in zip(chunks, wanted, strict=True):
        parts = [(number, part) for pair in ranges for number, part, _ in _overlaps(sizes, *pair)]
        touched *= len(parts) / len(ranges)
        whole *= sum(part.stop - part.start == sizes[number] for number, part in parts) / len(ranges)
    return touched - whole


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


def _overlaps(chunks: Sequence[int], start: int, stop: int) -> Iterator[tuple[int, slice, int]]:
    """Chunks that a range touches: number, the part of the chunk, and where that part stands in the range."""
    ends = np.cumsum(chunks)
    for number in range(int(np.searchsorted(ends, start, side="right")), len(chunks)):
        first = int(ends[number]) - chunks[number]
        if first >= stop:
            return
        low, high = max(start, first), min(stop, int(ends[number]))
        yield number, slice(low - first, high - first), low - start
