"""What the pixels of a scene mean, read the slow way from the rules of CF, GDAL and rioxarray.

Nothing here is shared with the library: one band at a time, plain numpy, the rules in the order they are written in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

SPELLINGS = {
    "B1": {"b1", "b01", "coastal"},
    "B2": {"b2", "b02", "blue"},
    "B3": {"b3", "b03", "green"},
    "B4": {"b4", "b04", "red"},
    "B5": {"b5", "b05", "rededge1"},
    "B6": {"b6", "b06", "rededge2"},
    "B7": {"b7", "b07", "rededge3"},
    "B8": {"b8", "b08", "nir"},
    "B8A": {"b8a", "nir08"},
    "B9": {"b9", "b09", "nir09"},
    "B11": {"b11", "swir16"},
    "B12": {"b12", "swir22"},
}
TIMES = {"dn": 1.0, "reflectance": 1e4, "%": 100.0}


def names_of(scene: xr.DataArray) -> list[str]:
    """A band's label is its name; a number counts the descriptions of its file, from 1 (GDAL)."""
    labels = scene["band"].values.tolist()
    if all(isinstance(label, int) for label in labels):
        labels = [scene.attrs["long_name"][label - 1] for label in labels]
    return [
        next(band for band, words in SPELLINGS.items() if str(label).lower() in words) for label in labels
    ]


def read_band(pixels: np.ndarray, attrs: dict[str, Any], encoding: dict[str, Any], number: int) -> np.ndarray:
    """DN of one band, NaN where it is invalid.

    CF 8.1: value = packed * scale_factor + add_offset; attrs describe packed pixels, encoding those that are decoded.
    CF 2.5.1: _FillValue and missing_value are packed numbers. GDAL: nodata, scale and offset belong to a file's band.
    """

    def own(where: dict[str, Any], *names: str) -> list[float]:
        found = []
        for name in names:
            if where.get(name) is not None:
                values = np.ravel(where[name]).tolist()
                found.append(
                    float(values[number] if name in ("nodatavals", "scales", "offsets") else values[0])
                )
        return found

    invalid = np.isnan(pixels.astype("f8"))
    packed_in_file = own(encoding, "scale_factor", "add_offset")
    decoded = bool(packed_in_file) and pixels.dtype.kind == "f"
    for nodata in own(attrs, "_FillValue", "missing_value", "fill_value", "nodata", "nodatavals"):
        invalid |= pixels == nodata
    if not decoded:
        for nodata in own(encoding, "_FillValue"):
            invalid |= pixels == nodata
    scale = (own(attrs, "scale_factor", "scales") or [1.0])[0]
    offset = (own(attrs, "add_offset", "offsets") or [0.0])[0]
    values = pixels.astype("f8") * scale + offset
    units = str(attrs.get("units") or "").lower()
    said = scale if scale != 1.0 else own(encoding, "scale_factor")[0] if decoded else 1.0
    if said < 1e-3 and units in ("", "1", "dn"):
        units = "reflectance"  # a whole number times this is no DN
    values = values * TIMES["dn" if units in ("", "1") else units]
    offsets = own(attrs, "add_offset", "offsets") or own(encoding, "add_offset") or [0.0]
    zero = 0.0 in own(attrs, "_FillValue", "missing_value", "fill_value", "nodata", "nodatavals") + own(
        encoding, "_FillValue"
    )
    if offsets[0] < 0 and zero:
        values = np.maximum(values, 1.0)  # a measured pixel is not 0, which is nodata
    return np.where(invalid, np.nan, values)


def read(scene: xr.DataArray | xr.Dataset) -> np.ndarray:
    """DN (12, y, x) in the order of the names, on the scene's own axes; NaN in every band where any is invalid."""
    bands: dict[str, np.ndarray] = {}
    if isinstance(scene, xr.Dataset):
        for variable, array in scene.data_vars.items():
            name = array.attrs["long_name"] if str(variable).startswith("band_") else str(variable)
            canonical = next(band for band, words in SPELLINGS.items() if name.lower() in words)
            pixels = array.transpose("y", "x").values
            bands[canonical] = read_band(pixels, array.attrs, array.encoding, 0)
    else:
        for position, name in enumerate(names_of(scene)):
            label = scene["band"].values.tolist()[position]
            number = label - 1 if isinstance(label, int) else position
            pixels = scene.isel(band=position).transpose("y", "x").values
            bands[name] = read_band(pixels, scene.attrs, scene.encoding, number)
    values = np.stack([bands[name] for name in SPELLINGS])
    return np.where(np.isnan(values).any(axis=0), np.nan, values)
