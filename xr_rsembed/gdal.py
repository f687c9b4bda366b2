"""GDAL's settings for reading COGs over HTTP, and lazy rasters that are read under them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import SceneError

#: GDAL's HTTP for COGs: no directory listings, few and large requests, own retries below ours, no endless waits.
GDAL_SETTINGS: Mapping[str, str] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "2TLS",
    "GDAL_HTTP_MAX_RETRY": "2",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_RETRY_CODES": "408,425,429,500,502,503,504",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    # A failed open or a broken block stays in GDAL's cache; where the address cannot be varied, nothing is kept.
    "CPL_VSIL_CURL_NON_CACHED": "/vsis3/:/vsigs/",
}


def gdal_path(path: str) -> str:
    """The path as GDAL names it: ``/vsicurl/...`` for an http address, ``/vsis3/...`` for S3.

    >>> gdal_path("https://host/a.tif"), gdal_path("s3://bucket/a.tif"), gdal_path("a.tif")
    ('/vsicurl/https://host/a.tif', '/vsis3/bucket/a.tif', 'a.tif')
    """
    if path.startswith(("http://", "https://")):
        return f"/vsicurl/{path}"
    for scheme, prefix in (("s3", "/vsis3/"), ("gs", "/vsigs/"), ("az", "/vsiaz/"), ("zip", "/vsizip/")):
        if path.startswith(f"{scheme}://"):
            return prefix + path.partition("://")[2]
    return path


def open_raster(path: str, chunk: int) -> xr.DataArray:
    """A raster (band, y, x) as a lazy array of raw numbers, opened under :data:`GDAL_SETTINGS` by every read of it.

    A mask or an alpha band makes floats of them, NaN where it is 0.
    """
    import dask.array as da
    import rasterio
    import rioxarray
    from dask.base import tokenize
    from rasterio.enums import ColorInterp, MaskFlags

    address = gdal_path(path)
    with rasterio.Env(**GDAL_SETTINGS):
        opened: Any = rioxarray.open_rasterio(address, cache=False)
        if not isinstance(opened, xr.DataArray):
            raise SceneError("The file holds several rasters.", found=path, expected="one raster with bands")
        with rasterio.open(address) as file:
            flags = {flag for band in file.mask_flag_enums for flag in band}
            alpha = [number for number, kind in enumerate(file.colorinterp, 1) if kind == ColorInterp.alpha]
    masked = bool(alpha) or MaskFlags.per_dataset in flags
    opened = opened.drop_sel(band=alpha)
    dtype = np.result_type(opened.dtype, "float32") if masked else opened.dtype
    labels = tuple(opened.band.values.tolist())
    source = LazyPixels(
        partial(_read_raster, address, labels, tuple(alpha), masked, dtype), opened.shape, dtype
    )
    data = da.from_array(source, chunks=(-1, chunk, chunk), name=f"raster-{tokenize(source, _stamp(path))}")
    labelled = opened.copy(data=data)
    opened.close()
    return labelled


@dataclass(frozen=True)
class LazyPixels:
    """What dask indexes: ``read(*leading, rows, columns)`` is asked for what an index needs, and no more.

    Leading dims come to it as tuples of positions, rows and columns as slices without a step.
    """

    read: Callable[..., np.ndarray]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: tuple[int | slice, ...]) -> np.ndarray:
        # dask may hand down a later selection with its own: single numbers and steps too.
        spans = [
            range(size)[one] if isinstance(one, slice) else range(one, one + 1)
            for one, size in zip(index, self.shape, strict=True)
        ]
        if not all(spans):
            pixels = np.empty([len(span) for span in spans], self.dtype)
        else:
            *leading, rows, columns = spans
            window = [slice(min(span), max(span) + 1) for span in (rows, columns)]
            pixels = self.read(*map(tuple, leading), *window)[..., :: rows.step, :: columns.step]
        return pixels[tuple(slice(None) if isinstance(one, slice) else 0 for one in index)]


def _read_raster(
    path: str, labels: tuple[int, ...], alpha: tuple[int, ...], masked: bool, dtype: np.dtype, *place: Any
) -> np.ndarray:
    """Some bands (positions among ``labels``) of a window, NaN under the mask where there is one."""
    import rasterio
    from rasterio.windows import Window

    bands, rows, columns = place
    window = Window.from_slices(rows, columns)
    with rasterio.Env(**GDAL_SETTINGS), rasterio.open(path) as source:
        pixels = source.read([labels[band] for band in bands], window=window).astype(dtype, copy=False)
        if masked:
            # GDAL itself takes an alpha band for a mask beside one or three others only.
            masks = [
                source.dataset_mask(window=window),
                *(source.read(number, window=window) for number in alpha),
            ]
            pixels[:, np.min(masks, axis=0) == 0] = np.nan
    return pixels


def _stamp(path: str) -> Any:
    """What changes when a local file does."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
