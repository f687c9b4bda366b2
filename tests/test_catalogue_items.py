# ruff: noqa: E501
"""What an item is and what its numbers mean, as catalogues and their files really say it: both readers, true values."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

import xr_rsembed  # noqa: F401  (registers .rsembed)
from xr_rsembed.errors import CatalogError, NoScenesError, OptionError, RsEmbedWarning
from xr_rsembed.models.spec import Modality
from xr_rsembed.normalize import Normalization
from xr_rsembed.providers.fetch import fetch
from xr_rsembed.providers.reprocessing import newest_processings

from .servers.loopback import Loopback

SIDE = 48
GRID = GeoBox((SIDE, SIDE), Affine(10, 0, 600_000, 0, -10, 5_000_000), "EPSG:32632")
READERS = ("odc", "stackstac")
nan = float("nan")


class MeanPixels:
    """A model that gives each cell's mean."""

    def __init__(self, modality: str, bands: tuple[str, ...]) -> None:
        raw = Normalization("scale", divisor=1.0, clip=None, source="raw")
        self.modalities = (Modality(modality, bands, "dB" if modality.startswith("S1") else "DN", raw),)
        self.embed_dim = len(bands)

    def __call__(self, inputs: Any, layers: Any, options: Any) -> Any:
        return next(iter(inputs.values())).unfold(2, 16, 16).unfold(3, 16, 16).mean((-2, -1))


