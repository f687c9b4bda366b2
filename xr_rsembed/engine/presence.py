"""How many tiles lack a modality: counted from the validity of pixels alone, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np

from xr_rsembed.engine.devices import compute_here
from xr_rsembed.engine.pixels import tiles_with_pixels, valid_pixels
from xr_rsembed.engine.windows import as_dask, read_windows
from xr_rsembed.inputs.record import Input, Pixels
from xr_rsembed.tiling import Block, Blocks


def count_missing(inputs: Sequence[Input], blocks: Blocks) -> dict[str, Any]:
    """Count the tiles that a modality is left out of, from all pixels of scenes of one shape.

    Gives, for attrs, ``tiles``: those with a valid pixel of any modality, over all leading dims; and ``tiles_without``:
    for each modality, those among them without a valid pixel of it.
    """
    one_by_one = (1,) * (inputs[0].scene.ndim - 3)
    windows = [read_windows(as_dask(item.scene, blocks), one_by_one, blocks) for item in inputs]
    single = tuple((1,) * len(along) for along in (blocks.y, blocks.x))
    counts = da.map_blocks(
        _count,
        *windows,
        inputs=tuple(item.pixels for item in inputs),
        blocks=blocks,
        chunks=(*windows[0].chunks[:-3], (1 + len(inputs),), *single),
        dtype=int,
        meta=np.empty((0,) * windows[0].ndim, dtype=int),
    )
    tiles, *without = compute_here(counts.sum(axis=(*range(counts.ndim - 3), -2, -1))).tolist()
    return {"tiles": tiles, "tiles_without": without}


def _count(
    *windows: np.ndarray, inputs: tuple[Pixels, ...], blocks: Blocks, block_id: tuple[int, ...]
) -> np.ndarray:
    """The tiles of a block with any modality, then those of them without each."""
    block = Block(blocks.y[block_id[-2]], blocks.x[block_id[-1]])
    valid = [valid_pixels(window, how) for window, how in zip(windows, inputs, strict=True)]
    own = np.stack([tiles_with_pixels(mask.reshape(-1, *mask.shape[-2:]), block) for mask in valid])
    anywhere = own.any(axis=0)
    counts = [anywhere.sum(), *(anywhere & ~own).sum(axis=(1, 2, 3))]
    return np.reshape(counts, (*(1,) * (len(block_id) - 3), -1, 1, 1))
