"""The exact tile geometry of one axis, in whole numbers.

A scene's plan is the product of the plans of its two axes. A plan depends on the axis' length and the overlap
alone, so the numbers of an embedding never depend on chunks, scheduler, batch size or workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np

from xr_rsembed.errors import OptionError, SceneError

__all__ = ["AxisBlock", "AxisPlan", "block_cuts", "block_of", "blocks", "plan_axis", "tile_blocks"]

Blend = Literal["center", "mean"]
Edge = Literal["shift", "pad"]


@dataclass(frozen=True)
class AxisPlan:
    """Where the tiles of one axis start, and which cells it has.

    Parameters
    ----------
    pixels : int
        Length of the axis in the scene.
    padded : int
        Length after the edge pixel was repeated at the end.
    starts : tuple of int
        First pixel of each tile, ascending; multiples of ``patch``.
    cells : int
        Number of cells, ``ceil(pixels / patch)``.
    patch, size, stride : int
        Pixels of a patch, of a tile, and between the starts of regular tiles.
    """

    pixels: int
    padded: int
    starts: tuple[int, ...]
    cells: int
    patch: int
    size: int
    stride: int

    @property
    def cells_per_tile(self) -> int:
        return self.size // self.patch

    @cached_property
    def owner(self) -> np.ndarray:
        """Index of the tile whose centre is nearest to each cell's centre; a tie goes to the earlier tile."""
        # Twice the distance keeps the half pixels of the centres whole.
        tile_centres = 2 * np.asarray(self.starts) + self.size
        cell_centres = 2 * self.patch * np.arange(self.cells) + self.patch
        later = np.searchsorted(tile_centres, cell_centres).clip(0, len(self.starts) - 1)
        earlier = (later - 1).clip(0)
        nearer_before = abs(cell_centres - tile_centres[earlier]) <= abs(tile_centres[later] - cell_centres)
        return np.where(nearer_before, earlier, later)

    @cached_property
    def first_cells(self) -> np.ndarray:
        """First cell that each tile covers."""
        return np.asarray(self.starts) // self.patch


@dataclass(frozen=True)
class AxisBlock:
    """One block's share of an axis, complete in itself: what travels to the worker that runs the block.

    Parameters
    ----------
    cells : (int, int)
        The run of cells that the block gives; this and all pairs are half-open.
    tiles : (int, int)
        The run of tiles that these cells come from.
    starts : tuple of int
        First pixel of each of these tiles.
    owned : tuple of (int, int)
        The block's cells whose nearest tile each tile is.
    window, span : (int, int)
        The pixels that the tiles see: those of the scene, and with the padding.
    step : int
        Cells from one patch of a tile to its next: more than 1 on a grid that is denser than patches.
    """

    cells: tuple[int, int]
    tiles: tuple[int, int]
    starts: tuple[int, ...]
    owned: tuple[tuple[int, int], ...]
    window: tuple[int, int]
    span: tuple[int, int]
    step: int = 1

    def __len__(self) -> int:
        return self.cells[1] - self.cells[0]


