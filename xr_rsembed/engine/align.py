"""Bring scenes of different grids onto one, by odc-geo's lazy reprojection."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.crs import grid_mapping
from xr_rsembed.errors import GridError, OptionError, RsEmbedWarning, SceneError, one_of
from xr_rsembed.georef import check_grid, describe_grid, geobox_coords, scene_geobox
from xr_rsembed.inputs.cf import PACKING_ATTRS, held_values, read_stored


def align(
    scenes: Mapping[str, xr.DataArray] | xr.Dataset,
    like: xr.DataArray | xr.Dataset | Any = None,
    resampling: str | Mapping[str, str] = "bilinear",
) -> xr.Dataset:
    """Reproject scenes onto one grid, as the variables of one Dataset.

    Parameters
    ----------
    scenes : mapping of str to DataArray, or Dataset
        Scenes (..., band, y, x) by name, such as ``{"S2L2A": s2, "S1RTC": s1, "DEM": dem}``.
    like : DataArray, Dataset or GeoBox, optional
        The grid wanted; that of the first scene by default.
    resampling : str or mapping of str to str
        ``nearest``, ``bilinear``, ``cubic``, ``average``, ...; by name where scenes differ.

    Returns
    -------
    Dataset
        Lazy where a scene is. Each band dim is called ``band_NAME``, so that every variable keeps its own. A scene
        that lies on the grid already is taken as it is. Nodata is left out of every resampling, and pixels that a
        scene does not reach are nodata: its own, NaN in floats, and integers without one become floats.

    Raises
    ------
    GridError
        If a scene has no CRS, an irregular grid, or nothing in common with the grid wanted.
    OptionError
        If the resampling is unknown.

    Examples
    --------
    >>> from xr_rsembed.datasets import synthetic_scene
    >>> s2 = synthetic_scene(size=(64, 64), chunks=64)
    >>> dem = synthetic_scene(size=(64, 64), modality="DEM", chunks=64)[:, ::3, ::3]
    >>> ds = align({"S2L2A": s2, "DEM": dem})
    >>> ds["DEM"].dims, ds["DEM"].shape
    (('band_DEM', 'y', 'x'), (1, 64, 64))
    """
    arrays = {
        str(name): array for name, array in scenes.items() if not isinstance(scenes, xr.Dataset) or array.dims
    }
    if not arrays:
        raise SceneError("There is no scene to align.", found="none", expected='{"S2L2A": s2, "S1RTC": s1}')
    how = dict(resampling) if isinstance(resampling, Mapping) else dict.fromkeys(arrays, resampling)
    if unknown := set(how) - set(arrays):
        raise OptionError(
            "resampling= names scenes that are not there.", found=sorted(unknown), expected=", ".join(arrays)
        )
    target = _grid(next(iter(arrays.values())) if like is None else like)
    moved = {}
    for name, array in arrays.items():
        there = _onto(array, target, how.get(name, "bilinear"), name)
        moved[name] = there.rename({"band": f"band_{name}"}) if "band" in there.dims else there
    return xr.Dataset(moved)


def _grid(like: Any) -> Any:
    from odc.geo.geobox import GeoBox

    grid = like if isinstance(like, GeoBox) else scene_geobox(like)
    if grid.crs is None:
        raise GridError(
            "The grid to align to has no CRS.",
            found="no CRS",
            expected="a georeferenced grid",
            remedy='da.rio.write_crs("EPSG:32632")',
        )
    return grid


def _onto(array: xr.DataArray, target: Any, resampling: str, name: str) -> xr.DataArray:
    import odc.geo.xr  # noqa: F401  (registers .odc)
    from rasterio.enums import Resampling

    one_of("resampling", resampling, Resampling.__members__)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RsEmbedWarning)  # of pixel sizes and CRSs that are about to change
        check_grid(array)
    array, stored = read_stored(array)
    source = _grid(array)
    coords = geobox_coords(target)
    placed = _placed(array, source)
    if (
        source.shape == target.shape
        and source.crs == target.crs
        and source.affine.almost_equals(target.affine)
    ):
        return placed.assign_coords(coords)
    if not source.extent.to_crs(target.crs).intersects(target.extent):
        raise GridError(
            f"The scene {name!r} lies wholly outside the grid.",
            found=describe_grid(source),
            expected=f"something of {describe_grid(target)}",
            remedy="fetch it for the same place",
        )
    attrs, nodata = dict(array.attrs), stored.nodata[0] if stored.nodata else None
    if nodata is None and placed.dtype.kind in "iu" and (stored.valid_range or not _covers(source, target)):
        # Integers without nodata have no value for what lies outside: floats that hold them all have NaN.
        placed = placed.astype("float32" if placed.dtype.itemsize <= 2 else "float64")
    low, high = stored.valid_range or (-np.inf, np.inf)
    valid = ~placed.isin(held_values(stored.nodata, placed.dtype)) & (placed >= low) & (placed <= high)
    if placed.dtype.kind == "f":  # NaN is the one nodata that no resampling blends
        there = _reprojected(placed.where(valid), target, resampling, np.nan)
        there = there if nodata is None else there.fillna(nodata).astype(placed.dtype)
    else:
        placed = placed if nodata is None else placed.where(valid, nodata).astype(placed.dtype)
        there = _reprojected(placed, target, resampling, nodata)
    if nodata is not None and not {"_FillValue", "missing_value", "fill_value", "nodata"} & attrs.keys():
        attrs["_FillValue"] = placed.dtype.type(nodata).item()
    aligned = there.assign_coords(coords).assign_attrs(attrs)
    # How decoded pixels were packed tells their units.
    aligned.encoding = {name: array.encoding[name] for name in PACKING_ATTRS if name in array.encoding}
    return aligned


def _placed(array: xr.DataArray, source: Any) -> xr.DataArray:
    """The scene with its grid as plain coords, for odc-geo reads fewer forms than we do."""
    mapping = grid_mapping(array)
    bare = array if mapping is None else array.drop_vars(str(mapping.name))
    bare = bare.drop_attrs(deep=False).drop_encoding() if "grid_mapping" in array.attrs else bare
    return bare.assign_coords(geobox_coords(source)).assign_attrs(
        {name: value for name, value in array.attrs.items() if name != "grid_mapping"}
    )


def _covers(source: Any, target: Any) -> bool:
    """Whether no pixel of the target lies outside; between CRSs, whose edges bend, with a pixel to spare."""
    if source.crs == target.crs:
        return bool(source.extent.contains(target.extent))
    return bool(source.extent.contains(target.pad(1).extent.to_crs(source.crs)))


def _reprojected(array: xr.DataArray, target: Any, resampling: str, nodata: float | None) -> xr.DataArray:
    bare = array.drop_attrs(deep=False).assign_attrs(nodata=nodata)
    return bare.odc.reproject(target, resampling=resampling, dst_nodata=nodata)