def stripes(nothing: float, dark: float, bright: float, dtype: str) -> np.ndarray:
    """Three vertical stripes."""
    return np.repeat(np.array([nothing, dark, bright], dtype), SIDE // 3)[None].repeat(SIDE, 0)


def seen(scene: Any) -> list[float]:
    """The value of each stripe of a scene's first band; every pixel of a stripe must have it."""
    stripes_ = scene.compute().values[0].reshape(SIDE, 3, SIDE // 3)
    first = stripes_[0, :, 0]
    np.testing.assert_array_equal(stripes_, np.broadcast_to(first[None, :, None], stripes_.shape))
    return first.tolist()


def ring(west: float = 0, east: float = 1) -> list[list[float]]:
    """The footprint of a share of the grid's width, in degrees."""
    left, bottom, right, top = GRID.boundingbox.bbox
    x0, x1 = left + west * (right - left), left + east * (right - left)
    to_degrees = Transformer.from_crs(32632, 4326, always_xy=True)
    corners = [(x0, bottom), (x1, bottom), (x1, top), (x0, top), (x0, bottom)]
    return [list(to_degrees.transform(*corner)) for corner in corners]


def write(
    path: Path, pixels: np.ndarray, nodata: float | None = None, mask: str = "", scale: float | None = None
) -> None:
    """A GeoTIFF of one band, which may hide its left stripe under a mask band or an alpha band."""
    hidden = np.where(np.arange(SIDE) < SIDE // 3, 0, 255).astype("uint8")[None].repeat(SIDE, 0)
    profile = {
        "driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1 + (mask == "alpha"),
        "dtype": pixels.dtype, "crs": GRID.crs, "transform": GRID.affine, "nodata": nodata,
    }  # fmt: skip
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.write(pixels, 1)
        if mask == "alpha":
            file.write(hidden.astype(pixels.dtype), 2)
            file.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
        elif mask:
            file.write_mask(hidden)
        if scale is not None:
            file.scales = (scale,)


def item(
    name: str,
    assets: Mapping[str, Mapping[str, Any]],
    footprint: Sequence[Sequence[float]] | None = None,
    **properties: Any,
) -> dict[str, Any]:
    outline = list(footprint or ring())
    lon, lat = zip(*outline, strict=True)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "made",
        "geometry": {"type": "Polygon", "coordinates": [outline]},
        "bbox": [min(lon), min(lat), max(lon), max(lat)],
        "properties": {"datetime": "2022-06-15T10:00:00Z", "eo:cloud_cover": 1, **properties},
        "links": [],
        "assets": {key: {"href": f"{name}_{key}.tif", **asset} for key, asset in assets.items()},
    }


def catalogue(folder: Path, *items: dict) -> Path:
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def red(folder: Path, reader: str, *items: dict, **options: Any) -> Any:
    return fetch(
        "stac", GRID, time="2022-06", catalog=catalogue(folder, *items), reader=reader,
        **{"bands": ("B4",), **options},
    )  # fmt: skip


# --- what the numbers mean ----------------------------------------------------------------------------------

OLD, NEW = {"s2:processing_baseline": "03.00"}, {"s2:processing_baseline": "04.00"}
V1 = {"scale": 0.0001, "offset": -0.1, "nodata": 0}

#: Stored (nothing, dark, bright) and their dtype; how the file is written; the asset; the item's properties; options
#: of fetch; the DN that must come out.
OPTICAL: dict[str, tuple[tuple, str, dict, dict, dict, dict, list[float]]] = {
    "before the offset": ((0, 300, 5000), "uint16", {"nodata": 0}, {}, OLD, {}, [0, 300, 5000]),
    "the offset taken out": ((0, 1300, 6000), "uint16", {"nodata": 0}, {}, NEW, {}, [0, 300, 5000]),
    "darker than the offset": ((0, 990, 6000), "uint16", {"nodata": 0}, {}, NEW, {}, [0, 1, 5000]),
    "as dark as the offset": ((0, 1000, 6000), "uint16", {"nodata": 0}, {}, NEW, {}, [0, 1, 5000]),
    "saturated": ((0, 300, 65535), "uint16", {"nodata": 0}, {}, OLD, {}, [0, 300, 65534]),
    "nobody states nodata": ((0, 300, 5000), "uint16", {}, {}, OLD, {}, [0, 300, 5000]),
    "baseline as a number": ((0, 1300, 6000), "uint16", {}, {}, {"s2:processing_baseline": 4.0}, {}, [0, 300, 5000]),
    "Earth Search v0, removed": (
        (0, 300, 5000), "uint16", {}, {},
        {"sentinel:boa_offset_applied": True, "sentinel:processing_baseline": "04.00"}, {}, [0, 300, 5000],
    ),
    "Earth Search v0, still there": (
        (0, 1300, 6000), "uint16", {}, {},
        {"sentinel:boa_offset_applied": False, "sentinel:processing_baseline": "04.00"}, {}, [0, 300, 5000],
    ),
    "Digital Earth Africa, by the product's name": (
        (0, 1300, 6000), "uint16", {}, {},
        {"sentinel:product_id": "S2A_MSIL2A_20220615T100000_N0400_R022_T32TNR_20220615T120000"}, {}, [0, 300, 5000],
    ),
    "a flag in words": ((0, 300, 5000), "uint16", {}, {}, NEW | {"earthsearch:boa_offset_applied": "true"}, {}, [0, 300, 5000]),
    "raster:bands": ((0, 1300, 6000), "uint16", {}, {"raster:bands": [V1]}, {}, {}, [0, 300, 5000]),
    "raster:bands over the baseline": ((0, 300, 5000), "uint16", {}, {"raster:bands": [{"offset": 0}]}, NEW, {}, [0, 300, 5000]),
    "raster:scale and raster:offset": (
        (0, 1300, 6000), "uint16", {}, {"raster:scale": 0.0001, "raster:offset": -0.1}, {}, {}, [0, 300, 5000],
    ),
    "STAC 1.1 bands": (
        (7, 1300, 6000), "uint16", {},
        {"bands": [{"name": "red", "nodata": 7, "data_type": "uint16", "raster:scale": 0.0001, "raster:offset": -0.1}]},
        {}, {}, [0, 300, 5000],
    ),
    "STAC 1.1, on the asset": ((9, 300, 5000), "uint16", {}, {"nodata": 9, "data_type": "uint16"}, OLD, {}, [0, 300, 5000]),
    "STAC 1.1, on the item": ((9, 300, 5000), "uint16", {}, {}, OLD | {"nodata": 9}, {}, [0, 300, 5000]),
    "another scale": ((0, 30, 500), "uint16", {}, {"raster:bands": [{"scale": 0.001, "offset": 0}]}, OLD, {}, [0, 300, 5000]),
    "8 bits with a scale": ((0, 10, 250), "uint8", {}, {"raster:scale": 0.004}, OLD, {}, [0, 400, 10000]),
    "an offset in DN": ((0, 1300, 6000), "uint16", {}, {"raster:scale": 1, "raster:offset": -1000}, {}, {}, [0, 300, 5000]),
    "GDAL's own scale": ((-9999, 30, 500), "int16", {"nodata": -9999, "scale": 0.001}, {}, OLD, {}, [0, 300, 5000]),
    "GDAL's own scale of DN": ((-9999, 300, 5000), "int16", {"nodata": -9999, "scale": 0.0001}, {}, OLD, {}, [0, 300, 5000]),
    "signed": ((-9999, 300, 5000), "int16", {"nodata": -9999}, {}, {}, {"offset": 0}, [0, 300, 5000]),
    "signed, below zero": ((-9999, -50, 5000), "int16", {"nodata": -9999}, {}, {}, {"offset": 0}, [0, 1, 5000]),
    "signed, a measured zero": ((-9999, 0, 5000), "int16", {"nodata": -9999}, {}, {}, {"offset": 0}, [0, 1, 5000]),
    "nodata of the item alone": ((9999, 300, 5000), "uint16", {}, {"raster:bands": [{"nodata": 9999}]}, OLD, {}, [0, 300, 5000]),
    "nodata of file and item differ": (
        (65535, 300, 0), "uint16", {"nodata": 0}, {"raster:bands": [{"nodata": 65535}]}, OLD, {}, [0, 300, 0],
    ),
    "wide integers": ((-2147483648, 300, 5000), "int32", {"nodata": -2147483648}, {}, OLD, {}, [0, 300, 5000]),
    "float reflectance": ((nan, 0.03, 0.5), "float32", {}, {}, OLD, {}, [0, 300, 5000]),
    "float reflectance above 1": ((nan, 0.03, 1.6), "float32", {}, {}, OLD, {}, [0, 300, 16000]),
    "float reflectance, nodata of the item": (
        (-9999, 0.03, 0.5), "float32", {"nodata": nan}, {"raster:bands": [{"nodata": -9999}]}, OLD, {}, [0, 300, 5000],
    ),
    "float reflectance, nodata in words": ((nan, 0.03, 0.5), "float32", {}, {"nodata": "nan"}, OLD, {}, [0, 300, 5000]),
    "double reflectance, below zero": ((nan, -0.001, 0.5), "float64", {"nodata": nan}, {}, OLD, {}, [0, 1, 5000]),
    "float reflectance, offset stated": (
        (nan, 0.13, 0.6), "float32", {}, {"raster:scale": 1, "raster:offset": -0.1}, NEW, {}, [0, 300, 5000],
    ),
    "float reflectance, shift said to be gone": (
        (nan, 0.03, 0.5), "float32", {}, {}, NEW | {"earthsearch:boa_offset_applied": True}, {}, [0, 300, 5000],
    ),
    "float DN with a scale": ((nan, 300, 5000), "float32", {}, {"raster:scale": 0.0001}, OLD, {}, [0, 300, 5000]),
    "float DN by the user's word": ((nan, 300, 5000), "float32", {}, {}, OLD, {"scale": 0.0001}, [0, 300, 5000]),
    "under a mask band": ((7777, 300, 5000), "uint16", {"mask": "mask"}, {}, OLD, {}, [0, 300, 5000]),
    "under an alpha band": ((7777, 300, 5000), "uint16", {"mask": "alpha"}, {}, OLD, {}, [0, 300, 5000]),
    "under a mask band, a measured zero": ((7777, 0, 5000), "uint16", {"mask": "mask"}, {}, OLD, {}, [0, 1, 5000]),
    "under a mask band, nodata of the item too": (
        (7777, 300, 9), "uint16", {"mask": "mask"}, {"nodata": 9}, OLD, {}, [0, 300, 0],
    ),
    "an offset by the user's word": ((0, 1300, 6000), "uint16", {}, {}, {}, {"offset": -1000}, [0, 300, 5000]),
    "an offset for one item": ((0, 300, 5000), "uint16", {}, {}, NEW, {"offset": {"one": 0}}, [0, 300, 5000]),
    "an offset for another item": ((0, 1300, 6000), "uint16", {}, {}, NEW, {"offset": {"two": 0}}, [0, 300, 5000]),
    "another fill value": ((0, 300, 5000), "uint16", {}, {}, OLD, {"fill_value": 65535}, [65535, 300, 5000]),
    "a fill value within the data": ((0, 300, 5000), "uint16", {}, {}, OLD, {"fill_value": 300}, [300, 301, 5000]),
    "dark, with another fill value": ((0, 990, 6000), "uint16", {}, {}, NEW, {"fill_value": 65535}, [65535, 0, 5000]),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", OPTICAL)
@pytest.mark.filterwarnings("ignore:More than 5%")
def test_sentinel2_comes_as_harmonized_dn(name, reader, tmp_path):
    stored, dtype, file, asset, properties, options, expected = OPTICAL[name]
    write(tmp_path / "one_B04.tif", stripes(*stored, dtype), **file)
    scene = red(tmp_path, reader, item("one", {"B04": asset}, **properties), **options)
    assert scene.dtype == np.uint16
    assert seen(scene) == expected


RADAR: dict[str, tuple[tuple, str, dict, dict, dict, list[float]]] = {
    "linear power": ((nan, 0.01, 0.2), "float32", {}, {}, {}, [nan, 0.01, 0.2]),
    "nodata of the file": ((-32768, 0.01, 0.2), "float32", {"nodata": -32768}, {}, {}, [nan, 0.01, 0.2]),
    "nodata of the item": ((-9999, 0.01, 0.2), "float32", {}, {"nodata": -9999}, {}, [nan, 0.01, 0.2]),
    "zero power": ((0, 0.01, 0.2), "float32", {}, {}, {}, [nan, 0.01, 0.2]),
    "zero power, in dB": ((0, 0.01, 0.1), "float32", {}, {}, {"units": "dB"}, [nan, -20, -10]),
    "power below zero": ((-0.001, 0.01, 0.2), "float32", {}, {}, {}, [nan, 0.01, 0.2]),
    "stored in dB": (
        (nan, -20, -10),
        "float32",
        {},
        {"raster:bands": [{"unit": "dB"}]},
        {},
        [nan, 0.01, 0.1],
    ),
    "stored in dB, wanted so": ((nan, -20, 0), "float32", {}, {"unit": "dB"}, {"units": "dB"}, [nan, -20, 0]),
    "integers with a scale": ((0, 100, 2000), "uint16", {}, {"raster:scale": 0.0001}, {}, [nan, 0.01, 0.2]),
    "another fill value": ((0, 0.01, 0.2), "float32", {}, {}, {"fill_value": -9999}, [-9999, 0.01, 0.2]),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", RADAR)
def test_sentinel1_comes_as_linear_power_or_db(name, reader, tmp_path):
    stored, dtype, file, asset, options, expected = RADAR[name]
    write(tmp_path / "one_vv.tif", stripes(*stored, dtype), **file)
    one = item("one", {"vv": asset}, **{"sar:instrument_mode": "IW"})
    scene = red(tmp_path, reader, one, modality="S1RTC", bands=("VV",), **options)
    np.testing.assert_allclose(seen(scene), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reader", READERS)
def test_each_asset_has_its_own_offset(reader, tmp_path):
    write(tmp_path / "one_B04.tif", stripes(0, 1300, 6000, "uint16"))
    write(tmp_path / "one_B08.tif", stripes(0, 300, 5000, "uint16"))
    one = item("one", {"B04": {"raster:bands": [V1]}, "B08": {"raster:bands": [{**V1, "offset": 0}]}})
    scene = red(tmp_path, reader, one, bands=("B4", "B8")).compute()
    np.testing.assert_array_equal(scene[0], scene[1])


@pytest.mark.parametrize("reader", READERS)
def test_a_composite_of_dark_water_stays_valid(reader, tmp_path):
    days = []
    for day, dark in ((1, 950), (2, 990), (3, 1010)):
        write(tmp_path / f"d{day}_B04.tif", stripes(0, dark, 6000, "uint16"), 0)
        days.append(item(f"d{day}", {"B04": {}}, datetime=f"2022-06-0{day}T10:00:00Z", **NEW))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for composite, expected in (("median", 1), ("mean", 4), ("first", 1), ("last", 10)):
            assert seen(red(tmp_path, reader, *days, composite=composite)) == [0, expected, 5000]
    assert any(
        issubclass(one.category, RsEmbedWarning) and "below zero" in str(one.message) for one in caught
    )


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("mask", ["mask", "alpha"])
def test_a_mask_counts_over_http_too(mask, reader, tmp_path):
    write(tmp_path / "one_B04.tif", stripes(7777, 300, 5000, "uint16"), mask=mask)
    server = Loopback(tmp_path)
    try:
        one = item("one", {"B04": {"href": f"{server.url}/one_B04.tif"}}, **OLD)
        assert seen(red(tmp_path, reader, one)) == [0, 300, 5000]
    finally:
        server.stop()


@pytest.mark.parametrize("resolution", [20, 30, 40])
def test_both_readers_use_the_same_overview(resolution, tmp_path):
    pixels = np.random.default_rng(0).integers(300, 6000, (SIDE, SIDE)).astype("uint16")
    write(tmp_path / "one_B04.tif", pixels, 0)
    with rasterio.open(tmp_path / "one_B04.tif", "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.average)
    coarse = GeoBox.from_bbox(GRID.boundingbox, resolution=resolution)
    path = catalogue(tmp_path, item("one", {"B04": {}}, **OLD))
    scenes = [
        fetch("stac", coarse, time="2022-06", catalog=path, bands=("B4",), reader=reader).compute()
        for reader in READERS
    ]
    np.testing.assert_array_equal(*scenes)
    if resolution == 20:
        means = pixels.reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3))
        np.testing.assert_allclose(scenes[0][0], means, atol=0.51)


# --- errors, and their remedies followed --------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
def test_an_offset_that_is_gone_already_is_an_error_and_its_remedies_work(reader, tmp_path):
    write(tmp_path / "one_B04.tif", stripes(0, 200, 400, "uint16"), 0)
    write(tmp_path / "two_B04.tif", stripes(0, 1300, 1500, "uint16"), 0)
    items = item("one", {"B04": {}}, **NEW), item("two", {"B04": {}}, datetime="2022-06-20T10:00:00Z", **NEW)
    with pytest.raises(CatalogError, match="was subtracted before") as caught:
        red(tmp_path, reader, *items).compute()
    assert "offset={'one': 0}" in str(caught.value)
    assert seen(red(tmp_path, reader, *items, offset={"one": 0})) == [0, 250, 450]
    assert "skip_items=['one']" in str(caught.value)
    assert seen(red(tmp_path, reader, *items, skip_items=["one"])) == [0, 300, 500]


@pytest.mark.parametrize("reader", READERS)
def test_floats_that_are_no_reflectance_ask_for_a_scale(reader, tmp_path):
    write(tmp_path / "one_B04.tif", stripes(nan, 300, 5000, "float32"))
    one = item("one", {"B04": {}}, **OLD)
    with pytest.raises(CatalogError, match=r"scale=0\.0001"):
        red(tmp_path, reader, one).compute()
    assert seen(red(tmp_path, reader, one, scale=0.0001)) == [0, 300, 5000]


@pytest.mark.parametrize("reader", READERS)
def test_floats_of_a_shifted_baseline_ask_for_the_offset(reader, tmp_path):
    write(tmp_path / "one_B04.tif", stripes(nan, 0.13, 0.6, "float32"))
    one = item("one", {"B04": {}}, **NEW)
    with pytest.raises(CatalogError, match="not whether its floats still are"):
        red(tmp_path, reader, one).compute()
    assert seen(red(tmp_path, reader, one, offset=-1000)) == [0, 300, 5000]
    assert seen(red(tmp_path, reader, one, offset=0)) == [0, 1300, 6000]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("points", [False, True])
def test_a_raster_without_crs_is_an_error(points, reader, tmp_path):
    corners = [GroundControlPoint(0, 0, 9.0, 45.0), GroundControlPoint(0, SIDE, 9.1, 45.0)]
    placed = (
        {"gcps": [*corners, GroundControlPoint(SIDE, 0, 9.0, 44.9)], "crs": "EPSG:4326"} if points else {}
    )
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1, "dtype": "float32", **placed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "one_vv.tif", "w", **profile) as file:
            file.write(np.full((1, SIDE, SIDE), 0.06, "float32"))
    one = item("one", {"vv": {}}, **{"sar:instrument_mode": "IW"})
    with pytest.raises(CatalogError, match="No CRS and transform") as caught:
        red(tmp_path, reader, one, modality="S1RTC", bands=("VV",)).compute()
    assert ("3 ground control points" if points else "pixels without a place") in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_an_asset_of_several_bands_is_an_error(reader, tmp_path):
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 3, "dtype": "uint16"}
    with rasterio.open(tmp_path / "one_B04.tif", "w", **profile, crs=GRID.crs, transform=GRID.affine) as file:
        file.write(np.ones((3, SIDE, SIDE), "uint16"))
    with pytest.raises(CatalogError, match="3 bands"):
        red(tmp_path, reader, item("one", {"B04": {}}, **OLD)).compute()


def test_an_item_that_says_nothing_of_its_offset_can_be_told(tmp_path):
    write(tmp_path / "one_B04.tif", stripes(0, 300, 5000, "uint16"))
    one = item("one", {"B04": {}})
    with pytest.raises(CatalogError, match="offset=0 or offset=-1000"):
        red(tmp_path, "odc", one)
    assert seen(red(tmp_path, "odc", one, offset=0)) == [0, 300, 5000]


# --- reprocessings and halves -------------------------------------------------------------------------------

STRIP = "S2A_OPER_MSI_L2A_DS_2APS_20220615T{made}_S20220615T{began}_N{version}"


def product(
    name: str, when: str = "2022-06-15T10:00:00Z", west: float = 0, east: float = 1, **said: Any
) -> dict:
    tile = {} if any("tile" in key or "utm" in key or "grid" in key or "region" in key for key in said) else {
        "s2:mgrs_tile": "32TNR"
    }  # fmt: skip
    return item(name, {"B04": {}}, ring(west, east), datetime=when, platform="sentinel-2a", **tile, **said)


def strip(began: str, made: str = "120000", version: str = "04.00") -> dict[str, str]:
    return {
        "s2:datastrip_id": STRIP.format(began=began, made=made, version=version),
        "s2:processing_baseline": version,
    }


ONE_PASS = {
    "one strip, processed twice": (
        [product("a", **strip("100500")), product("b", **strip("100500", "180000", "05.09"))],
        {"b"},
    ),
    "one strip, other footprints": (
        [product("a", **strip("100500")), product("b", east=0.6, **strip("100500", "180000", "05.09"))],
        {"b"},
    ),
    "two strips": ([product("a", **strip("100500")), product("b", **strip("101100"))], {"a", "b"}),
    "two strips, one of them processed twice": (
        [
            product("a", **strip("100500")),
            product("b", **strip("101100")),
            product("c", **strip("101100", "180000", "05.09")),
        ],
        {"a", "c"},
    ),
    "no strips, one footprint": ([product("a", **OLD), product("b", **NEW)], {"b"}),
    "no strips, halves": (
        [product("a", east=0.55, **OLD), product("b", west=0.5, when="2022-06-15T10:00:20Z", **OLD)],
        {"a", "b"},
    ),
    "a strip on one of them only": (
        [product("a", east=0.5, **strip("100500")), product("b", west=0.5, **OLD)],
        {"a", "b"},
    ),
    "granules name their strip": (
        [
            product("a", **{"s2:granule_id": "L2A_T32TNR_A036282_20220615T100559", **OLD}),
            product("b", **{"s2:granule_id": "L2A_T32TNR_A036282_20220615T101131", **OLD}),
        ],
        {"a", "b"},
    ),
    "baselines compare as numbers": (
        [
            product("a", **{"s2:processing_baseline": "05.10"}),
            product("b", **{"s2:processing_baseline": "5.09"}),
        ],
        {"a"},
    ),
    "Earth Search v0, a second processing": (
        [
            product(
                f"S2A_32TNR_20220615_{n}_L2A",
                **{
                    "sentinel:utm_zone": 32, "sentinel:latitude_band": "T", "sentinel:grid_square": "NR",
                    "sentinel:sequence": str(n), "sentinel:processing_baseline": "04.00",
                },
            )
            for n in (0, 1)
        ],
        {"S2A_32TNR_20220615_1_L2A"},
    ),
    "the tile in two catalogues' words": (
        [product("a", **{"grid:code": "MGRS-32TNR", **OLD}), product("b", **{"odc:region_code": "32TNR", **NEW})],
        {"b"},
    ),
    "another tile": ([product("a", **OLD), product("b", **OLD, **{"grid:code": "MGRS-32TNS"})], {"a", "b"}),
    "another pass": ([product("a", **OLD), product("b", when="2022-06-15T11:40:00Z", **OLD)], {"a", "b"}),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_PASS)
@pytest.mark.parametrize("order", [1, -1])
def test_reprocessings_are_one_and_halves_are_two(name, order):
    items, kept = ONE_PASS[name]
    assert {one["id"] for one in newest_processings(items[::order])} == kept


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("whole_footprints", [False, True])
def test_both_halves_of_a_split_tile_are_used(whole_footprints, reader, tmp_path):
    full = stripes(700, 300, 5000, "uint16")
    halves = []
    for name, columns, began in (("west", slice(0, 20), "100500"), ("east", slice(20, None), "101100")):
        half = np.zeros_like(full)
        half[:, columns] = full[:, columns]
        write(tmp_path / f"{name}_B04.tif", half, 0)
        share = (
            {} if whole_footprints else {"west": columns.start / SIDE, "east": (columns.stop or SIDE) / SIDE}
        )
        halves.append(product(name, **share, **strip(began, version="03.01")))
    assert seen(red(tmp_path, reader, *halves)) == [700, 300, 5000]
    series = red(tmp_path, reader, *halves, composite=None)
    assert series.sizes["time"] == 1
    assert seen(series[0]) == [700, 300, 5000]


# --- Sentinel-1's orbits, and what the embedding keeps -------------------------------------------------------


def passes(folder: Path) -> list[dict]:
    items = []
    for day, (orbit, power) in enumerate((("ascending", 0.1), ("descending", 0.3), ("descending", 0.5)), 1):
        for band in ("vv", "vh"):
            write(folder / f"p{day}_{band}.tif", stripes(power, power, power, "float32"))
        when = f"2022-06-0{day}T05:00:00Z"
        properties = {"sar:instrument_mode": "IW", "sat:orbit_state": orbit, "datetime": when}
        items.append(item(f"p{day}", {"vv": {}, "vh": {}}, **properties))
    return items


@pytest.mark.parametrize(("orbit", "value"), [("ascending", 0.1), ("descending", 0.4)])
def test_passes_are_taken_of_one_orbit(orbit, value, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RsEmbedWarning)
        scene = red(tmp_path, "odc", *passes(tmp_path), modality="S1RTC", bands=None, orbit=orbit)
    np.testing.assert_allclose(seen(scene), [value] * 3, rtol=1e-6)
    assert scene.attrs["s1_orbit"] == orbit


def test_a_composite_that_mixes_orbits_says_so_at_the_users_line(tmp_path):
    with pytest.warns(RsEmbedWarning, match="mixes ascending and descending") as caught:
        scene = red(tmp_path, "odc", *passes(tmp_path), modality="S1RTC", bands=None)
    assert scene.attrs["s1_orbit"] == "mixed"
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", RsEmbedWarning)
        series = red(tmp_path, "odc", *passes(tmp_path), modality="S1RTC", bands=None, composite=None)
    assert series.sizes["time"] == 3


def test_an_orbit_that_nobody_flew_and_one_that_is_none(tmp_path):
    items = passes(tmp_path)[1:]
    with pytest.raises(NoScenesError, match="2 not on an ascending orbit") as caught:
        red(tmp_path, "odc", *items, modality="S1RTC", bands=None, orbit="ascending")
    assert "orbit=None" in str(caught.value)
    assert (
        red(tmp_path, "odc", *items, modality="S1RTC", bands=None, orbit=None).attrs["s1_orbit"]
        == "descending"
    )
    with pytest.raises(OptionError, match="ascending"):
        red(tmp_path, "odc", *items, modality="S1RTC", bands=None, orbit="up")
    with pytest.raises(OptionError, match="Sentinel-1"):
        red(tmp_path, "odc", *items, orbit="ascending")


def test_the_embedding_keeps_what_the_provider_decided(tmp_path):
    items = passes(tmp_path)
    scene = red(
        tmp_path, "stackstac", *items, modality="S1RTC", bands=None, orbit="descending",
        resampling="bilinear", composite="mean",
    )  # fmt: skip
    attrs = scene.rsembed.embed(MeanPixels("S1RTC", ("VV", "VH"))).attrs
    expected = {
        "provider": "stac", "reader": "stackstac", "resampling": "bilinear", "composite": "mean", "mask_clouds": 0,
        "item_ids": ["p2", "p3"], "s1_orbit": "descending", "s1_iw_requested": 1, "s1_iw_applied": 1,
        "s1_iw_relaxed_on_empty": 0, "s1_relax_iw_on_empty": 1,
    }  # fmt: skip
    assert {name: attrs[f"scene_{name}"] for name in expected} == expected


def test_the_embedding_keeps_the_cloud_limit(tmp_path):
    write(tmp_path / "one_B04.tif", stripes(0, 300, 5000, "uint16"))
    one = item("one", {"B04": {}}, **OLD)
    scene = red(tmp_path, "odc", one, cloudy_pct=12)
    attrs = scene.rsembed.embed(MeanPixels("S2L2A", ("B4",))).attrs
    assert attrs["scene_cloud_limit"] == 12
    assert datetime.fromisoformat(attrs["scene_time_start"]) == datetime(2022, 6, 1, tzinfo=UTC)
