"""Scenes from files: a GeoTIFF, a Zarr store or a NetCDF file as a lazy (..., band, y, x) array of raw pixels."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import xarray as xr

from xr_rsembed.bands import canonical_name
from xr_rsembed.errors import OptionError, SceneError, StoreExistsError
from xr_rsembed.gdal import open_raster
from xr_rsembed.inputs.labels import stack_bands
from xr_rsembed.products import open_product
from xr_rsembed.progress import task_progress

# One block of eight tiles: a file in stripes would otherwise come in chunks of a few rows.
_CHUNK = 1792


def open_scene(path: Any, *, variable: str | None = None) -> xr.DataArray:
    """Open a scene lazily, with its raw numbers; products with offsets and packing as harmonized DN.

    Parameters
    ----------
    path : path or URL, list of paths, or Dataset
        ``.zarr``, ``.nc``, or whatever GDAL reads, remote COGs with settings for HTTP; a Sentinel-2 SAFE product (L1C
        or L2A, a folder or a zip) or EOPF Zarr product; a folder or list of files with one band each (HLS,
        ``B02.tif``); a Dataset with a variable for each band.
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
    text = "the Dataset" if isinstance(path, xr.Dataset) else str(path)
    suffix = Path(text.rstrip("/")).suffix.lower()
    try:
        found = path if isinstance(path, xr.Dataset) else None if variable else open_product(path)
        if isinstance(found, xr.DataArray):
            return found
        if isinstance(found, xr.Dataset):
            opened = found
        elif suffix == ".zarr":
            opened = xr.open_zarr(text, mask_and_scale=False, decode_coords="all")
        elif suffix in (".nc", ".nc4"):
            opened = xr.open_dataset(
                text, engine="h5netcdf", chunks={}, mask_and_scale=False, decode_coords="all"
            )
        else:
            return open_raster(text, _CHUNK)
        return _variable(opened, variable, text)
    except SceneError:
        raise
    except Exception as error:
        raise SceneError(
            "The scene cannot be opened.",
            found=f"{text}: {type(error).__name__}: {error}".splitlines()[0],
            expected="a GeoTIFF, a .zarr store, a .nc file or a product",
            remedy="check the path" if not os.path.exists(text) else None,
        ) from error


def save_scene(scene: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False) -> xr.DataArray:
    """Write a scene to a Zarr store, which takes its name when it is whole.

    Parameters
    ----------
    scene : DataArray, dims (..., band, y, x)
    path : path
        Ends in ``.zarr``.
    overwrite : bool
        Replace a store that is there.

    Returns
    -------
    DataArray
        The stored scene, opened lazily.

    Raises
    ------
    StoreExistsError
        If there is something at the path already.
    OptionError
        If the path does not end in ``.zarr``.
    """
    target = Path(path)
    if target.suffix != ".zarr":
        raise OptionError(
            "A scene is written as a Zarr store.", found=str(target), expected="a path that ends in .zarr"
        )
    if target.exists() and not overwrite:
        raise StoreExistsError(
            f"{target} is there already.",
            found="a store",
            expected="a new path",
            remedy="overwrite=True to replace it",
        )
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
    whole = scene.chunk({"y": _CHUNK, "x": _CHUNK}) if scene.chunks is None else scene.unify_chunks()
    named = whole.rename(scene.name or "scene").drop_encoding()
    try:
        with task_progress(f"writing {target.name}"):
            named.to_dataset().to_zarr(part, mode="w", consolidated=False, zarr_format=3, align_chunks=True)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return open_scene(target)


def _variable(opened: xr.Dataset, name: str | None, path: str) -> xr.DataArray:
    fitting = [
        str(key) for key, array in opened.data_vars.items() if {"band", "y", "x"} <= {*map(str, array.dims)}
    ]
    if name is None and not fitting and (stacked := stack_bands(opened)) is not None:
        known = [canonical_name(band) is not None for band in stacked["band"].values]
        return stacked.isel(band=known).transpose(..., "band", "y", "x")
    if name is None and len(fitting) == 1:
        name = fitting[0]
    if name is None or name not in opened.data_vars:
        raise SceneError(
            "Which variable is the scene?" if name is None else f"There is no variable {name!r}.",
            found=f"{path} with {', '.join(map(str, opened.data_vars)) or 'no variables'}",
            expected="one variable with dims (..., band, y, x)",
            remedy=f"variable={fitting[0]!r}" if fitting else None,
        )
    return opened[name]
