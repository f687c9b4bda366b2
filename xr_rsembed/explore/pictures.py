"""A scene as one would look at it: true colour, a radar composite, shaded heights, or classes in their colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.bands import S1, S2_L1C, S2_L2A, canonical_name
from xr_rsembed.errors import SceneError
from xr_rsembed.explore.codes import flags_of, painted
from xr_rsembed.extras import require
from xr_rsembed.inputs.cf import nodata_of

# Pixels a side beyond which a scene is thinned out for a picture: more than a screen shows.
_SIDE = 1400


def one_map(array: xr.DataArray, dims: tuple[str, ...], remedy: str) -> xr.DataArray:
    """The array with just these dims, in this order, to draw; a SceneError where it has others."""
    require("matplotlib", "A picture")
    single = array.squeeze([dim for dim in array.dims if dim not in dims and array.sizes[dim] == 1])
    if set(single.dims) != set(dims):
        raise SceneError(
            "A picture shows one map.", found=f"dims {array.dims}", expected=f"dims {dims}", remedy=remedy
        )
    return single.transpose(*dims)


def scene_picture(scene: xr.DataArray) -> tuple[xr.DataArray, np.ndarray, str]:
    """The scene thinned out for a picture, its colours (y, x, 4) in 0..1, clear where invalid, and what they show."""
    thin = thinned(one_map(scene, ("band", "y", "x"), "scene.isel(time=0)"))
    names, nodata = _band_names(thin), nodata_of(thin)

    def read(*bands: str) -> np.ndarray:
        values = thin.isel(band=[names.index(band) for band in bands]).transpose("y", "x", "band").values
        return np.where(np.isin(values, nodata), np.nan, values.astype("float64"))

    if {"B4", "B3", "B2"} <= set(names):
        colours = _stretched(read("B4", "B3", "B2"), (0.5, 99.5), together=True, gamma=0.7)
        return thin, colours, "Sentinel-2, true colour"
    if {"VV", "VH"} <= set(names):
        pair = read("VV", "VH")
        if np.nanmedian(pair) > 0:  # linear power
            pair = 10 * np.log10(np.maximum(pair, 1e-6))
        three = np.concatenate([pair, pair[..., :1] - pair[..., 1:]], axis=-1)
        return thin, _stretched(three, (2, 98)), "Sentinel-1: VV, VH and their ratio"
    if has_classes(thin):
        colors = {code: color for code, (_, color) in flags_of(thin).items() if code not in nodata}
        return thin, painted(thin.isel(band=0).values, colors), "land cover"
    if len(names) == 1:
        return thin, _shaded(read(names[0])[..., 0], thin), "heights"
    return thin, _stretched(np.repeat(read(names[0]), 3, axis=-1), (2, 98)), f"band {names[0]}"


def thinned(scene: xr.DataArray) -> xr.DataArray:
    """Every n-th pixel of a scene that is too large to draw."""
    step = max(1, -(-max(scene.sizes["y"], scene.sizes["x"]) // _SIDE))
    every = slice(step // 2, None, step)
    return scene.isel(y=every, x=every)


def has_classes(scene: xr.DataArray) -> bool:
    return scene.sizes["band"] == 1 and "flag_values" in scene.attrs and scene.dtype.kind in "iub"


def _band_names(scene: xr.DataArray) -> list[str]:
    if "band" in scene.coords and scene["band"].dtype.kind not in "iuf":
        labels = [str(label) for label in scene["band"].values]
    else:
        labels = [str(name) for name in np.atleast_1d(scene.attrs.get("long_name", ""))]
    count = scene.sizes["band"]
    if len(labels) != count:  # as a file without names is read everywhere in this library: in canonical order
        known = {len(order): list(order) for order in (S1, S2_L2A, S2_L1C)}
        labels = known.get(count, [f"{number + 1}" for number in range(count)])
    return [canonical_name(label) or label for label in labels]


def _stretched(
    values: np.ndarray, percent: tuple[float, float], *, together: bool = False, gamma: float = 1.0
) -> np.ndarray:
    """Values (y, x, 3) stretched to colours (y, x, 4) in 0..1, each band by itself or all alike; clear where NaN."""
    valid = np.isfinite(values).all(axis=-1)
    colours = np.zeros((*valid.shape, 4))
    if valid.any():
        low, high = np.percentile(values[valid], percent, axis=None if together else 0)
        scaled = (values[valid] - low) / np.maximum(high - low, 1e-12)
        colours[valid, :3] = np.clip(scaled, 0, 1) ** gamma
        colours[valid, 3] = 1.0
    return colours


def _shaded(heights: np.ndarray, scene: xr.DataArray) -> np.ndarray:
    """Heights in colours with the shade of a low sun in the north-west."""
    from matplotlib import colormaps
    from matplotlib.colors import LightSource

    finite = heights[np.isfinite(heights)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    step = abs(float(scene["x"][1] - scene["x"][0])) if scene.sizes["x"] > 1 and "x" in scene.coords else 1.0
    how: dict[str, Any] = {"vert_exag": 2, "dx": step, "dy": step, "blend_mode": "soft"}
    shaded = LightSource(315, 45).shade(
        np.where(np.isfinite(heights), heights, low),
        colormaps["terrain"],
        vmin=low - (high - low) / 3,  # the map's lowest quarter is the blue of water
        vmax=high,
        **how,
    )
    shaded[..., 3] = np.isfinite(heights)
    return shaded
