"""Where a block's tokens go: into its cells, or into one vector a tile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from xr_rsembed.errors import EncoderError
from xr_rsembed.models.spec import Layout, Tokens
from xr_rsembed.tiling import AxisBlock, Block, Tile

if TYPE_CHECKING:
    import torch


class GridSink:
    """Sums, over the block's cells, of what its tiles give: of batches in any order.

    ``usable`` (n, part, rows, columns) says which cells have enough valid pixels, for each part of the layout; the
    others come out as NaN. ``dtype`` is float64 where cells get more than one number: sums of float32 are then the same
    in any order, so that the cuts between blocks do not show.
    """

    def __init__(self, block: Block, layout: Layout, usable: np.ndarray, patch: int, dtype: str) -> None:
        self.block, self.layout, self.usable = block, layout, usable
        self.patch, self.dtype = patch, dtype
        self.values: torch.Tensor | None = None

    def add(self, tiles: Sequence[Tile], tokens: Tokens) -> None:
        import torch

        if self.values is None:
            shape = (len(self.usable), *self.layout.shape, *self.usable.shape[2:])
            self.values = tokens.grid.new_zeros(shape, dtype=getattr(torch, self.dtype))
        for (n, i, j), grid in zip(tiles, tokens.grid, strict=True):
            to_rows, from_rows = _slices(self.block.y, i, self.patch)
            to_columns, from_columns = _slices(self.block.x, j, self.patch)
            self.values[n, ..., to_rows, to_columns] += grid[..., from_rows, from_columns]

    def finish(self) -> np.ndarray:
        import torch

        shape = (len(self.usable), *self.layout.shape, *self.usable.shape[2:])
        if self.values is None:
            return np.full(shape, np.nan, dtype=self.dtype)
        usable = torch.from_numpy(self.usable).to(self.values.device)
        each = self.layout.embed_dim // self.layout.parts_in_depth
        parts = self.values.view(len(usable), -1, usable.shape[1], each, *usable.shape[2:])
        broken = usable & ~parts.isfinite().all(dim=3).all(dim=1)
        if bool(broken.any()):
            _, _, row, column = broken.nonzero()[0].tolist()
            rows, columns = (
                [n for n, run in enumerate(axis.runs) if cell + axis.cells[0] in range(*run, axis.step)]
                for axis, cell in ((self.block.y, row), (self.block.x, column))
            )
            raise _broken(list(product(rows, columns)), self.block)
        parts.masked_fill_(~usable[:, None, :, None], float("nan"))
        return self.values.cpu().numpy()


class TileSink:
    """One vector a tile, and its weights at the end of D: the valid pixels of the cells it owns.

    There is one weight for each part of the layout that shares D. ``usable`` (n, part, rows, columns) says which cells
    of the tiles' span have enough valid pixels, over which tokens are pooled, and ``pixels`` how many each has;
    ``pooling`` is mean or max over tokens, or cls, the model's own vector.
    """

    def __init__(
        self,
        block: Block,
        layout: Layout,
        usable: np.ndarray,
        pixels: np.ndarray,
        pooling: str,
        patch: int,
    ) -> None:
        self.block, self.layout, self.patch = block, layout, patch
        self.usable, self.pixels, self.pooling = usable, pixels, pooling
        self.tiles = (len(usable), len(block.y.starts), len(block.x.starts))
        each = layout.embed_dim // layout.parts_in_depth
        outer = int(np.prod(layout.shape)) // (layout.parts * each)
        self.vectors = np.full((*self.tiles, outer, layout.parts, each), np.nan, dtype="float32")
        self.weights = np.zeros((*self.tiles, outer, layout.parts), dtype="float32")

    def add(self, tiles: Sequence[Tile], tokens: Tokens) -> None:
        side = tokens.grid.shape[-1]
        masks = np.stack([self._of_tile(self.usable, tile, side) for tile in tiles])
        vectors = self._pooled(tokens, masks)
        for number, tile in enumerate(tiles):
            has = masks[number].any(axis=(-2, -1))
            if not np.isfinite(vectors[number][:, has]).all():
                raise _broken([tile[1:]], self.block)
            self.vectors[tile][:, has] = vectors[number][:, has]
            self.weights[tile][:, has] = self._own_pixels(tile)[has]

    def finish(self) -> np.ndarray:
        shape = self.layout.shape
        vectors = self.vectors.reshape(*self.tiles, *shape)
        weights = self.weights.reshape(*self.tiles, *shape[:-1], self.layout.parts_in_depth)
        return np.moveaxis(np.concatenate([vectors, weights], axis=-1), (1, 2), (-2, -1))

    def _pooled(self, tokens: Tokens, masks: np.ndarray) -> np.ndarray:
        """Vectors (tile, outer, part, D of a part) over the True cells of masks (tile, part, h, w)."""
        import torch

        if self.pooling == "cls":
            if tokens.pooled is None:
                raise EncoderError(
                    "The model gave no vector of its own for a tile.", expected="Tokens.pooled"
                )
            return tokens.pooled.cpu().numpy().reshape(len(masks), *self.vectors.shape[3:])
        grid = tokens.grid.reshape(len(masks), *self.vectors.shape[3:], *masks.shape[-2:])
        mask = torch.from_numpy(masks).to(grid.device)[:, None, :, None]
        if self.pooling == "max":
            pooled = grid.masked_fill(~mask, float("-inf")).amax(dim=(-2, -1))
        else:
            # Not a product with the mask: the part of a missing modality is NaN.
            pooled = grid.masked_fill(~mask, 0.0).sum(dim=(-2, -1)) / mask.sum(dim=(-2, -1)).clamp(min=1)
        return pooled.cpu().numpy()

    def _of_tile(self, cells: np.ndarray, tile: Tile, side: int) -> np.ndarray:
        row, column = (
            (axis.starts[index] - axis.span[0]) // self.patch
            for axis, index in zip((self.block.y, self.block.x), tile[1:], strict=True)
        )
        return cells[tile[0], :, row : row + side, column : column + side]

    def _own_pixels(self, tile: Tile) -> np.ndarray:
        rows, columns = (
            slice(*(cell - axis.span[0] // self.patch for cell in axis.runs[index]))
            for axis, index in zip((self.block.y, self.block.x), tile[1:], strict=True)
        )
        return np.asarray(self.pixels[tile[0], :, rows, columns].sum(axis=(-2, -1)))


def _slices(axis: AxisBlock, tile: int, patch: int) -> tuple[slice, slice]:
    """The cells that a tile gives, as places in the block and as places in the tile."""
    first, last = axis.runs[tile]
    place = first // axis.step - axis.starts[tile] // patch
    number = len(range(first, last, axis.step))
    return slice(first - axis.cells[0], last - axis.cells[0], axis.step), slice(place, place + number)


def _broken(tiles: Sequence[tuple[int, int]], block: Block) -> EncoderError:
    corners = "; ".join(f"y {block.y.starts[i]}, x {block.x.starts[j]}" for i, j in tiles)
    where = "the tile that begins at" if len(tiles) == 1 else "one of the tiles that begin at"
    return EncoderError(
        "The model gave NaN or infinite numbers for valid pixels.",
        found=f"tokens that are not finite in {where} {corners}",
        expected="finite tokens",
        remedy='check the scene\'s units and the weights; with precision="float16" try "bfloat16"',
    )
