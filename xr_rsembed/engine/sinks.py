"""Where a block's tokens go: into its cells, or into one vector a tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from xr_rsembed.errors import EncoderError
from xr_rsembed.models.spec import Layout, Tokens
from xr_rsembed.tiling import AxisBlock

if TYPE_CHECKING:
    import torch

__all__ = ["CenterSink", "MeanSink", "Sink", "TileSink"]

Tile = tuple[int, int]


class Sink(Protocol):
    """Takes batches of tiles in any order, then gives the block's values."""

    def add(self, tiles: Sequence[Tile], tokens: Tokens) -> None: ...

    def finish(self) -> np.ndarray: ...


class CenterSink:
    """Each cell from the tile whose centre is nearest.

    Parameters
    ----------
    y, x : AxisBlock
    layout : Layout
    usable : bool array, shape (rows, columns)
        Which of the block's cells have enough valid pixels; the others come out as NaN.
    """

    def __init__(self, y: AxisBlock, x: AxisBlock, layout: Layout, usable: np.ndarray, patch: int) -> None:
        self.y, self.x, self.layout, self.usable, self.patch = y, x, layout, usable, patch
        self.values: torch.Tensor | None = None

    def add(self, tiles: Sequence[Tile], tokens: Tokens) -> None:
        values = self._values(tokens.grid)
        for (i, j), grid in zip(tiles, tokens.grid, strict=True):
            self._place(values, grid, (i, j), self.y.owned[i], self.x.owned[j])

    def finish(self) -> np.ndarray:
        import torch

        if self.values is None:
            return np.full(self.layout.shape + self.usable.shape, np.nan, dtype="float32")
        values = self.values
        usable = torch.from_numpy(self.usable).to(values.device)
        _refuse_broken(values, usable)
        values.masked_fill_(~usable, float("nan"))
        return values.cpu().numpy()

    def _values(self, like: torch.Tensor) -> torch.Tensor:
        if self.values is None:
            self.values = like.new_zeros(self.layout.shape + self.usable.shape)
        return self.values

    def _place(
        self,
        values: torch.Tensor,
        grid: torch.Tensor,
        tile: Tile,
        rows: tuple[int, int],
        columns: tuple[int, int],
    ) -> None:
        """Add a tile's tokens for these cells of the scene to the block's values."""
        to_y, to_x = self.y.cells[0], self.x.cells[0]
        from_y, from_x = self.y.starts[tile[0]] // self.patch, self.x.starts[tile[1]] // self.patch
        values[..., rows[0] - to_y : rows[1] - to_y, columns[0] - to_x : columns[1] - to_x] += grid[
            ..., rows[0] - from_y : rows[1] - from_y, columns[0] - from_x : columns[1] - from_x
        ]


class MeanSink(CenterSink):
    """Each cell the plain mean over the tiles that cover it."""

    def __init__(self, y: AxisBlock, x: AxisBlock, layout: Layout, usable: np.ndarray, patch: int) -> None:
        super().__init__(y, x, layout, usable, patch)
        self.counts = np.zeros(usable.shape, dtype="float32")

    def add(self, tiles: Sequence[Tile], tokens: Tokens) -> None:
        values = self._values(tokens.grid)
        size = tokens.grid.shape[-1]
        for (i, j), grid in zip(tiles, tokens.grid, strict=True):
            rows, columns = _covered(self.y, i, size, self.patch), _covered(self.x, j, size, self.patch)
            self._place(values, grid, (i, j), rows, columns)
            self.counts[
                rows[0] - self.y.cells[0] : rows[1] - self.y.cells[0],
                columns[0] - self.x.cells[0] : columns[1] - self.x.cells[0],
            ] += 1

    def finish(self) -> np.ndarray:
        import torch

        if self.values is not None:
            self.values /= torch.from_numpy(np.maximum(self.counts, 1)).to(self.values.device)
        return super().finish()


