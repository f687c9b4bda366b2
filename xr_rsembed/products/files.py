"""Scenes that come as a file, or a variable, for each band: HLS, folders of ``B02.tif``, lists of files, Datasets."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from xr_rsembed.bands import S1, S2_L1C, S2_L2A, canonical_name
from xr_rsembed.errors import SceneError
from xr_rsembed.gdal import open_raster
from xr_rsembed.products.harmonize import CHUNK, harmonize, join_bands

__all__ = ["band_files", "open_files", "stack_variables"]

_SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt")
#: HLS calls Landsat's bands by Landsat's numbers.
_HLS_L30 = {"B01": "B1", "B02": "B2", "B03": "B3", "B04": "B4", "B05": "B8A", "B06": "B11", "B07": "B12"}
_HLS = re.compile(r"^HLS\.([SL]30)\.")


def band_files(folder: str) -> list[str]:
    """The files of a folder that are one band each, by their names."""
    paths = [one for one in sorted(Path(folder).iterdir()) if one.suffix.lower() in _SUFFIXES]
    return [str(path) for path in paths if band_of(path.name) is not None]


def band_of(name: str) -> str | None:
    """The band that a file's name says: its last word that is one.

    Examples
    --------
    >>> [band_of(name) for name in ("B02.tif", "T32TQQ_20220601T101031_B8A_20m.jp2", "HLS.L30.T32TQQ.v2.0.B05.tif")]
    ['B2', 'B8A', 'B8A']
    >>> [band_of(name) for name in ("HLS.S30.T32TQQ.2022.v2.0.Fmask.tif", "T32TQQ_20220601T101031_TCI_10m.jp2")]
    [None, None]
    """
    words = re.split(r"[^A-Za-z0-9]+", name.rpartition(".")[0])
    if (hls := _HLS.match(name)) is not None and hls[1] == "L30":
        return _HLS_L30.get(words[-1])
    return next((band for word in reversed(words) if (band := canonical_name(word)) is not None), None)


def open_files(paths: Sequence[str]) -> xr.DataArray:
    """One scene of files that hold a band each, or several with names of their own.

    Raises
    ------
    SceneError
        If a file's band cannot be told, or two files hold the same.
    """
    arrays: dict[str, xr.DataArray] = {}
    origin: dict[str, str] = {}
    for path in paths:
        raster = open_raster(path, CHUNK)
        if not isinstance(raster, xr.DataArray):
            raise SceneError("The file holds several rasters.", found=path, expected="one raster with bands")
        for number, band in enumerate(_bands_in(raster, path)):
            if band in arrays:
                raise SceneError(
                    f"Two files hold {band}.",
                    found=f"{origin[band]} and {path}",
                    expected="a file for each band of one scene",
                    remedy="open each scene by itself; xarray.concat joins dates, rioxarray.merge joins tiles",
                )
            arrays[band], origin[band] = raster.isel(band=number, drop=True), path
    if not arrays:
        raise SceneError("The list of files is empty.", found="no file", expected="a file for each band")
    order = next((bands for bands in (S2_L2A, S2_L1C, S1) if set(arrays) <= set(bands)), tuple(arrays))
    arrays = {band: arrays[band] for band in order if band in arrays}
    if hls := _HLS.match(os.path.basename(paths[0])):
        return _hls(arrays, hls[1])
    return _as_stored(arrays)


def _bands_in(raster: xr.DataArray, path: str) -> list[str]:
    """The bands of one file: by its name where it holds one, by its own names else."""
    long_name = raster.attrs.get("long_name")
    own = [long_name] if isinstance(long_name, str) else list(long_name or ())
    if raster.sizes["band"] == 1:
        found = [band_of(os.path.basename(path)) or (canonical_name(own[0]) if own else None)]
    else:
        found = [canonical_name(name) for name in own]
    if not found or None in found:
        raise SceneError(
            "It cannot be told which bands a file holds.",
            found=f"{path}, {raster.sizes['band']} bands",
            expected="one band, named as in B02.tif, red.tif or VV.tif, or names in the file",
            remedy="rename the file",
        )
    return [str(band) for band in found]


def _hls(arrays: dict[str, xr.DataArray], kind: str) -> xr.DataArray:
    """Harmonized Landsat Sentinel-2: int16 reflectance in steps of 0.0001, nodata -9999."""
    arrays.pop("B10", None)  # cirrus, which is no surface
    bands = {}
    for band, array in arrays.items():
        crs = array.rio.crs
        nodata = float(array.attrs.get("_FillValue", -9999))
        scale = float(array.attrs.get("scale_factor", 1e-4))
        plain = harmonize(array, nodata, 1e-4 if scale == 1 else scale)  # 1: the tag was lost on the way
        bands[band] = plain.assign_coords(array.coords).rio.write_crs(crs)
    attrs = {"units": "DN", "modality": "S2L2A", "nodata": 0, "_FillValue": 0, "product": f"HLS {kind}"}
    return join_bands(bands, attrs).rename("S2L2A")


def _as_stored(arrays: dict[str, xr.DataArray]) -> xr.DataArray:
    """Raw numbers where all files mean the same by them; else each file's own packing is undone."""

    def packing(array: xr.DataArray) -> tuple[float, float, float]:
        attrs = array.attrs
        nodata = float(attrs.get("_FillValue", np.nan))
        return float(attrs.get("scale_factor", 1.0)), float(attrs.get("add_offset", 0.0)), nodata

    kinds = {(str(packing(array)), str(array.dtype)) for array in arrays.values()}
    first = next(iter(arrays.values()))
    attrs = {name: value for name, value in first.attrs.items() if name not in ("long_name", "band")}
    if len(kinds) > 1:
        for band, array in arrays.items():
            scale, offset, nodata = packing(array)
            unpacked = array.where(array != nodata).astype("float32") * np.float32(scale) + np.float32(offset)
            arrays[band] = unpacked.assign_coords(array.coords)
        dropped = ("scale_factor", "add_offset", "_FillValue", "nodata")
        attrs = {name: value for name, value in attrs.items() if name not in dropped}
    return join_bands(arrays, attrs)


def stack_variables(dataset: xr.Dataset) -> xr.DataArray | None:
    """A scene of the variables that are bands; None where none is."""
    named = {
        band: array
        for name, array in dataset.data_vars.items()
        if {"y", "x"} <= set(array.dims) and "band" not in array.dims and (band := canonical_name(name))
    }
    if not named:
        return None
    order = next((bands for bands in (S2_L2A, S2_L1C, S1) if set(named) <= set(bands)), tuple(named))
    arrays = [named[band] for band in order if band in named]
    scene = xr.concat(
        arrays, "band", coords="minimal", compat="override", join="exact", combine_attrs="drop_conflicts"
    )
    rest = [str(dim) for dim in scene.dims if dim not in ("band", "y", "x")]
    scene = scene.assign_coords(band=[band for band in order if band in named]).transpose(
        *rest, "band", "y", "x"
    )
    return scene.assign_attrs({**dataset.attrs, **scene.attrs}).rename(None)
