"""The dask plan: scene, windows, one map over blocks of whole tiles, cells, regular chunks. Public dask API only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.delayed import delayed
from dask.local import get_sync

from xr_rsembed.engine import devices
from xr_rsembed.engine.windows import read_windows
from xr_rsembed.errors import OptionError
from xr_rsembed.tiling import Block, Blocks

_JOB = "rsembed-job-"


@dataclass(frozen=True)
class Shared:
    """What all blocks share: it is one node of the graph, and travels to a worker once.

    ``together`` says how many indices of each leading dim a block takes; the rest as in :func:`map_tiles`.
    """

    work: Callable[..., np.ndarray]
    job: Any
    blocks: Blocks
    together: tuple[int, ...]


def map_tiles(
    work: Callable[..., np.ndarray],
    job: Any,
    sources: Sequence[da.Array],
    blocks: Blocks,
    inner: tuple[int, ...],
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
    dtype: str,
    *,
    most: int,
) -> da.Array:
    """Work on all blocks, each tile of the scene once; gives a dask array (..., *inner, y, x).

    ``sources`` (..., band, y, x) are one a modality, equal but for the bands, in any chunks. Of the windows of block
    (i, j) ``work(job, block, windows)`` gives an array (..., *inner, sizes[0][i], sizes[1][j]); ``job.request`` says
    the device. A block takes as many leading indices as its tiles, with their padding, stay within ``most`` pixels.
    """
    leading = sources[0].ndim - 3
    together = _together(sources[0].shape[:leading], blocks, most)
    shared = Shared(work, job, blocks, together)
    windows = [read_windows(source, together, blocks) for source in sources]
    # A node of its own: what an encoder object of the user's holds is then sent to a worker once, not with each task.
    # dask's query planning, off by default, loses such a node.
    once = (
        shared
        if dask.config.get("array.query-planning", False)
        else delayed(shared, name=_JOB + tokenize(shared), traverse=False)
    )
    return da.map_blocks(
        _run,
        *windows,
        shared=once,
        chunks=(*windows[0].chunks[:leading], *((size,) for size in inner), *sizes),
        new_axis=list(range(leading, leading + len(inner) - 1)),
        token="rsembed-blocks",
        dtype=np.dtype(dtype),
        meta=_meta(leading + len(inner) + 2, dtype),
    )


def average(
    sums: da.Array, ranges: Sequence[Sequence[tuple[int, int]]], weights: Sequence[np.ndarray], dtype: str
) -> da.Array:
    """Blocks' sums over tiles, added where blocks share cells and divided by the tiles' weights, once.

    ``weights`` are the sums of all tiles' weights along y and along x: a tile's weight is the product of its two. The
    rest as for :func:`join_blocks`.
    """
    sums = join_blocks(sums, ranges)
    along_y, along_x = (
        da.from_array(one, chunks=(chunks,)) for one, chunks in zip(weights, sums.chunks[-2:], strict=True)
    )
    index = tuple(range(sums.ndim))
    return da.blockwise(
        _divided,
        index,
        sums,
        index,
        along_y,
        index[-2:-1],
        along_x,
        index[-1:],
        out_dtype=dtype,
        align_arrays=False,
        dtype=dtype,
        meta=_meta(sums.ndim, dtype),
    )


def join_blocks(values: da.Array, ranges: Sequence[Sequence[tuple[int, int]]]) -> da.Array:
    """Blocks' values (..., y, x), a chunk each, put together along y, then along x; what two both give is added.

    ``ranges`` says what the blocks give along y and along x; the result's chunks begin where the blocks do.
    """
    for axis, along in zip((-2, -1), ranges, strict=True):
        if len(along) > 1 and along[0][1] > along[1][0]:
            values = _add_strips(values, axis, along[0][1] - along[1][0])
    return values


def _add_strips(values: da.Array, axis: int, strip: int) -> da.Array:
    """Each chunk without its last ``strip`` cells, which are added to the first of the next chunk."""
    sizes = values.chunks[axis]

    def chunks(along: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        every = list(values.chunks)
        every[axis] = along
        return tuple(every)

    how = {"axis": axis, "dtype": values.dtype, "meta": _meta(values.ndim, values.dtype)}
    before = values.blocks[(..., slice(-1), *[slice(None)] * (-axis - 1))]
    first, others = chunks((strip,)), chunks((strip,) * (len(sizes) - 1))
    nothing = da.zeros(tuple(map(sum, first)), dtype=values.dtype, chunks=first)
    strips = da.map_blocks(_last_cells, before, strip=strip, chunks=others, token="rsembed-strips", **how)
    return da.map_blocks(
        _joined,
        values,
        da.concatenate([nothing, strips], axis=axis),
        last=len(sizes) - 1,
        chunks=chunks((*(size - strip for size in sizes[:-1]), sizes[-1])),
        token="rsembed-cells",
        **how,
    )


def regular(values: da.Array) -> da.Array:
    """Chunks of one length along y and x, but for a smaller last one: what stores ask for."""
    firsts = {axis: values.chunks[axis][0] for axis in (-2, -1)}
    long = {axis: first for axis, first in firsts.items() if values.chunks[axis][-1] > first}
    return values.rechunk(long, method="tasks") if long else values


def _together(sizes: Sequence[int], blocks: Blocks, most: int) -> tuple[int, ...]:
    """How many indices of each leading dim a block takes: chips of one tile would fill no batch one by one."""
    rows, columns = (max(one.span[1] - one.span[0] for one in along) for along in (blocks.y, blocks.x))
    room, taken = max(1, most // (rows * columns)), []
    for size in reversed(sizes):
        parts = -(-size // min(size, room))
        taken.append(-(-size // parts))
        room = max(1, room // taken[-1])
    return tuple(reversed(taken))


def planned_jobs(graph: Any) -> Iterator[Any]:
    """The jobs of the embeddings that a high-level graph holds."""
    for name, layer in getattr(graph, "layers", {}).items():
        if name.startswith(_JOB):
            yield get_sync(dict(layer), name).job


@contextmanager
def query_planning_named() -> Iterator[None]:
    """Name dask's setting where its array expressions lack a function."""
    try:
        yield
    except NotImplementedError as error:
        if not dask.config.get("array.query-planning", False):
            raise
        raise OptionError(
            "dask's query planning for arrays cannot do this.",
            found=f'"array.query-planning" is on; {error}',
            expected="that it is off when dask.array is imported first",
            remedy='dask.config.set({"array.query-planning": False}) before other imports, or '
            "DASK_ARRAY__QUERY_PLANNING=False",
        ) from error


