"""How many tiles lack a modality: counted from the validity of pixels alone, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask.base import compute

from xr_rsembed.engine.pixels import valid_pixels
from xr_rsembed.inputs.record import Input, Pixels
from xr_rsembed.tiling import AxisBlock, Blocks

_SIDE = 2048  # pixels of a chunk that is looked through at once


def count_missing(inputs: Sequence[Input], blocks: Blocks, patch: int) -> dict[str, Any]:
    """Count the tiles that a modality is left out of, from all pixels of scenes of one shape.

    Gives, for attrs, ``tiles``: those with a valid pixel of any modality, over all leading dims; and ``tiles_without``:
    for each modality, those among them without a valid pixel of it.
    """
    pitch = patch // blocks.y[0].step
    boxes = compute(*(_valid_boxes(item, pitch) for item in inputs), scheduler="threads")
    tiles = np.stack([_in_tiles(_in_tiles(box, blocks.y, pitch, -2), blocks.x, pitch, -1) for box in boxes])
    anywhere = tiles.any(axis=0)
    return {"tiles": int(anywhere.sum()), "tiles_without": [int((anywhere & ~own).sum()) for own in tiles]}


def _valid_boxes(item: Input, pitch: int) -> da.Array:
    """Whether each box of pitch x pitch pixels has a valid one, shape (..., rows, columns)."""
    scene = item.scene.data if item.scene.chunks is not None else da.from_array(item.scene.values, name=False)
    whole = pitch * max(1, _SIDE // pitch)  # no box lies in two chunks
    scene = scene.rechunk({scene.ndim - 3: -1, scene.ndim - 2: whole, scene.ndim - 1: whole}, method="tasks")
    boxes = [tuple(-(-size // pitch) for size in sizes) for sizes in scene.chunks[-2:]]
    chunks = (*scene.chunks[:-3], *boxes)
    return da.map_blocks(
        _boxes, scene, how=item.pixels, pitch=pitch, chunks=chunks, drop_axis=scene.ndim - 3, dtype=bool
    )


def _boxes(window: np.ndarray, how: Pixels, pitch: int) -> np.ndarray:
    valid = valid_pixels(window, how)
    ends = [(0, 0)] * (valid.ndim - 2) + [(0, -length % pitch) for length in valid.shape[-2:]]
    padded = np.pad(valid, ends)
    rows, columns = (length // pitch for length in padded.shape[-2:])
    return np.asarray(padded.reshape(*valid.shape[:-2], rows, pitch, columns, pitch).any(axis=(-3, -1)))


def _in_tiles(boxes: np.ndarray, axes: Sequence[AxisBlock], pitch: int, dim: int) -> np.ndarray:
    """Whether each tile of an axis has any, in place of the boxes of that axis."""
    size = axes[0].size
    starts = [start for axis in axes for start in axis.starts]
    runs = [slice(start // pitch, -(-(start + size) // pitch)) for start in starts]
    moved = np.moveaxis(boxes, dim, 0)
    return np.moveaxis(np.stack([moved[run].any(axis=0) for run in runs]), 0, dim)