def plan_axis(
    pixels: int, overlap: int = 0, edge: Edge = "shift", *, patch: int = 16, size: int = 224
) -> AxisPlan:
    """Tile one axis.

    Parameters
    ----------
    pixels : int
        Length of the axis, at least 1.
    overlap : int
        Pixels that neighbouring tiles share: a multiple of ``patch``, less than ``size``.
    edge : {"shift", "pad"}
        ``shift`` moves the last tile inward so that it sees real pixels; ``pad`` repeats the edge pixel up to the
        end of the last regular tile.
    patch, size : int
        Pixels of a patch and of a tile.

    Returns
    -------
    AxisPlan

    Raises
    ------
    OptionError
        If the overlap or the edge cannot be used.
    SceneError
        If the axis is empty.

    Examples
    --------
    >>> plan = plan_axis(500)
    >>> plan.starts, plan.padded, plan.cells
    ((0, 224, 288), 512, 32)
    >>> plan_axis(500, edge="pad").starts
    (0, 224, 448)
    """
    if pixels < 1:
        raise SceneError(
            "The scene has an empty axis.", found=f"{pixels} pixels", expected="at least 1 pixel"
        )
    if overlap % patch or not 0 <= overlap < size:
        raise OptionError(
            "This overlap cannot be used.",
            found=f"overlap={overlap}",
            expected=f"a multiple of {patch} from 0 to {size - patch}",
            remedy=f"overlap={min(max(round(overlap / patch) * patch, 0), size - patch)}",
        )
    if edge not in ("shift", "pad"):
        raise OptionError("Unknown edge rule.", found=f"edge={edge!r}", expected="'shift' or 'pad'")
    stride = size - overlap
    cells = -(-pixels // patch)
    padded = max(size, cells * patch)
    regular = -(-(padded - size) // stride)  # tiles that end before the padded axis does
    starts = [stride * i for i in range(regular)]
    starts.append(padded - size if edge == "shift" else stride * regular)
    return AxisPlan(pixels, max(padded, starts[-1] + size), tuple(starts), cells, patch, size, stride)


def blocks(plan: AxisPlan, blend: Blend = "center", *, tiles: int = 8) -> Iterator[AxisBlock]:
    """Cut an axis into blocks of about ``tiles`` tiles' length.

    Cuts lie where regular tiles hand over from one to the next, so that a tile belongs to one block. Two cases
    run a tile for both of its neighbours: the last tile, moved inward, may reach over the last cut; and
    ``blend="mean"`` needs every tile that covers a cell.

    Parameters
    ----------
    plan : AxisPlan
    blend : {"center", "mean"}
    tiles : int
        Length of a block in tiles without overlap.

    Yields
    ------
    AxisBlock

    Examples
    --------
    >>> [(b.cells, b.tiles) for b in blocks(plan_axis(3000), tiles=8)]
    [((0, 112), (0, 8)), ((112, 188), (8, 14))]
    """
    for cells in block_cuts(plan, tiles):
        yield block_of(plan, cells, blend)


def block_cuts(plan: AxisPlan, tiles: int) -> list[tuple[int, int]]:
    """The runs of cells of the blocks."""
    step = max(1, round(tiles * plan.size / plan.stride))
    half = (plan.size - plan.stride) // plan.patch / 2  # cells of the overlap that the earlier tile keeps
    cuts = [0]
    for tile in range(step, len(plan.starts), step):
        cut = int(-(-(tile * plan.stride / plan.patch + half) // 1))
        if cuts[-1] < cut < plan.cells:
            cuts.append(cut)
    return list(pairwise([*cuts, plan.cells]))


def block_of(plan: AxisPlan, cells: tuple[int, int], blend: Blend) -> AxisBlock:
    """The block that gives a run of cells."""
    first, last = cells
    if blend == "center":
        low, high = int(plan.owner[first]), int(plan.owner[last - 1]) + 1
    else:
        # Tiles ascend, so those that cover a run of cells are a run themselves.
        low = int(np.searchsorted(plan.first_cells + plan.cells_per_tile, first, side="right"))
        high = int(np.searchsorted(plan.first_cells, last - 1, side="right"))
    return _block(plan, cells, (low, high))


def tile_blocks(plan: AxisPlan, *, tiles: int = 8) -> Iterator[AxisBlock]:
    """Cut an axis into runs of at most ``tiles`` whole tiles, for outputs that have one vector a tile.

    ``cells`` then counts the cells that the run's tiles own.

    Examples
    --------
    >>> [b.tiles for b in tile_blocks(plan_axis(3000), tiles=8)]
    [(0, 8), (8, 14)]
    """
    for low in range(0, len(plan.starts), tiles):
        high = min(low + tiles, len(plan.starts))
        owned = np.searchsorted(plan.owner, [low, high])
        yield _block(plan, (int(owned[0]), int(owned[1])), (low, high))


def _block(plan: AxisPlan, cells: tuple[int, int], tiles: tuple[int, int]) -> AxisBlock:
    starts = plan.starts[slice(*tiles)]
    bounds = np.searchsorted(plan.owner, np.arange(tiles[0], tiles[1] + 1)).clip(*cells).tolist()
    span = (starts[0], starts[-1] + plan.size)
    return AxisBlock(
        cells,
        tiles,
        starts,
        tuple(pairwise(bounds)),
        (span[0], min(span[1], plan.pixels)),
        span,
    )