def _meta(ndim: int, dtype: Any) -> np.ndarray:
    """What dask would otherwise find out by running a function on nothing."""
    return np.empty((0,) * ndim, dtype=dtype)


def _run(*windows: np.ndarray, shared: Shared, block_id: tuple[int, ...]) -> np.ndarray:
    leading = tuple(
        slice(number * size, number * size + length)
        for number, size, length in zip(block_id, shared.together, windows[0].shape, strict=False)
    )
    block = Block(shared.blocks.y[block_id[-2]], shared.blocks.x[block_id[-1]], leading)
    with devices.in_flight(shared.job.request.device):
        return shared.work(shared.job, block, windows)


def _last_cells(values: np.ndarray, axis: int, strip: int) -> np.ndarray:
    # A copy: a view would keep the block's values in memory.
    return np.take(values, range(values.shape[axis] - strip, values.shape[axis]), axis=axis)


def _joined(
    values: np.ndarray, before: np.ndarray, axis: int, last: int, block_id: tuple[int, ...]
) -> np.ndarray:
    """A block's values without the strip that the next one also gives, and with that of the one before."""
    strip = before.shape[axis]
    moved = np.moveaxis(values, axis, 0)
    result = np.array(moved if block_id[axis] == last else moved[:-strip])
    result[:strip] += np.moveaxis(before, axis, 0)
    return np.moveaxis(result, 0, axis)


def _divided(sums: np.ndarray, along_y: np.ndarray, along_x: np.ndarray, out_dtype: str) -> np.ndarray:
    return (sums / np.multiply.outer(along_y, along_x)).astype(out_dtype)
