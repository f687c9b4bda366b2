"""The exact tile geometry of one axis, in whole numbers.

A scene's plan is the product of the plans of its two axes. A plan depends on the axis' length and the overlap
alone, so the numbers of an embedding never depend on chunks, scheduler, batch size or workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Literal, get_args

import numpy as np

from xr_rsembed.errors import OptionError, SceneError, one_of

Blend = Literal["center", "mean"]
Edge = Literal["shift", "pad"]
Tile = tuple[int, int, int]  # the place of a tile in its block: (leading index, row, column)


@dataclass(frozen=True)
class AxisPlan:
    """Where the tiles of one axis start, and which cells it has; lengths are in pixels."""

    pixels: int  # of the axis in the scene
    padded: int  # after the edge pixel was repeated at the end
    starts: tuple[int, ...]  # first pixel of each tile, ascending; multiples of ``patch``
    cells: int  # ``ceil(pixels / patch)``
    patch: int
    size: int  # of a tile
    stride: int  # between the starts of regular tiles

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

    @property
    def regular(self) -> int:
        """Number of tiles in their regular places: all, or all but the last."""
        last = len(self.starts) - 1
        return last + (self.starts[last] == last * self.stride)

    def runs(self, blend: Blend) -> list[tuple[int, int]]:
        """The cells that each tile gives: those whose nearest tile it is, or all that it covers."""
        if blend == "center":
            return list(pairwise(np.searchsorted(self.owner, range(len(self.starts) + 1)).tolist()))
        firsts = [start // self.patch for start in self.starts]
        return [(first, min(first + self.size // self.patch, self.cells)) for first in firsts]


@dataclass(frozen=True)
class AxisBlock:
    """One block's share of an axis: some whole tiles, and what they see and give. All pairs are half-open.

    ``cells`` runs from the first that the tiles cover to the last that they give. Its end may lie beyond the start of
    the next block's: what both give to such a cell is added.
    """

    starts: tuple[int, ...]  # first pixel of each tile, ascending
    runs: tuple[tuple[int, int], ...]  # the cells that each tile gives, every ``step``-th of the run
    cells: tuple[int, int]
    window: tuple[int, int]  # the scene's pixels that the tiles see
    span: tuple[int, int]  # the same with the padding
    step: int = 1  # cells from one patch of a tile to its next: more than 1 on a grid denser than patches

    def __len__(self) -> int:
        return self.cells[1] - self.cells[0]

    @property
    def size(self) -> int:
        """Pixels of a tile."""
        return self.span[1] - self.starts[-1]


@dataclass(frozen=True)
class Block:
    """One block: its share of both axes, and of the leading dims (dates, chips)."""

    y: AxisBlock
    x: AxisBlock
    leading: tuple[slice, ...] = ()


@dataclass(frozen=True)
class Blocks:
    """The blocks of a scene along both axes."""

    y: tuple[AxisBlock, ...]
    x: tuple[AxisBlock, ...]

    @property
    def tiles(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How many tiles the blocks have along y and along x."""
        return tuple(len(one.starts) for one in self.y), tuple(len(one.starts) for one in self.x)

    def tile_count(self, leading: Sequence[int]) -> int:
        """How many tiles a scene with leading dims of these sizes has."""
        return prod(leading) * sum(self.tiles[0]) * sum(self.tiles[1])


