"""The work on one block of generated images: tiles drawn one by one, and blended where they overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from xr_rsembed.engine import devices, pixels
from xr_rsembed.errors import BlockError, EncoderError, RsEmbedError
from xr_rsembed.inputs.validate import Pixels
from xr_rsembed.models.spec import EncoderRequest, ModelSpec
from xr_rsembed.models.terramind.generate import Generator
from xr_rsembed.tiling import AxisBlock

if TYPE_CHECKING:
    import torch

__all__ = ["Drawing", "draw_block", "pixel_range", "ramp", "tile_seed"]


@dataclass(frozen=True)
class Drawing:
    """All that a block needs besides its place and its pixels.

    Parameters
    ----------
    spec : ModelSpec
        Of the generator.
    request : EncoderRequest
    inputs : tuple of Pixels
    outputs : tuple of (str, int)
        Names and numbers of channels, in the order in which they are stacked.
    overlap, seed : int
    origin : (int, int)
        Row and column of the scene's first pixel on the map's own pixel lattice.
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


def pixel_range(axis: AxisBlock, patch: int) -> tuple[int, int]:
    """The pixels of the scene that a block gives."""
    return axis.cells[0] * patch, min(axis.cells[1] * patch, axis.window[1])


def draw_block(job: Drawing, y: AxisBlock, x: AxisBlock, windows: Sequence[np.ndarray]) -> np.ndarray:
    """Generate one block.

    Parameters
    ----------
    job : Drawing
    y, x : AxisBlock
        With every tile that covers the block's pixels.
    windows : sequence of array, shape (1, ..., band, y, x)
        Raw pixels of ``y.window`` by ``x.window``, one array per modality; leading dims have length 1.

    Returns
    -------
    array, shape (1, ..., channel, y, x), float32
        NaN where no modality has a valid pixel.

    Raises
    ------
    BlockError
        For whatever went wrong, with the block's window; our own errors keep their class.
    """
    import torch

    leading = windows[0].shape[:-3]
    place = f"window:   y {y.window[0]}:{y.window[1]}, x {x.window[0]}:{x.window[1]} (pixels of the scene)"
    try:
        with torch.inference_mode():
            values = _draw(job, y, x, [window.reshape(window.shape[-3:]) for window in windows])
    except RsEmbedError as error:
        raise type(error)(f"{error}\n  {place}") from error
    except Exception as error:
        raise BlockError(
            f"A block could not be generated: {type(error).__name__}: {error}\n  {place}"
        ) from error
    return values.reshape(leading + values.shape)


def _draw(job: Drawing, y: AxisBlock, x: AxisBlock, windows: list[np.ndarray]) -> np.ndarray:
    valid = [pixels.valid_pixels(window, how) for window, how in zip(windows, job.inputs, strict=True)]
    rows, columns = (pixel_range(axis, job.spec.patch_size) for axis in (y, x))
    canvas = _Canvas(job, rows, columns)
    if any(mask.any() for mask in valid):
        device = devices.resolve_device(job.request.device)
        ready = [
            pixels.Window.of(window, mask, how, y, x, device)
            for window, mask, how in zip(windows, valid, job.inputs, strict=True)
        ]
        generator = cast("Generator", devices.get_encoder(job.spec, replace(job.request, device=device)))
        # In the order of their places, whatever they are grouped by: a pixel's sum then has one order in every block.
        tiles = sorted((tile, seen) for group, seen in _groups(ready) for tile in group)
        room: dict[str, torch.Tensor] = {}
        with devices.turn(device):
            for (i, j), seen in tiles:
                top, left = y.starts[i], x.starts[j]
                seed = tile_seed(job.seed, job.origin[0] + top, job.origin[1] + left)
                inputs = pixels.batch_inputs([ready[number] for number in seen], y, x, [(i, j)], room)
                canvas.add(generator(inputs, [seed]), top, left)
    cut = tuple(
        slice(start - axis.window[0], stop - axis.window[0])
        for axis, (start, stop) in ((y, rows), (x, columns))
    )
    return canvas.finish(np.logical_or.reduce(valid)[cut])


def _groups(ready: Sequence[pixels.Window]) -> list[tuple[list[tuple[int, int]], tuple[int, ...]]]:
    """Tiles, and which of the windows they see."""
    return [
        (tiles, tuple(number for number, window in enumerate(ready) if any(window is one for one in seen)))
        for tiles, seen in pixels.tile_groups(ready)
    ]


class _Canvas:
    """A block's pixels: sums of weighted images, and of the weights."""

    def __init__(self, job: Drawing, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        self.job, self.rows, self.columns = job, rows, columns
        shape = (rows[1] - rows[0], columns[1] - columns[0])
        self.values = np.zeros((job.channels, *shape), dtype="float32")
        self.weights = np.zeros(shape, dtype="float32")

    def add(self, images: Mapping[str, torch.Tensor], top: int, left: int) -> None:
        size = self.job.spec.image_size
        image = np.concatenate([self._checked(images, *output, size) for output in self.job.outputs])
        profile = ramp(size, self.job.overlap)
        (to_y, from_y), (to_x, from_x) = (
            _overlap(start, size, block) for start, block in ((top, self.rows), (left, self.columns))
        )
        weight = np.outer(profile[from_y], profile[from_x])
        self.values[:, to_y, to_x] += weight * image[:, from_y, from_x]
        self.weights[to_y, to_x] += weight

    def finish(self, valid: np.ndarray) -> np.ndarray:
        self.values /= np.where(self.weights > 0, self.weights, 1.0)
        self.values[:, ~(valid & (self.weights > 0))] = np.nan
        return self.values

    def _checked(self, images: Mapping[str, torch.Tensor], name: str, channels: int, size: int) -> np.ndarray:
        image = images[name][0].float().cpu().numpy()
        if image.shape != (channels, size, size) or not np.isfinite(image).all():
            raise EncoderError(
                f"The generator gave no image of {name}.",
                found=f"shape {image.shape}"
                + ("" if np.isfinite(image).all() else ", with numbers that are not finite"),
                expected=f"finite numbers of shape {(channels, size, size)}",
            )
        return image


def _overlap(start: int, size: int, block: tuple[int, int]) -> tuple[slice, slice]:
    """What a tile covers of a block: counted from the block's first pixel, and from the tile's."""
    first, last = max(start, block[0]), min(start + size, block[1])
    return slice(first - block[0], last - block[0]), slice(first - start, last - start)
