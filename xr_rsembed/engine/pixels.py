"""From raw windows to batches of normalized tiles: validity, padding, normalization on the encoder's device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_rsembed.errors import SceneError
from xr_rsembed.inputs.cf import held_values
from xr_rsembed.inputs.guard import check_common, check_range, check_values
from xr_rsembed.inputs.record import Pixels
from xr_rsembed.normalize import normalize
from xr_rsembed.tiling import Block, Tile

if TYPE_CHECKING:
    import torch

_DB_FLOOR = 1e-5  # -50 dB, far below any sensor's noise: the logarithm of an empty pixel stays finite


@dataclass(frozen=True)
class Window:
    """One modality's pixels of a block on the encoder's device, padded to the span (Y, X) of its tiles.

    The leading dims of the scene are one here, n. ``counted`` are valid pixels without the padding, for statistics;
    a mask is None where every pixel is in it.
    """

    how: Pixels
    raw: torch.Tensor  # (n, band, Y, X), in the scene's own dtype
    valid: torch.Tensor | None  # (n, 1, Y, X)
    counted: torch.Tensor | None  # (n, 1, Y, X)
    present: np.ndarray  # (n, tile rows, tile columns): whether a tile has a valid pixel

    @classmethod
    def of(cls, window: np.ndarray, valid: np.ndarray, how: Pixels, block: Block, device: str) -> Window:
        """Check the values, pad, and copy to the device."""
        for one, mask in zip(window, valid, strict=True):
            check_values(one, mask, how)
        present = tiles_with_pixels(valid, block)
        padding = _padding(block)
        counted = np.pad(valid, padding)
        if counted.shape != valid.shape:
            window = np.pad(window, [(0, 0), *padding], mode="edge")
            valid = np.pad(valid, padding, mode="edge")
        return cls(
            how,
            _to_device(window, device),
            None if valid.all() else _to_device(valid[:, None], device),
            None if counted.all() else _to_device(counted[:, None], device),
            present,
        )


def valid_pixels(window: np.ndarray, how: Pixels) -> np.ndarray:
    """Which pixels (..., y, x) of a window (..., band, y, x) are valid: no band is NaN, nodata, or out of range.

    Refuses infinite pixels, and values of another unit where they would pass for nodata.
    """
    valid = np.ones(window.shape[:-3] + window.shape[-2:], dtype=bool)
    nodata = [*held_values(how.nodata, window.dtype)]
    for band in np.moveaxis(window, -3, 0):
        for value in nodata:
            valid &= band != value
        if band.dtype.kind == "f":
            finite = np.isfinite(band)
            if not finite.all():
                valid &= finite
                _refuse_infinite(band, nodata)
    for index in np.ndindex(*window.shape[:-3]):
        if how.units and not valid[index].any():
            check_common(window[index], how)
    if how.valid_range is not None:
        low, high = how.valid_range
        inside = np.all((window >= low) & (window <= high), axis=-3)
        for index in np.ndindex(*window.shape[:-3]):
            check_range(window[index], valid[index], inside[index], how)
        valid &= inside
    if how.power:
        valid &= _positive(window, valid, how)
    return valid


def tiles_with_pixels(valid: np.ndarray, block: Block) -> np.ndarray:
    """Which tiles (n, tile rows, tile columns) of a block have any of the valid pixels (n, y, x) of its window."""
    present = np.empty((len(valid), len(block.y.starts), len(block.x.starts)), dtype=bool)
    for tile in np.ndindex(*present.shape):
        present[tile] = _tile(valid, block, tile).any()
    return present


def _positive(window: np.ndarray, valid: np.ndarray, how: Pixels) -> np.ndarray:
    """Where power is above 0 in all bands; values are judged before, or dB stated as power would be left out."""
    for index in np.ndindex(*window.shape[:-3]):
        check_values(window[index], valid[index], how)
    return np.all(window * how.scale + how.offset > 0, axis=-3)


def cell_pixels(valid: np.ndarray, block: Block, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Each cell's valid pixels (n, rows, columns), and its real ones (those of the scene), over the tiles' span."""
    padded = np.pad(valid, _padding(block))
    step, pitch = block.y.step, patch // block.y.step
    rows, columns = padded.shape[1] // pitch, padded.shape[2] // pitch
    counts = padded.reshape(-1, rows, pitch, columns, pitch).sum(axis=(2, 4))
    if step > 1:
        counts = np.lib.stride_tricks.sliding_window_view(counts, (step, step), (1, 2)).sum(axis=(-2, -1))
    real_rows, real_columns = (
        (axis.window[1] - axis.window[0] - pitch * np.arange(number)).clip(0, patch)
        for axis, number in ((block.y, counts.shape[1]), (block.x, counts.shape[2]))
    )
    return counts, np.outer(real_rows, real_columns)


def _padding(block: Block) -> list[tuple[int, int]]:
    """How far the tiles reach beyond the scene's end along (n, y, x)."""
    return [(0, 0), *((0, axis.span[1] - axis.window[1]) for axis in (block.y, block.x))]


