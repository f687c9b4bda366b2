"""Tile geometry against its definition in docs/tiling.md, by brute force."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference, strategies
from xr_rsembed.errors import OptionError, SceneError
from xr_rsembed.tiling import coverage, plan_axis, tile_blocks

lengths = st.integers(1, 6000)
tiles_a_block = st.integers(1, 9)


@given(lengths, strategies.overlaps, strategies.edges)
def test_starts_cells_and_owners(pixels, overlap, edge):
    plan = plan_axis(pixels, overlap, edge)
    starts, padded = reference.tile_starts(pixels, overlap, edge)
    assert plan.starts == tuple(starts)
    assert plan.padded == padded
    assert plan.cells == -(-pixels // 16)
    owners = [plan.starts[tile] for tile in plan.owner]
    assert owners == [reference.nearest(cell, starts) for cell in range(plan.cells)]


@settings(max_examples=60)
@given(
    st.integers(1, 2000),
    strategies.overlaps,
    strategies.edges,
    strategies.blends,
    st.sampled_from([1, 2, 4, 16]),
    tiles_a_block,
)
def test_each_tile_belongs_to_one_block_and_gives_the_cells_it_should(
    pixels, overlap, edge, blend, density, tiles
):
    blocks = tile_blocks(pixels, overlap, edge, blend, density, tiles=tiles)
    pitch = 16 // density
    wanted = {}
    for origin in range(0, min(pixels, 16), pitch):
        starts, _ = reference.tile_starts(pixels - origin, overlap, edge)
        for cell in range(-(-(pixels - origin) // 16)):
            covering = [start for start in starts if start <= cell * 16 < start + 224]
            given_by = covering if blend == "mean" else [reference.nearest(cell, starts)]
            for start in given_by:
                wanted.setdefault(origin + start, set()).add(cell * density + origin // pitch)
    found = [
        (start, set(range(*run, block.step)))
        for block in blocks
        for start, run in zip(block.starts, block.runs, strict=True)
    ]
    assert len(found) == len(wanted), "each tile once"
    assert dict(found) == wanted
    counts = np.bincount([cell for cells in wanted.values() for cell in cells])
    assert coverage(blocks).tolist() == counts.tolist()
    for block in blocks:
        assert block.span == (block.starts[0], block.starts[-1] + 224)
        assert block.window == (block.span[0], min(block.span[1], pixels))
        assert block.cells == (block.starts[0] // pitch, max(last for _, last in block.runs))
        assert min(first for first, _ in block.runs) >= block.cells[0]


@given(
    lengths,
    strategies.overlaps,
    strategies.edges,
    strategies.blends,
    st.sampled_from([1, 2, 4, 16]),
    tiles_a_block,
)
def test_blocks_begin_equally_far_apart_and_share_cells_with_their_neighbours_only(
    pixels, overlap, edge, blend, density, tiles
):
    blocks = tile_blocks(pixels, overlap, edge, blend, density, tiles=tiles)
    assert blocks[0].cells[0] == 0
    assert blocks[-1].cells[1] == -(-pixels * density // 16)
    assert len({b.cells[0] - a.cells[0] for a, b in pairwise(blocks)}) <= 1
    assert len({a.cells[1] - b.cells[0] for a, b in pairwise(blocks)}) <= 1
    assert all(a.cells[1] >= b.cells[0] for a, b in pairwise(blocks))
    assert all(a.cells[1] <= c.cells[0] for a, c in zip(blocks, blocks[2:], strict=False))


@pytest.mark.parametrize("overlap", [-16, 8, 17, 224, 240])
def test_overlaps_that_cannot_be_used(overlap):
    with pytest.raises(OptionError, match="multiple of 16 from 0 to 208") as caught:
        plan_axis(500, overlap)
    assert isinstance(caught.value, ValueError)
    assert "remedy:   overlap=" in str(caught.value)


def test_empty_axis_and_unknown_edge():
    with pytest.raises(SceneError, match="empty axis"):
        plan_axis(0)
    with pytest.raises(OptionError, match="'shift' or 'pad'"):
        plan_axis(10, edge="fold")  # type: ignore[arg-type]
