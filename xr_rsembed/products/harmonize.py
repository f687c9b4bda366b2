"""From a product's stored numbers to DN = 10000 x reflectance, and from its grids to one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.georef import geobox_coords, scene_geobox

__all__ = ["CHUNK", "harmonize", "join_bands"]

#: Pixels a side at 10 m: a multiple of 2 and 6, so that chunks of 20 m and 60 m bands end where those of 10 m do.
CHUNK = 1794


def harmonize(
    stored: xr.DataArray, nodata: float | None, scale: float = 1e-4, offset: float = 0.0
) -> xr.DataArray:
    """Stored numbers as harmonized DN, uint16.

    Parameters
    ----------
    stored : DataArray
        reflectance = stored * scale + offset.
    nodata : float or None
        The stored number that means nothing was measured.
    scale, offset : float

    Returns
    -------
    DataArray, uint16
        0 where nothing was measured; a measured pixel is at least 1, however dark the offset makes it.

    Examples
    --------
    >>> stored = xr.DataArray(np.array([0, 900, 1000, 3000], dtype="uint16"), dims="x")
    >>> harmonize(stored, nodata=0, offset=-0.1).values
    array([   0,    1,    1, 2000], dtype=uint16)
    """
    values = xr.apply_ufunc(
        _harmonized,
        stored,
        kwargs={"nodata": nodata, "factor": 1e4 * scale, "add": 1e4 * offset},
        dask="parallelized",
        output_dtypes=[np.uint16],
        keep_attrs=True,  # of the coords: spatial_ref holds the CRS there
    )
    return values.drop_attrs(deep=False)


def _harmonized(stored: np.ndarray, *, nodata: float | None, factor: float, add: float) -> np.ndarray:
    missing = np.zeros(stored.shape, dtype=bool) if nodata is None else stored == nodata
    if stored.dtype.kind == "f":
        missing = missing | ~np.isfinite(stored)
        stored = np.where(missing, 0, stored)
    values = np.rint(stored.astype("float32") * np.float32(factor) + np.float32(add))
    return np.where(missing, 0, np.clip(values, 1, 65535)).astype("uint16")


def join_bands(arrays: Mapping[str, xr.DataArray], attrs: Mapping[str, Any]) -> xr.DataArray:
    """One scene (band, y, x) of bands (y, x), on the grid of the finest, by nearest neighbour."""
    import odc.geo.xr  # noqa: F401  (registers .odc)

    grids = {name: scene_geobox(array) for name, array in arrays.items()}
    finest = min(grids.values(), key=lambda grid: abs(grid.affine.a))
    coords = geobox_coords(finest)
    there = []
    for name, array in arrays.items():
        grid = grids[name]
        factor = round(abs(grid.affine.a / finest.affine.a))
        plain = array.drop_vars([str(coord) for coord in array.coords])
        if (
            grid.crs == finest.crs
            and grid.zoom_to(shape=finest.shape).affine.almost_equals(finest.affine, 1e-6)
            and (grid.shape[0] * factor == finest.shape[0])
        ):
            for dim in ("y", "x"):
                plain = _repeated(plain, dim, factor) if factor > 1 else plain
        else:
            plain = array.odc.reproject(finest, resampling="nearest")
            plain = plain.drop_vars([str(coord) for coord in plain.coords])
        there.append(plain.assign_coords(coords).expand_dims(band=[name]))
    scene = xr.concat(there, "band", coords="minimal", compat="override", join="override")
    return scene.transpose("band", "y", "x").assign_attrs(attrs).chunk({"band": -1})


def _repeated(array: xr.DataArray, dim: str, factor: int) -> xr.DataArray:
    """Each pixel as often as finer ones lie in it."""
    axis = array.get_axis_num(dim)
    data = array.data
    if array.chunks is None:
        return xr.DataArray(np.repeat(data, factor, axis), dims=array.dims)
    chunks = tuple(
        tuple(factor * size for size in sizes) if number == axis else sizes
        for number, sizes in enumerate(data.chunks)
    )
    repeated = data.map_blocks(np.repeat, factor, axis=axis, chunks=chunks, dtype=array.dtype)
    return xr.DataArray(repeated, dims=array.dims)
