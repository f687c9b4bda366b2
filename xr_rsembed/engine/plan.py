"""The dask plan: which pixels each block reads, and one task that turns them into the block's values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, cast

import dask.array as da
import numpy as np
from dask._task_spec import DataNode, List, Task, TaskRef
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from xr_rsembed.engine import devices
from xr_rsembed.engine.block import Job, run_block
from xr_rsembed.engine.density import dense_blocks
from xr_rsembed.engine.windows import assemble, coarsened, window
from xr_rsembed.tiling import AxisBlock, blocks, plan_axis, tile_blocks

__all__ = ["axis_blocks", "embed_blocks", "whole_axis"]


def axis_blocks(pixels: int, job: Job, block_tiles: int) -> tuple[AxisBlock, ...]:
    """The blocks of one axis of a scene."""
    settings, spec = job.settings, job.spec
    if settings.input_prep == "resize":
        return (whole_axis(pixels, spec.image_size // spec.patch_size),)
    if settings.density > 1:
        return tuple(
            dense_blocks(
                pixels,
                settings.overlap,
                settings.edge,
                settings.blend,
                settings.density,
                tiles=block_tiles,
                patch=spec.patch_size,
                size=spec.image_size,
            )
        )
    plan = plan_axis(pixels, settings.overlap, settings.edge, patch=spec.patch_size, size=spec.image_size)
    if settings.output == "grid":
        return tuple(blocks(plan, settings.blend, tiles=block_tiles))
    return tuple(tile_blocks(plan, tiles=block_tiles))


def whole_axis(pixels: int, cells: int) -> AxisBlock:
    """The one block of an axis that is resized to one tile."""
    return AxisBlock((0, cells), (0, 1), (0,), ((0, cells),), (0, pixels), (0, pixels))


def embed_blocks(
    sources: Sequence[da.Array], job: Job, rows: Sequence[AxisBlock], columns: Sequence[AxisBlock]
) -> da.Array:
    """A lazy array of all blocks' values.

    Parameters
    ----------
    sources : sequence of dask array, shape (..., band, y, x)
        One per modality, equal but for the bands; chunks of any shape.
    job : Job
    rows, columns : sequence of AxisBlock

    Returns
    -------
    dask array, shape (..., *layout.shape, y, x)
        With ``output="grid"`` y and x count cells; otherwise tiles, and D has the weights at its end.

    Notes
    -----
    A block is one task, plus one task for each source chunk that it takes only a part of: the part is cut where the
    chunk lives, so a worker never sends a whole chunk for the pixels of a halo. ``dask.array.overlap`` and
    ``rechunk`` would need two to three times as many, and windows that overlap unevenly (the last tile, moved
    inward) are beyond them.
    """
    sources = [coarsened(source, rows, columns) for source in sources]
    leading = sources[0].shape[:-3]
    tiles = job.settings.output != "grid"
    sizes = [tuple(len(axis.starts) if tiles else len(axis) for axis in axes) for axes in (rows, columns)]
    embed_dim = job.layout.embed_dim + (job.layout.parts_in_depth if tiles else 0)
    inner = (*job.layout.shape[:-1], embed_dim)
    name = "rsembed-" + tokenize(job, tuple(rows), tuple(columns), [source.name for source in sources])
    # A node of its own: what an encoder object of the user's holds is then sent to a worker once, not with each task.
    shared = "job-" + name
    graph: dict[Any, Any] = {shared: DataNode(shared, job)}
    for index in product(*map(range, leading)):
        for (i, y), (j, x) in product(enumerate(rows), enumerate(columns)):
            key = (name, *index, *(0 for _ in inner), i, j)
            windows = [
                window(graph, f"cut{number}-{name}", source, index, y, x)
                for number, source in enumerate(sources)
            ]
            graph[key] = Task(key, _run, TaskRef(shared), y, x, List(*windows))
    chunks = (*((1,) * size for size in leading), *((size,) for size in inner), *sizes)
    dtype = np.dtype(job.settings.out_dtype)
    return da.Array(
        HighLevelGraph.from_collections(name, graph, dependencies=cast("Any", sources)),
        name,
        chunks=chunks,
        dtype=dtype,
    )


def _run(job: Job, y: AxisBlock, x: AxisBlock, windows: list[Any]) -> np.ndarray:
    with devices.in_flight(job.request.device):
        return run_block(job, y, x, [assemble(*window) for window in windows])
