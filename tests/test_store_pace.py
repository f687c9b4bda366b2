"""Blocks in order, chunks just ahead of them, and the same values."""

from __future__ import annotations

import threading

import dask
import dask.array as da
import numpy as np
import pytest
from dask._task_spec import convert_legacy_graph, cull

from xr_rsembed.store.pace import paced

SIDE = 6


@pytest.fixture
def trace():
    """A graph of blocks that share chunks with their neighbours, and the order in which tasks ran."""
    ran, lock = [], threading.Lock()

    def read(block, block_info=None):
        with lock:
            ran.append(("chunk", block_info[0]["chunk-location"]))
        return block

    source = da.ones((SIDE * 10, SIDE * 10), chunks=10).map_blocks(read, dtype=float, meta=np.empty((0, 0)))
    shared = da.overlap.overlap(source, depth=1, boundary="none")
    graph = convert_legacy_graph(dict(shared.__dask_graph__()))
    return graph, [(shared.name, *index) for index in np.ndindex(*shared.numblocks)], shared, ran


@pytest.mark.parametrize("workers", [1, 4])
def test_no_chunk_is_read_long_before_its_block(trace, workers):
    graph, keys, shared, ran = trace
    with dask.config.set(num_workers=workers):
        values = dask.threaded.get(paced(graph, keys), keys, num_workers=workers)
    for key, value in zip(keys, values, strict=True):
        np.testing.assert_array_equal(value, shared.blocks[key[1:]].compute(scheduler="synchronous"))
    read = [row * SIDE + column for kind, (row, column) in ran[: SIDE**2]]
    assert sorted(read) == list(range(SIDE**2)), "each once"
    # A block needs chunks up to one row and one column on; some more blocks are under way.
    for position, number in enumerate(read):
        assert abs(number - position) <= 2 * (SIDE + 1) + workers + 1


def test_a_part_of_the_blocks_asks_for_no_others(trace):
    graph, keys, _shared, ran = trace
    some = keys[-3:]
    culled = {key: graph[key] for key in cull(graph, some)}
    values = dask.get(paced(culled, some), some)
    assert len(values) == 3
    assert len(ran) <= 8
