"""EOPF Zarr products of Sentinel-2: a group for each resolution, packed reflectance."""

from __future__ import annotations

import os
import warnings
from typing import Any

import xarray as xr
import zarr

from xr_rsembed.bands import S2_L1C, S2_L2A, canonical_name
from xr_rsembed.errors import SceneError
from xr_rsembed.products.harmonize import harmonize, join_bands

_REFLECTANCE = "measurements/reflectance"
_NATIVE = {"B2": "r10m", "B3": "r10m", "B4": "r10m", "B8": "r10m", "B1": "r60m", "B9": "r60m", "B10": "r60m"}


def is_eopf(path: str) -> bool:
    """Whether a Zarr store has the groups of an EOPF Sentinel-2 product."""
    if "://" not in path and not os.path.isdir(path):
        return False
    try:
        return f"{_REFLECTANCE}/r10m" in zarr.open_group(path, mode="r")
    except Exception:  # no group: the reader of plain stores says what is wrong
        return False


def open_eopf(path: str) -> xr.DataArray:
    """An EOPF product as a scene of harmonized DN at 10 m."""
    import rioxarray  # noqa: F401  (registers .rio)

    root: Any = zarr.open_group(path, mode="r")
    attributes = dict(root.attrs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of metadata that is not consolidated
        groups = {
            name: xr.open_zarr(path, group=f"{_REFLECTANCE}/{name}", mask_and_scale=False)
            for name in ("r60m", "r20m", "r10m")
            if f"{_REFLECTANCE}/{name}" in root
        }
    found: dict[str, xr.DataArray] = {}
    for name, group in groups.items():
        for variable, array in group.data_vars.items():
            band = canonical_name(variable)
            if band is not None and (band not in found or _NATIVE.get(band, "r20m") == name):
                found[band] = array
    properties = attributes.get("stac_discovery", {}).get("properties", {})
    level = "L1C" if "L1C" in str(properties.get("product:type", "")) or "B10" in found else "L2A"
    wanted = S2_L1C if level == "L1C" else S2_L2A
    if missing := [band for band in wanted if band not in found]:
        raise SceneError(
            "The EOPF product is not complete.",
            found=f"{path}: no {', '.join(missing)}",
            expected=", ".join(wanted),
            remedy="download it again",
        )
    epsg = _epsg(found["B2"], attributes, properties)
    if epsg is None:
        raise SceneError("The EOPF product has no CRS.", found=path, expected="proj:epsg or proj:code")
    bands = {}
    for band in wanted:
        array = found[band]
        scale, offset = _packing(array, "scale_factor", 1e-4), _packing(array, "add_offset", 0.0)
        nodata = array.attrs.get("_FillValue", array.encoding.get("_FillValue", 0))
        bands[band] = harmonize(array.transpose("y", "x"), nodata, scale, offset).rio.write_crs(epsg)
    when = properties.get("datetime") or properties.get("start_datetime") or ""
    name = os.path.basename(path.rstrip("/"))
    return join_bands(bands, modality=f"S2{level}", product=name, dates=[str(when)[:10]])


def _packing(array: xr.DataArray, name: str, plain: float) -> float:
    """How a variable is packed, by CF or by EOPF's own attributes."""
    for attrs in (array.attrs, array.encoding, array.attrs.get("_eopf_attrs", {})):
        if name in attrs:
            return float(attrs[name])
    return plain


def _epsg(array: xr.DataArray, attributes: dict[str, Any], properties: dict[str, Any]) -> int | None:
    other = attributes.get("other_metadata", {})
    for attrs in (array.attrs, properties, attributes, other):
        for name in ("proj:epsg", "proj:code", "horizontal_CRS_code"):
            if attrs.get(name):
                return int(str(attrs[name]).rpartition(":")[2])
    return None
