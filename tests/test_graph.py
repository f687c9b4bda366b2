"""The graph of a large scene: few tasks, few bytes, and no detour for chunks of odd shapes."""

from __future__ import annotations

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xr_rsembed
from tests import fakes
from xr_rsembed.engine import windows
from xr_rsembed.tiling import tile_blocks

pytestmark = pytest.mark.usefixtures("probe")

SIDE = 100_000
BANDS = len(fakes.S2)


def scene_of(chunks, side=SIDE):
    pixels = da.zeros((BANDS, side, side), dtype="uint16", chunks=chunks)
    coords = {"band": list(fakes.S2), "y": 5e6 - 10.0 * np.arange(side), "x": 5e5 + 10.0 * np.arange(side)}
    return xr.DataArray(pixels, dims=("band", "y", "x"), coords=coords, attrs={"units": "DN"})


def embed(scene, **options):
    return xr_rsembed.embed(scene, "probe", weights="random", device="cpu", **options)


@pytest.mark.parametrize(
    ("chunks", "overlap", "most"),
    [
        ((BANDS, 2048, 2048), 0, 8),
        ((BANDS, 2048, 2048), 64, 14),
        ((BANDS, 1024, 1024), 0, 16),
        ((BANDS, 1000, 3000), 0, 10),
        ((1, 1024, 1024), 64, 32),
        ((1, 10980, 512), 0, 22),
        ((5, 777, 1234), 0, 28),
    ],
    ids=str,
)
def test_tasks_and_bytes_of_a_large_scene(chunks, overlap, most):
    """Counted as a scheduler gets them."""
    lazy_scene = scene_of(chunks)
    lazy = embed(lazy_scene, overlap=overlap)
    number = np.prod(lazy.data.numblocks[-2:])
    assert number >= (SIDE / 1792) ** 2
    (optimized,) = dask.optimize(lazy.data)
    tasks = dict(optimized.__dask_graph__())
    own = len(tasks) - np.prod(lazy_scene.data.numblocks)  # without those that make the scene
    assert own <= most * number
    assert len(cloudpickle.dumps(tasks)) < 600 * max(most * number, len(tasks))
    assert max(len(cloudpickle.dumps(task)) for task in list(tasks.values())[::997]) < 10_000


def test_no_task_carries_the_job():
    graph = embed(scene_of((BANDS, 2048, 2048), side=8000)).data.__dask_graph__()
    assert sum(str(key).startswith("rsembed-job-") for key in graph) == 1


@pytest.mark.parametrize(
    "chunks", [(1, SIDE, 512), (1, 10980, 512), (BANDS, 256, 256), (3, 64, SIDE)], ids=str
)
def test_merging_keeps_chunks_small_and_never_splits_one(chunks):
    ranges = [block.window for block in tile_blocks(SIDE)]
    source = da.zeros((BANDS, SIDE, SIDE), dtype="uint16", chunks=chunks)
    merged = windows._coarsened(source, ranges, ranges)
    largest = np.prod([max(sizes) for sizes in merged.chunks]) * 2
    assert largest <= max(2**28, np.prod(chunks) * 2)
    for before, after in zip(source.chunks, merged.chunks, strict=True):
        assert set(np.cumsum(after)) <= set(np.cumsum(before))


def test_chunks_that_cost_little_are_left_alone():
    ranges = [block.window for block in tile_blocks(20_000)]
    source = da.zeros((BANDS, 20_000, 20_000), dtype="uint16", chunks=(BANDS, 1024, 1024))
    assert windows._coarsened(source, ranges, ranges) is source


@pytest.mark.parametrize("chunks", [(1, 500, 128), (5, 37, 500), (BANDS, 20, 20)], ids=str)
def test_merged_chunks_give_the_same_numbers(chunks):
    pixels = np.random.default_rng(0).integers(200, 9000, (BANDS, 500, 500), dtype="uint16")
    scene = scene_of((BANDS, 500, 500), side=500)
    with xr_rsembed.set_options(block_tiles=1):
        whole = embed(scene.copy(data=da.from_array(pixels, chunks=-1)), overlap=64)
        pieces = embed(scene.copy(data=da.from_array(pixels, chunks=chunks)), overlap=64)
    assert any("rechunk-merge" in name for name in pieces.data.dask.layers)
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(whole.values, pieces.values)
