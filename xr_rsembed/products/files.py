"""Scenes that come as a file for each band: HLS, folders of ``B02.tif``, lists of files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from xr_rsembed.bands import canonical_name, usual_place
from xr_rsembed.errors import SceneError
from xr_rsembed.gdal import open_raster
from xr_rsembed.products.harmonize import CHUNK, harmonize, join_bands, on_one_grid

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

    >>> [band_of(name) for name in ("B02.tif", "T32TQQ_20220601T101031_B8A_20m.jp2", "HLS.L30.T32TQQ.v2.0.B05.tif")]
    ['B2', 'B8A', 'B8A']
    >>> [band_of(name) for name in ("HLS.S30.T32TQQ.2022.v2.0.Fmask.tif", "T32TQQ_20220601T101031_TCI_10m.jp2")]
    [None, None]
    """
    words = re.split(r"[^A-Za-z0-9]+", name.rpartition(".")[0])
    if (hls := _HLS.match(name)) is not None and hls[1] == "L30":
        return _HLS_L30.get(words[-1])
    return next((band for word in reversed(words) if (band := canonical_name(word)) is not None), None)


def open_files(paths: Sequence[str]) -> xr.DataArray | xr.Dataset:
    """One scene of files that hold a band each, or several with names of their own.

    HLS comes as harmonized DN; other files as stored, a variable for each band.
    """
    arrays: dict[str, xr.DataArray] = {}
    origin: dict[str, str] = {}
    for path in paths:
        raster = open_raster(path, CHUNK)
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
    arrays = {band: arrays[band] for band in sorted(arrays, key=usual_place)}
    if hls := _HLS.match(os.path.basename(paths[0])):
        return _hls(arrays, hls[1])
    return on_one_grid(arrays)


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
        nodata = float(array.attrs.get("_FillValue", -9999))
        scale = float(array.attrs.get("scale_factor", 1))  # 1: the tag was lost on the way
        bands[band] = harmonize(array, nodata, 1e-4 if scale == 1 else scale)
    return join_bands(bands, modality="S2L2A", product=f"HLS {kind}")
