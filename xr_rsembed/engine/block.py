"""The work on one block: windows of raw pixels in, the block's cells (or tiles) out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_rsembed.engine import devices, pixels
from xr_rsembed.engine.context import Origin, Seeds
from xr_rsembed.engine.settings import Settings
from xr_rsembed.engine.sinks import GridSink, TileSink
from xr_rsembed.errors import BlockError, EncoderError, RsEmbedError
from xr_rsembed.inputs.record import Pixels
from xr_rsembed.models.encoder import Encoder, EncoderRequest, Layout, Tokens
from xr_rsembed.models.spec import ModelSpec
from xr_rsembed.progress import tiles_done
from xr_rsembed.tiling import Block, Tile

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Job:
    """All that a block needs besides its place and its pixels: the same for every block of an embedding.

    The device of ``request`` may still be ``auto``, which each worker finds out for itself; ``inputs`` has one item per
    modality, in the order of the windows; ``block_tiles`` is the side of a block in tiles; ``options`` are those that
    the encoder takes with each call; ``origin`` is there for encoders that take dates, places or seeds.
    """

    spec: ModelSpec
    request: EncoderRequest
    inputs: tuple[Pixels, ...]
    layout: Layout
    settings: Settings
    block_tiles: int
    options: tuple[tuple[str, Any], ...] = ()
    origin: Origin | Seeds | None = None

    @property
    def most_pixels(self) -> int:
        """Pixels of the tiles that a block may hold."""
        return (self.block_tiles * self.spec.image_size) ** 2


def run_block(job: Job, block: Block, windows: Sequence[np.ndarray]) -> np.ndarray:
    """Embed one block, from raw pixels (..., band, y, x) of its window by modality.

    Tiles of all leading indices fill batches together. Gives an array (..., *layout.shape, y, x): cells for
    ``output="grid"``, with ``blend="mean"`` float64 sums over tiles; otherwise one vector a tile, with the tile's
    weights at the end of D.
    """
    import torch

    with _block_errors(block), torch.inference_mode():
        leading = windows[0].shape[:-3]
        values = _embed(job, block, [window.reshape(-1, *window.shape[-3:]) for window in windows])
        return values.reshape(leading + values.shape[1:])


@contextmanager
def _block_errors(block: Block) -> Iterator[None]:
    """Add a block's window to any error that is raised in it; our own errors keep their class."""
    y, x = (f"{axis.window[0]}:{axis.window[1]}" for axis in (block.y, block.x))
    place = f"window:   y {y}, x {x} (pixels of the scene)"
    try:
        yield
    except RsEmbedError as error:
        raise type(error)(f"{error}\n  {place}") from error
    except Exception as error:
        raise BlockError(
            f"A block could not be computed: {type(error).__name__}: {error}\n  {place}"
        ) from error


def _embed(job: Job, block: Block, windows: list[np.ndarray]) -> np.ndarray:
    valid = [pixels.valid_pixels(window, how) for window, how in zip(windows, job.inputs, strict=True)]
    sink = _sink(job, block, valid)
    left = len(valid[0]) * len(block.y.starts) * len(block.x.starts)
    if any(mask.any() for mask in valid):
        device = devices.resolve_device(job.request.device)
        ready = [
            pixels.Window.of(window, mask, how, block, device)
            for window, mask, how in zip(windows, valid, job.inputs, strict=True)
        ]
        encoder = devices.get_encoder(job.spec, job.request)
        with devices.one_at_a_time(device):
            for tiles, seen in pixels.tile_groups(ready):
                _encode_tiles(encoder, job, sink, seen, block, tiles, device)
                left -= len(tiles)
    tiles_done(left)  # those without a valid pixel
    values = sink.finish()
    return values if job.settings.sums else values.astype(job.settings.out_dtype, copy=False)


def _sink(job: Job, block: Block, valid: Sequence[np.ndarray]) -> GridSink | TileSink:
    """Where the tokens go, with the validity of each of the layout's parts."""
    patch, settings = job.spec.patch_size, job.settings
    usable, counts = map(
        partial(np.stack, axis=1),
        zip(*(_usable(job, block, mask) for mask in _part_masks(job, valid)), strict=True),
    )
    if settings.output == "grid":
        dtype = "float64" if settings.sums else "float32"
        own = usable[..., : len(block.y), : len(block.x)]
        return GridSink(block, job.layout, own, patch, dtype)
    pooling = "cls" if job.spec.pooled == "cls" else settings.pooling
    return TileSink(block, job.layout, usable, counts, pooling, patch)


def _part_masks(job: Job, valid: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Valid pixels of each part: a modality's own where vectors stay apart, else those of any modality."""
    anywhere = np.asarray(np.logical_or.reduce(valid))
    own = {how.modality: mask for how, mask in zip(job.inputs, valid, strict=True)}
    return [own.get(name, anywhere) for name in job.layout.modalities] or [anywhere]


def _usable(job: Job, block: Block, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which cells of the span have enough valid pixels, and how many each has."""
    patch = job.spec.patch_size
    if job.settings.input_prep == "resize":
        counts = share = pixels.resized_share(valid, job.spec.image_size // patch)
    else:
        counts, real = pixels.cell_pixels(valid, block, patch)
        share = counts / np.maximum(real, 1)
    return (share > 0) & (share >= job.settings.min_valid), counts


def _encode_tiles(
    encoder: Encoder,
    job: Job,
    sink: GridSink | TileSink,
    windows: Sequence[pixels.Window],
    block: Block,
    tiles: Sequence[Tile],
    device: str,
) -> None:
    """Run tiles through the encoder in batches; where a GPU's memory runs out, in smaller ones."""
    import torch

    size, first = devices.batch_size(job.settings.batch_size, job.spec, device, len(windows)), 0
    room: dict[str, torch.Tensor] = {}
    while first < len(tiles):
        batch = tiles[first : first + size]
        try:
            inputs = pixels.batch_inputs(windows, block, batch, room)
            if job.settings.input_prep == "resize":
                inputs = pixels.resized(inputs, job.spec.image_size)
            tokens = _encode(encoder, inputs, job, block, batch)
        except torch.OutOfMemoryError:
            room.clear()
            size = devices.smaller_batch(job.spec, device, len(batch))
            continue
        sink.add(batch, tokens)
        first += len(batch)
        tiles_done(len(batch))


def _encode(
    encoder: Callable[..., Any],
    inputs: Mapping[str, torch.Tensor],
    job: Job,
    block: Block,
    tiles: Sequence[Tile],
) -> Tokens:
    """One forward, held to the encoder's contract; encoder objects may give their grid alone."""
    import torch

    origin = job.origin
    context = () if origin is None else (origin.context(block, tiles, job.spec.image_size),)
    given: Any = encoder(inputs, job.settings.layers, dict(job.options), *context)
    tokens = given if isinstance(given, Tokens) else Tokens(given)
    cells = job.spec.image_size // job.spec.patch_size
    shape = (len(tiles), *job.layout.shape, cells, cells)
    grid: Any = tokens.grid
    is_tensor = torch.is_tensor(grid)
    if not is_tensor or grid.numel() != math.prod(shape) or not grid.is_floating_point():
        raise EncoderError(
            f"The encoder of {job.spec.key} broke its contract.",
            found=f"grid {tuple(grid.shape)} {grid.dtype}" if is_tensor else f"a {type(grid).__name__}",
            expected=f"Tokens, or a torch tensor of their grid: {shape}, floats, (tile, *layout, rows, columns)",
        )
    pooled = None if tokens.pooled is None else tokens.pooled.reshape(shape[:-2]).float()
    return Tokens(grid.reshape(shape).float(), pooled)
