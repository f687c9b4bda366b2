"""The work on one block of generated images: tiles drawn one by one, and blended where they overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from xr_rsembed.engine import devices, pixels
from xr_rsembed.engine.plan import block_errors
from xr_rsembed.errors import EncoderError
from xr_rsembed.inputs.record import Pixels
from xr_rsembed.models.encoder import EncoderRequest, Generator
from xr_rsembed.models.spec import ModelSpec
from xr_rsembed.progress import tiles_done
from xr_rsembed.tiling import AxisBlock, Block

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Drawing:
    """All that a block needs besides its place and its pixels.

    ``spec`` is the generator's; ``outputs`` are names and numbers of channels, in the order in which they are stacked;
    ``origin`` is the row and column of the scene's first pixel on the map's own pixel lattice.
    """

    spec: ModelSpec
    request: EncoderRequest
    inputs: tuple[Pixels, ...]
    outputs: tuple[tuple[str, int], ...]
    overlap: int
    seed: int
    origin: tuple[int, int]

    @property
    def channels(self) -> int:
        return sum(number for _, number in self.outputs)


def tile_seed(seed: int, row: int, column: int) -> int:
    """The seed of a tile's noise, from the user's seed and the tile's place on the map's pixel lattice.

    Examples
    --------
    >>> tile_seed(0, 0, 160) == tile_seed(0, 0, 160), tile_seed(0, 0, 160) == tile_seed(0, 160, 0)
    (True, False)
    """
    words = [number % 2**64 for number in (seed, row, column)]
    # terratorch adds the number of each step to it, and torch takes no more than 64 bits.
    return int(np.random.SeedSequence(words).generate_state(1)[0])


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


def ramps(blocks: Sequence[AxisBlock], size: int, overlap: int) -> np.ndarray:
    """The sum of all tiles' weights at each pixel of an axis."""
    profile, end = ramp(size, overlap).astype("float64"), blocks[-1].window[1]
    sums = np.zeros(blocks[-1].span[1])
    for start in (start for block in blocks for start in block.starts):
        sums[start : start + size] += profile
    return sums[:end]


def draw_block(job: Drawing, block: Block, windows: Sequence[np.ndarray]) -> np.ndarray:
    """Generate one block, from raw pixels (..., band, y, x) of its window by modality.

    Gives float64 sums of the tiles' images by their weights (..., channel, y, x) over the window; NaN where no modality
    has a valid pixel.
    """
    import torch

    with block_errors("generated", block), torch.inference_mode():
        leading = windows[0].shape[:-3]
        values = _draw(job, block, [window.reshape(-1, *window.shape[-3:]) for window in windows])
        return values.reshape(leading + values.shape[1:])


def _draw(job: Drawing, block: Block, windows: list[np.ndarray]) -> np.ndarray:
    y, x = block.y, block.x
    valid = [pixels.valid_pixels(window, how) for window, how in zip(windows, job.inputs, strict=True)]
    number, height, width = valid[0].shape
    sums = np.zeros((number, job.channels, height, width))
    left = number * len(y.starts) * len(x.starts)
    size = job.spec.image_size
    weight = np.outer(ramp(size, job.overlap), ramp(size, job.overlap))
    if any(mask.any() for mask in valid):
        device = devices.resolve_device(job.request.device)
        ready = [
            pixels.Window.of(window, mask, how, block, device)
            for window, mask, how in zip(windows, valid, job.inputs, strict=True)
        ]
        generator = cast("Generator", devices.get_encoder(job.spec, replace(job.request, device=device)))
        # In the order of their places, whatever they are grouped by: a pixel's sum then has one order in every block.
        tiles = sorted(
            ((tile, seen) for group, seen in pixels.tile_groups(ready) for tile in group),
            key=lambda pair: pair[0],
        )
        room: dict[str, torch.Tensor] = {}
        with devices.one_at_a_time(device):
            for (n, i, j), seen in tiles:
                top, first = y.starts[i], x.starts[j]
                seed = tile_seed(job.seed, job.origin[0] + top, job.origin[1] + first)
                inputs = pixels.batch_inputs(seen, block, [(n, i, j)], room)
                image = _image(job, generator(inputs, [seed]))
                place = sums[n, :, top - y.window[0] :, first - x.window[0] :][:, :size, :size]
                place += (weight * image)[:, : place.shape[1], : place.shape[2]]
                tiles_done(1)
            left -= len(tiles)
    tiles_done(left)  # those without a valid pixel
    sums[np.broadcast_to(~np.logical_or.reduce(valid)[:, None], sums.shape)] = np.nan
    return sums


def _image(job: Drawing, images: Mapping[str, torch.Tensor]) -> np.ndarray:
    """All channels of a tile, one after the other."""
    stacked = []
    for name, channels in job.outputs:
        image = images[name][0].float().cpu().numpy()
        shape, finite = (channels, job.spec.image_size, job.spec.image_size), np.isfinite(image).all()
        if image.shape != shape or not finite:
            raise EncoderError(
                f"The generator gave no image of {name}.",
                found=f"shape {image.shape}" + ("" if finite else ", with numbers that are not finite"),
                expected=f"finite numbers of shape {shape}",
            )
        stacked.append(image)
    return np.concatenate(stacked)
