"""Hypothesis strategies: scenes of any size and chunking, and the settings that they are embedded with."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  the .rio accessor
import xarray as xr
from hypothesis import strategies as st

sizes = st.integers(1, 700)
overlaps = st.sampled_from([0, 16, 48, 64, 112, 160, 208])
blends = st.sampled_from(["center", "mean"])
edges = st.sampled_from(["shift", "pad"])


@st.composite
def chunks(draw, size: int) -> tuple[int, ...]:
    """Any way to cut an axis of this size into at most five chunks."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, size - 1)), max_size=4)))
    bounds = [0, *(cut for cut in cuts if cut < size), size]
    return tuple(stop - start for start, stop in pairwise(bounds))


NAMINGS = (
    ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"],
    ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"],
    [
        "coastal",
        "blue",
        "green",
        "red",
        "rededge1",
        "rededge2",
        "rededge3",
        "nir",
        "nir08",
        "nir09",
        "swir16",
        "swir22",
    ],
)
# How pixels come: dtype, attrs, encoding; a number of the file is (DN - offset) / scale.
PACKINGS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("uint16", {}, {}),
    ("int16", {"units": "DN"}, {}),
    ("int32", {"scale_factor": 1.0, "add_offset": 0.0, "units": "1"}, {}),
    ("float32", {"units": "DN"}, {}),
    ("float64", {}, {}),
    ("uint16", {"scale_factor": 1e-4, "add_offset": -0.1}, {}),
    (">u2", {"scale_factor": 1e-4, "add_offset": -0.1, "units": "reflectance"}, {}),
    ("int16", {"scale_factor": 1e-4}, {}),
    ("uint16", {"scale_factor": 1e-4, "add_offset": -0.1, "units": "DN"}, {}),
    ("uint16", {"add_offset": -1000.0}, {}),
    ("uint16", {"scale_factor": 2.5e-5, "add_offset": -0.2, "units": "1"}, {}),
    ("float32", {"units": "reflectance"}, {}),
    ("float32", {"units": "%"}, {}),
    ("float32", {}, {"dtype": "uint16", "scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": 0}),
    ("float64", {"units": "1"}, {"dtype": "int16", "scale_factor": 1e-4, "add_offset": 0.0, "_FillValue": -9999}),
)  # fmt: skip
NODATA_PLACES = (
    "_FillValue",
    "missing_value",
    "fill_value",
    "nodata",
    "nodatavals",
    "encoding",
    "write",
    "nan",
)


@st.composite
def stored_scenes(draw) -> tuple[xr.DataArray | xr.Dataset, np.ndarray]:
    """A scene as files and catalogues give it, and its true DN (12, y, x) on its own axes, NaN where invalid."""
    height, width = draw(st.sampled_from([(32, 32), (48, 32), (33, 50), (16, 17)]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    truth = rng.integers(draw(st.sampled_from([1, 300, 1100])), 9000, (12, height, width)).astype("float64")
    dtype, attrs, encoding = draw(st.sampled_from(PACKINGS))
    pixels = _file_numbers(truth, dtype, attrs, encoding)
    whole = xr.DataArray(
        pixels,
        dims=("band", "y", "x"),
        coords={"y": 5e6 - 5 - 10.0 * np.arange(height), "x": 5e5 + 5 + 10.0 * np.arange(width)},
        attrs=dict(attrs),
    ).rio.write_crs(32632)
    whole.encoding = dict(encoding)
    if draw(st.booleans()):
        whole, truth = _with_nodata(draw, whole, truth, rng)
    step = st.sampled_from([slice(None), slice(None), slice(None, None, -1)])
    turn = {"y": draw(step), "x": draw(step)}
    names = draw(st.sampled_from(NAMINGS))
    made = _labelled(draw, whole, names)
    truth = truth[:, turn["y"], turn["x"]]
    made = made.isel(turn)
    if draw(st.booleans()):
        made = made.chunk({"y": draw(st.sampled_from([9, 16, 100])), "x": 20})
    return made, truth


def _file_numbers(
    truth: np.ndarray, dtype: str, attrs: dict[str, Any], encoding: dict[str, Any]
) -> np.ndarray:
    scale, offset = attrs.get("scale_factor", 1.0), attrs.get("add_offset", 0.0)
    reflectance = bool(encoding) or scale < 1e-3 or attrs.get("units") == "reflectance"
    values = truth / 1e4 if reflectance else truth / 100 if attrs.get("units") == "%" else truth
    packed = (values - offset) / scale
    return (packed if np.dtype(dtype).kind == "f" else packed.round()).astype(dtype)


def _with_nodata(draw, scene: xr.DataArray, truth: np.ndarray, rng) -> tuple[xr.DataArray, np.ndarray]:
    """A part without measurement, and a place that says so, as rioxarray, xarray and GDAL leave it."""
    hole = rng.random(truth.shape[1:]) < 0.2
    hole[:16, :16] = draw(st.booleans())
    truth = np.where(hole, np.nan, truth)
    place = draw(st.sampled_from(NODATA_PLACES))
    if scene.encoding or place == "nan":
        if scene.dtype.kind != "f":
            place = "_FillValue"
        else:
            return scene.copy(data=np.where(hole, np.nan, scene.values)), truth
    value = (
        draw(st.sampled_from([0, -9999])) if scene.dtype.kind != "u" else draw(st.sampled_from([0, 65535]))
    )
    marked = scene.copy(data=np.where(hole, value, scene.values).astype(scene.dtype))
    if place == "encoding":
        marked.encoding["_FillValue"] = value
    elif place == "nodatavals":
        marked.attrs["nodatavals"] = (float(value),) * 12
    elif place == "write":
        marked = marked.rio.write_nodata(value)
    else:
        marked.attrs[place] = value
    return marked, truth


def _labelled(draw, scene: xr.DataArray, names: list[str]) -> xr.DataArray | xr.Dataset:
    """Bands by their names, by the numbers of a described file, or a variable each."""
    kind = draw(st.sampled_from(["names", "numbers", "variables", "band_as_variable"]))
    if kind == "names":
        return scene.assign_coords(band=names)
    if kind == "numbers":
        return scene.assign_coords(band=range(1, 13)).assign_attrs(long_name=tuple(names))
    labels = names if kind == "variables" else [f"band_{number}" for number in range(1, 13)]
    made = {}
    for number, label in enumerate(labels):
        one = scene.isel(band=number)
        one.attrs = {k: (v[:1] if k == "nodatavals" else v) for k, v in scene.attrs.items()} | {
            "long_name": names[number]
        }
        one.encoding = dict(scene.encoding)
        made[label] = one
    order = draw(st.permutations(labels)) if kind == "variables" else labels
    return xr.Dataset({label: made[label] for label in order})