class TileSink:
    """One vector a tile, and as one more D at the end its weight: the valid pixels of the cells it owns.

    Parameters
    ----------
    y, x : AxisBlock
    layout : Layout
    usable : bool array, shape (rows, columns)
        Which cells of the tiles' span have enough valid pixels; tokens are pooled over these.
    pixels : array, shape (rows, columns)
        Valid pixels of each of these cells.
    pooling : {"mean", "max", "cls"}
        Over tokens, or the model's own vector.
    """

    def __init__(
        self,
        y: AxisBlock,
        x: AxisBlock,
        layout: Layout,
        usable: np.ndarray,
        pixels: np.ndarray,
        pooling: str,
        patch: int,
    ) -> None:
        self.y, self.x, self.usable, self.pixels, self.pooling, self.patch = (
            y,
            x,
            usable,
            pixels,
            pooling,
            patch,
        )
        shape = (*layout.shape[:-1], layout.embed_dim + 1, len(y.starts), len(x.starts))
        self.values = np.full(shape, np.nan, dtype="float32")
        self.values[..., -1, :, :] = 0.0

    def add(self, tiles: Sequence[Tile], tokens: Tokens) -> None:
        import torch

        side = tokens.grid.shape[-1]
        masks = np.stack([self._of_tile(self.usable, tile, side) for tile in tiles])
        if self.pooling == "cls":
            if tokens.pooled is None:
                raise EncoderError(
                    "The model gave no vector of its own for a tile.", expected="Tokens.pooled"
                )
            vectors = tokens.pooled
        else:
            vectors = _pool(tokens.grid, torch.from_numpy(masks).to(tokens.grid.device), self.pooling)
        numbers = vectors.cpu().numpy()
        for number, (tile, mask) in enumerate(zip(tiles, masks, strict=True)):
            if not mask.any():
                continue
            if not np.isfinite(numbers[number]).all():
                raise _broken()
            self.values[..., :-1, tile[0], tile[1]] = numbers[number]
            self.values[..., -1, tile[0], tile[1]] = self._own_pixels(tile)

    def finish(self) -> np.ndarray:
        return self.values

    def _of_tile(self, cells: np.ndarray, tile: Tile, side: int) -> np.ndarray:
        row, column = (
            (axis.starts[index] - axis.span[0]) // self.patch
            for axis, index in ((self.y, tile[0]), (self.x, tile[1]))
        )
        return cells[row : row + side, column : column + side]

    def _own_pixels(self, tile: Tile) -> float:
        rows, columns = (
            slice(*(cell - axis.span[0] // self.patch for cell in axis.owned[index]))
            for axis, index in ((self.y, tile[0]), (self.x, tile[1]))
        )
        return float(self.pixels[rows, columns].sum())


def _pool(grid: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool tokens (B, ..., D, h, w) over the True cells of a mask (B, h, w)."""
    mask = mask.reshape(mask.shape[0], *(1,) * (grid.ndim - 3), *mask.shape[1:])
    if pooling == "max":
        return grid.masked_fill(~mask, float("-inf")).amax(dim=(-2, -1))
    return (grid * mask).sum(dim=(-2, -1)) / mask.sum(dim=(-2, -1)).clamp(min=1)


def _covered(axis: AxisBlock, tile: int, side: int, patch: int) -> tuple[int, int]:
    first = axis.starts[tile] // patch
    return max(first, axis.cells[0]), min(first + side, axis.cells[1])


def _refuse_broken(values: torch.Tensor, usable: torch.Tensor) -> None:
    finite = values.isfinite().reshape(-1, *usable.shape).all(dim=0)
    if not bool((finite | ~usable).all()):
        raise _broken()


def _broken() -> EncoderError:
    return EncoderError(
        "The model gave NaN or infinite numbers for valid pixels.",
        found="tokens that are not finite",
        expected="finite tokens",
        remedy='check the scene\'s units and the weights; with precision="float16" try "bfloat16"',
    )
