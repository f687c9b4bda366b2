"""A lazy embedding that costs nothing, and a record of every time that one of its blocks is run."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

REGULAR = ((24,), (28, 28, 28, 10), (28, 28, 19))
OVERLAPPED = ((24,), (28, 26, 26, 14), (28, 26, 21))  # as the engine cuts where tiles overlap


def embedding(
    log: Path | None = None,
    *,
    chunks: Sequence[Sequence[int]] = REGULAR,
    seconds: float = 0.0,
    seed: int = 0,
    fails_at: tuple[int, ...] | None = None,
    **attrs: Any,
) -> xr.DataArray:
    """A (D, y, x) embedding over windows of pixels, as the engine has them.

    Block (0, 0, 1) has one NaN cell, and block (0, 1, 0) is NaN throughout.
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from xr_rsembed.georef import geobox_coords

    pixels = da.map_blocks(
        _pixels,
        dtype="int64",
        chunks=((1,), *map(tuple, chunks[1:])),
        meta=np.empty((0, 0, 0), dtype="int64"),
        name=f"rsembed-windows-fake-{seed}",
        seed=seed,
    )
    data = da.map_blocks(
        _block,
        pixels,
        dtype="float32",
        chunks=tuple(map(tuple, chunks)),
        meta=np.empty((0, 0, 0), dtype="float32"),
        # A name of its own: the log is no part of what the blocks hold.
        name=f"fake-{seed}",
        log=None if log is None else str(log),
        seconds=seconds,
        fails_at=fails_at,
    )
    box = GeoBox(data.shape[1:], Affine(160, 0, 600000, 0, -160, 5000000), "EPSG:32632")
    return xr.DataArray(
        data,
        dims=("D", "y", "x"),
        coords={"D": np.arange(data.shape[0]), **geobox_coords(box)},
        name="embedding",
        attrs=ATTRS | attrs,
    )


ATTRS: Mapping[str, Any] = {
    "model": "fake",
    "model_key": "fake_v1",
    "modality": "S2L2A",
    "bands": ["B2", "B3"],
    "weights": "random (seed 0)",
    "weights_sha256": "0" * 64,
    "layer": -1,
    "tile_size": 224,
    "patch_size": 16,
    "overlap": 0,
    "min_valid": 0.0,
    "output": "grid",
}


def runs(log: Path) -> list[tuple[int, ...]]:
    """The blocks that were run to their end, one entry for each time."""
    return _entries(log)


def starts(log: Path) -> list[tuple[int, ...]]:
    """The blocks that were begun, one entry for each time."""
    return _entries(Path(f"{log}.started"))


def files(store: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {
        str(file.relative_to(store)): file.read_bytes() for file in sorted(store.rglob("*")) if file.is_file()
    }


def _pixels(*, seed: int, block_info: Any = None) -> np.ndarray:
    rows, columns = (np.arange(*span) for span in block_info[None]["array-location"][1:])
    return (seed * 1_000_000 + rows[:, None] * 1000 + columns)[None]


def _block(
    pixels: np.ndarray,
    *,
    log: str | None,
    seconds: float,
    fails_at: tuple[int, ...] | None,
    block_info: Any = None,
) -> np.ndarray:
    index = tuple(block_info[None]["chunk-location"])
    if index == fails_at:
        raise RuntimeError("this block fails")
    _note(log and f"{log}.started", index)
    time.sleep(seconds)
    d, y, x = np.meshgrid(*(np.arange(*span) for span in block_info[None]["array-location"]), indexing="ij")
    values = np.sin(d * 1.3 + y * 0.07 + x * 0.031 + pixels // 1_000_000).astype("float32")
    if index == (0, 0, 1):
        values[:, 3, 4] = np.nan
    if index == (0, 1, 0):
        values[:] = np.nan
    _note(log, index)
    return values


def _note(log: str | None, index: tuple[int, ...]) -> None:
    if log is None:
        return
    # One write of a short line at the end of a file is never mixed with another's.
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, (" ".join(map(str, index)) + "\n").encode())
    os.close(handle)


def _entries(log: Path) -> list[tuple[int, ...]]:
    if not log.exists():
        return []
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
