"""Tile geometry against its definition in DESIGN.md, by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference, strategies
from xr_rsembed.errors import OptionError, SceneError
from xr_rsembed.tiling import blocks, plan_axis, tile_blocks

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


@given(lengths, strategies.overlaps, strategies.blends, strategies.edges, tiles_a_block)
def test_blocks_cover_each_cell_once_with_all_tiles_it_needs(pixels, overlap, blend, edge, tiles):
    plan = plan_axis(pixels, overlap, edge)
    cells = []
    for block in blocks(plan, blend, tiles=tiles):
        cells.extend(range(*block.cells))
        run = range(*block.tiles)
        assert block.starts == plan.starts[block.tiles[0] : block.tiles[1]]
        for cell in range(*block.cells):
            if blend == "center":
                assert plan.owner[cell] in run
            else:
                covering = [
                    tile for tile, start in enumerate(plan.starts) if start <= cell * 16 < start + plan.size
                ]
                assert set(covering) <= set(run)
        owned = [(tile, cell) for tile, pair in zip(run, block.owned, strict=True) for cell in range(*pair)]
        assert owned == [(plan.owner[cell], cell) for cell in range(*block.cells) if plan.owner[cell] in run]
        assert block.span == (block.starts[0], block.starts[-1] + plan.size)
        assert block.window == (block.span[0], min(block.span[1], pixels))
    assert cells == list(range(plan.cells))


@given(lengths, tiles_a_block)
def test_without_overlap_chunks_are_regular(pixels, tiles):
    sizes = [len(block) for block in blocks(plan_axis(pixels), tiles=tiles)]
    assert all(size == 14 * tiles for size in sizes[:-1])
    assert 0 < sizes[-1] <= 14 * tiles


@given(lengths, strategies.overlaps, tiles_a_block)
def test_a_tile_runs_once_but_for_the_last_one(pixels, overlap, tiles):
    plan = plan_axis(pixels, overlap)
    runs = np.bincount(
        [tile for block in blocks(plan, tiles=tiles) for tile in range(*block.tiles)],
        minlength=len(plan.starts),
    )
    assert (runs[:-2] == 1).all()
    assert runs.max() <= 2


@given(lengths, strategies.overlaps, strategies.edges, tiles_a_block)
def test_tile_blocks_take_each_tile_once_and_share_out_all_cells(pixels, overlap, edge, tiles):
    plan = plan_axis(pixels, overlap, edge)
    parts = list(tile_blocks(plan, tiles=tiles))
    assert [tile for part in parts for tile in range(*part.tiles)] == list(range(len(plan.starts)))
    owned = [cell for part in parts for pair in part.owned for cell in range(*pair)]
    assert owned == list(range(plan.cells))


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