def tile_groups(windows: Sequence[Window]) -> Iterator[tuple[list[Tile], list[Window]]]:
    """Tiles that have the same modalities, with the windows that these tiles see; tiles without any are left out."""
    groups: dict[tuple[bool, ...], list[Tile]] = {}
    for tile in np.ndindex(*windows[0].present.shape):
        groups.setdefault(tuple(bool(window.present[tile]) for window in windows), []).append(tile)
    for pattern, tiles in groups.items():
        if any(pattern):
            yield tiles, [window for window, present in zip(windows, pattern, strict=True) if present]


def batch_inputs(
    windows: Sequence[Window], block: Block, tiles: Sequence[Tile], room: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Normalized tiles by modality, each a float32 tensor (tile, band, height, width).

    They stand in ``room``, where the next batch will be written over them.
    """
    import torch

    def views(values: torch.Tensor) -> list[torch.Tensor]:
        return [_tile(values, block, tile) for tile in tiles]

    def batch(window: Window) -> torch.Tensor:
        name, raw = window.how.modality, views(window.raw)
        if name not in room or len(room[name]) < len(raw):
            room[name] = torch.empty((len(raw), *raw[0].shape), dtype=torch.float32, device=window.raw.device)
        gathered = room[name][: len(raw)]
        # Gathers and converts in one pass: 2.7 ms for 8 tiles on one thread, all steps together, where stacking
        # the raw pixels first takes 3.5 ms.
        for place, view in zip(gathered, raw, strict=True):
            place.copy_(view)
        return gathered

    def mask(values: torch.Tensor | None) -> torch.Tensor | None:
        return None if values is None else torch.stack(views(values))

    return {
        window.how.modality: _normalized(batch(window), window.how, mask(window.valid), mask(window.counted))
        for window in windows
    }


def resized(inputs: Mapping[str, torch.Tensor], size: int) -> dict[str, torch.Tensor]:
    """Normalized tiles by modality at another size, bilinear with pixel centres kept in place."""
    from torch.nn.functional import interpolate

    how: Any = {"size": (size, size), "mode": "bilinear", "align_corners": False}
    return {name: interpolate(tiles, **how) for name, tiles in inputs.items()}


def resized_share(valid: np.ndarray, cells: int) -> np.ndarray:
    """Share of valid pixels in each of cells x cells equal parts of the scene, shape (n, cells, cells)."""
    import torch

    mask = torch.from_numpy(valid.astype("float32"))
    return torch.nn.functional.adaptive_avg_pool2d(mask, (cells, cells)).numpy()


def normalized_pixels(values: np.ndarray, how: Pixels) -> np.ndarray:
    """Pixels (..., band, y, x) as a model sees them, float32, for looking at rather than for encoding."""
    import torch

    leading = values.shape[:-3]
    out = np.empty(values.shape, dtype="float32")
    for index in np.ndindex(*leading):
        window = np.ascontiguousarray(values[index])
        valid = valid_pixels(window, how)
        check_values(window, valid, how)
        mask = torch.from_numpy(valid[None])
        out[index] = _normalized(torch.from_numpy(window.astype("float32")), how, mask, mask).numpy()
    return out


def _normalized(
    raw: torch.Tensor, how: Pixels, valid: torch.Tensor | None, counted: torch.Tensor | None
) -> torch.Tensor:
    """Pixels (..., band, y, x), float32 and ours to write on, as the model sees them."""
    if how.scale != 1.0:
        raw.mul_(how.scale)
    if how.offset:
        raw.add_(how.offset)
    if how.floor is not None:
        raw.clamp_(min=how.floor)
    if how.to_db:
        raw.clamp_(min=_DB_FLOOR).log10_().mul_(10.0)
    return normalize(raw, how.normalization, valid, counted, overwrite=True)


def _tile(values: Any, block: Block, tile: Tile) -> Any:
    """A view of one tile of an array or tensor (n, ..., Y, X) that starts where the block's span does."""
    rows, columns = (
        slice(axis.starts[index] - axis.span[0], axis.starts[index] - axis.span[0] + axis.size)
        for axis, index in zip((block.y, block.x), tile[1:], strict=True)
    )
    return values[tile[0], ..., rows, columns]


def _to_device(array: np.ndarray, device: str) -> torch.Tensor:
    """Copy to the device; to a GPU from pinned memory on a stream of its own, beside another thread's kernels."""
    import torch

    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    tensor = torch.from_numpy(native if native.flags.writeable else native.copy())
    if not device.startswith("cuda"):
        return tensor
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        moved = tensor.pin_memory().to(device, non_blocking=True)
    stream.synchronize()
    return moved


def _refuse_infinite(band: np.ndarray, nodata: Sequence[Any]) -> None:
    infinite = np.isinf(band)
    for value in nodata:
        infinite &= band != value
    if infinite.any():
        raise SceneError(
            "The scene holds infinite pixels.",
            found=f"{int(infinite.sum())} of them in this block",
            expected="finite numbers, or NaN where there is no data",
            remedy="da.where(np.isfinite(da))",
        )
