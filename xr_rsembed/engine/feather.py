"""Generated images: what makes an encoder of a generator, with a cell a pixel and tiles that fade into each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_rsembed.errors import EncoderError
from xr_rsembed.models.encoder import EncoderRequest, Generator, Tokens
from xr_rsembed.models.spec import ModelSpec
from xr_rsembed.tiling import AxisBlock

if TYPE_CHECKING:
    import torch


def ramp(size: int, overlap: int) -> np.ndarray:
    """A tile's weight along one axis: 1 inside, falling evenly to 0 at both ends over the overlap.

    Examples
    --------
    >>> ramp(6, 2)
    array([0.25, 0.75, 1.  , 1.  , 0.75, 0.25], dtype=float32)
    """
    if not overlap:
        return np.ones(size, dtype="float32")
    rising = (np.arange(size) + 0.5) / overlap
    return np.minimum(1.0, np.minimum(rising, rising[::-1])).astype("float32")


def ramps(blocks: Sequence[AxisBlock], overlap: int) -> np.ndarray:
    """The sum of all tiles' weights at each pixel of an axis."""
    size, end = blocks[0].size, blocks[-1].window[1]
    profile = ramp(size, overlap).astype("float64")
    sums = np.zeros(blocks[-1].span[1])
    for start in (start for block in blocks for start in block.starts):
        sums[start : start + size] += profile
    return sums[:end]


def pixel_cells(block: AxisBlock) -> AxisBlock:
    """The same tiles with a cell for each pixel, and every tile giving to all that it covers."""
    runs = tuple((start, min(start + block.size, block.window[1])) for start in block.starts)
    return replace(block, runs=runs, cells=block.window)


def load_drawing(
    load: Callable[[ModelSpec, EncoderRequest], Generator], spec: ModelSpec, request: EncoderRequest
) -> Callable[..., Tokens]:
    """A generator as an encoder: of an image a tile, with the channels in D and the tile's seed as its context."""
    return partial(_draw, load(spec, request))


def _draw(
    generator: Generator,
    inputs: Mapping[str, torch.Tensor],
    layers: tuple[int, ...],
    options: Mapping[str, Any],
    seeds: Sequence[int],
) -> Tokens:
    """All channels of the tiles, one output after the other, times the tile's weights."""
    import torch

    size = next(iter(inputs.values())).shape[-1]
    images = generator(inputs, seeds)
    for name, channels in options["outputs"]:
        image, shape = images[name], (len(seeds), channels, size, size)
        finite = bool(image.isfinite().all())
        if image.shape != shape or not finite:
            raise EncoderError(
                f"The generator gave no image of {name}.",
                found=f"shape {tuple(image.shape)}"
                + ("" if finite else ", with numbers that are not finite"),
                expected=f"finite numbers of shape {shape}",
            )
    stacked = torch.cat([images[name].float() for name, _ in options["outputs"]], dim=1)
    weight = ramp(size, options["overlap"])
    return Tokens(stacked * torch.from_numpy(np.outer(weight, weight)).to(stacked))