def plan_axis(
    pixels: int, overlap: int = 0, edge: Edge = "shift", *, patch: int = 16, size: int = 224
) -> AxisPlan:
    """Tile one axis of at least one pixel; neighbouring tiles share ``overlap`` pixels, a multiple of ``patch``.

    Edge ``shift`` moves the last tile inward so that it sees real pixels; ``pad`` repeats the edge pixel up to the end
    of the last regular tile.

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
    one_of("edge", edge, get_args(Edge))
    stride = size - overlap
    cells = -(-pixels // patch)
    padded = max(size, cells * patch)
    regular = -(-(padded - size) // stride)  # tiles that end before the padded axis does
    starts = [stride * i for i in range(regular)]
    starts.append(padded - size if edge == "shift" else stride * regular)
    return AxisPlan(pixels, max(padded, starts[-1] + size), tuple(starts), cells, patch, size, stride)


def tile_blocks(
    pixels: int,
    overlap: int = 0,
    edge: Edge = "shift",
    blend: Blend = "center",
    density: int = 1,
    *,
    tiles: int = 8,
    patch: int = 16,
    size: int = 224,
) -> tuple[AxisBlock, ...]:
    """Cut the tiles of an axis into blocks of about ``tiles`` tiles' length; each tile belongs to one block.

    A block begins at a tile in its regular place, so that all begin equally far apart. The tile that was moved inward
    belongs to the last block.

    A tile gives the cells whose nearest tile it is (``blend="center"``), or all that it covers (``"mean"``).

    With ``density`` cells for each patch, the tiling runs again from origins ``patch / density`` pixels further on each
    time; cell ``c`` is cell ``c // density`` of the tiling from the ``c % density``-th origin. So it is the patch that
    begins at pixel ``c * patch / density``, and there is a cell wherever that lies inside the scene. A block holds the
    tiles of all origins; it is ``tiles`` long without overlap and at density 1.

    >>> [(b.cells, len(b.starts)) for b in tile_blocks(3000, tiles=8)]
    [((0, 112), 8), ((112, 188), 6)]
    >>> [(b.cells, len(b.starts)) for b in tile_blocks(3000, 64, blend="mean")]
    [((0, 114), 11), ((110, 188), 8)]
    >>> (block,) = tile_blocks(448, density=2, tiles=4)
    >>> block.starts, block.runs
    ((0, 8, 224, 232), ((0, 27), (1, 28), (28, 55), (29, 56)))
    """
    origins = range(0, min(patch, pixels), patch // density)
    plans = [plan_axis(pixels - origin, overlap, edge, patch=patch, size=size) for origin in origins]
    stride = size - overlap
    # Blocks shorter than an overlap and a stride would give cells to the block after the next.
    step = max(round(max(1, tiles // density) * size / stride), -(-size // stride))
    cuts = range(0, min(plan.regular for plan in plans), step)
    return tuple(
        _block(plans, (low, low + step if low != cuts[-1] else None), blend, density, pixels) for low in cuts
    )


def coverage(blocks: Sequence[AxisBlock]) -> np.ndarray:
    """How many tiles give each cell of an axis.

    >>> coverage(tile_blocks(320, 64, blend="mean")).tolist()
    [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]
    """
    counts = np.zeros(blocks[-1].cells[1], dtype=int)
    for block in blocks:
        for first, last in block.runs:
            counts[first : last : block.step] += 1
    return counts


def _block(
    plans: Sequence[AxisPlan], tiles: tuple[int, int | None], blend: Blend, density: int, pixels: int
) -> AxisBlock:
    """The same run of tiles from each origin, in the order of their first pixels."""
    pitch = plans[0].patch // density
    given = sorted(
        (start + number * pitch, _dense(run, number, density))
        for number, plan in enumerate(plans)
        for start, run in zip(plan.starts[slice(*tiles)], plan.runs(blend)[slice(*tiles)], strict=True)
    )
    starts, runs = zip(*given, strict=True)
    span = (starts[0], starts[-1] + plans[0].size)
    cells = (starts[0] // pitch, max(last for _, last in runs))
    return AxisBlock(starts, runs, cells, (span[0], min(span[1], pixels)), span, density)


def _dense(run: tuple[int, int], origin: int, density: int) -> tuple[int, int]:
    """One origin's run of cells as dense cells, every ``density``-th of which is meant."""
    first, last = run
    return first * density + origin, (last - 1) * density + origin + 1
