"""Scenes from files: a GeoTIFF, a Zarr store or a NetCDF file as a lazy (..., band, y, x) array of raw pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import xarray as xr

from xr_rsembed.errors import SceneError

__all__ = ["open_scene"]

# One block of eight tiles: a file in stripes would otherwise come in chunks of a few rows.
_CHUNK = 1792


def open_scene(path: str | os.PathLike[str], *, variable: str | None = None) -> xr.DataArray:
    """Open a scene lazily, with its raw numbers.

    Parameters
    ----------
    path : path
        ``.zarr``, ``.nc``, or whatever GDAL reads.
    variable : str, optional
        Which variable of a Zarr store or NetCDF file, where it has several.

    Returns
    -------
    DataArray, dims (..., band, y, x)
        Raw dtype, not masked; the nodata value stands in attrs.

    Raises
    ------
    SceneError
        If the file cannot be opened, or has no variable or several that could be the scene.

    Examples
    --------
    >>> import tempfile
    >>> from xr_rsembed.datasets import synthetic_scene
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = synthetic_scene((64, 48)).to_dataset(name="scene").to_zarr(f"{folder}/scene.zarr")
    ...     open_scene(f"{folder}/scene.zarr").sizes
    Frozen({'band': 12, 'y': 64, 'x': 48})
    """
    text = os.fspath(path)
    suffix = Path(text.rstrip("/")).suffix.lower()
    try:
        if suffix == ".zarr":
            return _variable(xr.open_zarr(text, mask_and_scale=False, decode_coords="all"), variable, text)
        if suffix in (".nc", ".nc4"):
            opened = xr.open_dataset(
                text, engine="h5netcdf", chunks={}, mask_and_scale=False, decode_coords="all"
            )
            return _variable(opened, variable, text)
        return _raster(text)
    except SceneError:
        raise
    except Exception as error:
        raise SceneError(
            "The scene cannot be opened.",
            found=f"{text}: {type(error).__name__}: {error}".splitlines()[0],
            expected="a GeoTIFF, a .zarr store or a .nc file",
            remedy="check the path" if not os.path.exists(text) else None,
        ) from error


def _raster(path: str) -> xr.DataArray:
    import rioxarray

    opened: Any = rioxarray.open_rasterio(path, chunks={"y": _CHUNK, "x": _CHUNK})
    if not isinstance(opened, xr.DataArray):
        raise SceneError("The file holds several rasters.", found=path, expected="one raster with bands")
    return opened


def _variable(opened: xr.Dataset, name: str | None, path: str) -> xr.DataArray:
    fitting = [
        str(key) for key, array in opened.data_vars.items() if {"band", "y", "x"} <= {*map(str, array.dims)}
    ]
    if name is None and len(fitting) == 1:
        name = fitting[0]
    if name is None or name not in opened.data_vars:
        raise SceneError(
            "Which variable is the scene?" if name is None else f"There is no variable {name!r}.",
            found=f"{path} with {', '.join(map(str, opened.data_vars)) or 'no variables'}",
            expected="one variable with dims (..., band, y, x)",
            remedy=f"variable={fitting[0]!r} (on the command line: --variable {fitting[0]})"
            if fitting
            else None,
        )
    return opened[name]
