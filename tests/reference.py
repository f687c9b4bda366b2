"""The contract of docs/tiling.md written out the slow way in plain numpy: what the engine is held to.

Nothing here is shared with the library: whole scene in memory, one tile at a time, one cell at a time.
"""

from __future__ import annotations

import numpy as np

PATCH, SIZE = 16, 224


def tile_starts(pixels: int, overlap: int, edge: str) -> tuple[list[int], int]:
    """Starts of the tiles of an axis, and its padded length."""
    padded = max(SIZE, -(-pixels // PATCH) * PATCH)
    starts, start = [], 0
    while start + SIZE < padded:
        starts.append(start)
        start += SIZE - overlap
    if edge == "pad":
        starts.append(start)
        padded = max(padded, start + SIZE)
    else:
        starts.append(padded - SIZE)
    return starts, padded


def nearest(cell: int, starts: list[int]) -> int:
    """Among the tiles that cover a cell, the one whose centre is nearest; the earlier at a tie."""
    covering = [s for s in starts if s <= cell * PATCH and cell * PATCH + PATCH <= s + SIZE]
    return min(covering, key=lambda s: (abs(s + SIZE / 2 - (cell * PATCH + PATCH / 2)), s))


def embed(scene, normalize, encode, *, overlap=0, blend="center", edge="shift", nodata=None, min_valid=0.0):
    """(band, y, x) raw pixels to (D, rows, columns)."""
    height, width = scene.shape[1:]
    invalid = np.isnan(scene.astype("float64")).any(axis=0)
    if nodata is not None:
        invalid |= (scene == nodata).any(axis=0)
    (ys, tall), (xs, wide) = tile_starts(height, overlap, edge), tile_starts(width, overlap, edge)
    padding = ((0, 0), (0, tall - height), (0, wide - width))
    with np.errstate(invalid="ignore"):
        model_input = np.where(invalid, 0.0, normalize(scene.astype("float32")))
    model_input = np.pad(model_input, padding, mode="edge").astype("float32")
    tokens = {
        (y, x): encode(model_input[:, y : y + SIZE, x : x + SIZE])
        for y in ys
        for x in xs
    }  # fmt: skip
    rows, columns = -(-height // PATCH), -(-width // PATCH)
    depth = len(next(iter(tokens.values())))
    out = np.full((depth, rows, columns), np.nan, dtype="float32")
    for row in range(rows):
        for column in range(columns):
            cell = ~invalid[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
            if not cell.any() or cell.mean() < min_valid:
                continue
            if blend == "center":
                tiles = [(nearest(row, ys), nearest(column, xs))]
            else:
                tiles = [
                    (y, x)
                    for y in ys
                    for x in xs
                    if y <= row * PATCH < y + SIZE and x <= column * PATCH < x + SIZE
                ]
            values = [
                tokens[y, x][:, (row * PATCH - y) // PATCH, (column * PATCH - x) // PATCH] for y, x in tiles
            ]
            out[:, row, column] = np.mean(values, axis=0)
    return out
