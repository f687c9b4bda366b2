"""What a band is, what the numbers mean, and what a file says beside its pixels: each row with the right value.

The model gives each cell's mean pixel, band by band, in its own units: numbers that are checked by hand.
"""

# ruff: noqa: E501  (tables of one row a line)
from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import rioxarray
import xarray as xr
from rasterio.enums import ColorInterp

import xr_rsembed
from tests.fakes import S2
from xr_rsembed import errors
from xr_rsembed.models.spec import Modality
from xr_rsembed.normalize import Normalization

pytestmark = pytest.mark.filterwarnings("ignore")
SIDE = 48
AS_IS = Normalization("scale", divisor=1.0, source="as they are")
PLANETARY = [f"B{name[1:]:0>2}" if name != "B8A" else name for name in S2]
EARTH_SEARCH = [
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
]
TERRAMIND = [
    "COASTAL_AEROSOL",
    "BLUE",
    "GREEN",
    "RED",
    "RED_EDGE_1",
    "RED_EDGE_2",
    "RED_EDGE_3",
    "NIR_BROAD",
    "NIR_NARROW",
    "WATER_VAPOR",
    "SWIR_1",
    "SWIR_2",
]
CDSE = [
    f"{name}_{size}m"
    for name, size in zip(PLANETARY, (60, 10, 10, 10, 20, 20, 20, 10, 20, 60, 20, 20), strict=True)
]


class Means:
    """The mean of each patch's pixels, one D a band (and zeros up to twelve)."""

    embed_dim = 12
    joint = False

    def __init__(self, *modalities: Modality) -> None:
        self.modalities = modalities

    def __call__(self, inputs: Any, layers: Any, options: Any) -> Any:
        import torch

        (pixels,) = inputs.values()
        means = pixels.unfold(2, 16, 16).unfold(3, 16, 16).mean((-2, -1))
        return torch.nn.functional.pad(means, (0, 0, 0, 0, 0, 12 - means.shape[1]))


MODEL = Means(
    Modality("S2L2A", S2, "DN", AS_IS),
    Modality("S1RTC", ("VV", "VH"), "dB", AS_IS),
    Modality("DEM", ("DEM",), "m", AS_IS),
    Modality("RGB", ("R", "G", "B"), "8-bit", AS_IS),
)
POWER = Means(Modality("S1RTC", ("VV", "VH"), "linear", AS_IS))
REFLECTANCE = Means(Modality("S2L2A", S2, "reflectance", AS_IS))


def dn(low: int = 300, high: int = 6000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (12, SIDE, SIDE)).astype("uint16")


DN = dn()


def scene(values: Any = DN, bands: Any = S2, **attrs: Any) -> xr.DataArray:
    values = np.asarray(values)
    coords = {
        "y": 5e6 - 5 - 10.0 * np.arange(values.shape[-2]),
        "x": 5e5 + 5 + 10.0 * np.arange(values.shape[-1]),
    }
    array = xr.DataArray(values, dims=("band", "y", "x"), coords=coords, attrs=attrs)
    array = array if bands is None else array.assign_coords(band=list(bands)[: len(values)])
    return array.rio.write_crs(32632)


def hole(values: np.ndarray, value: float = 0) -> np.ndarray:
    """The first cell without a measurement."""
    values = values.copy()
    values[:, :16, :16] = value
    return values


def means(values: Any, number: int | None = None) -> np.ndarray:
    """Written out by hand: the mean of 16 x 16 pixels, cell by cell, NaN pixels left out as zeros."""
    values = np.asarray(values, dtype="float64")
    out = np.zeros((12, SIDE // 16, SIDE // 16))
    for band, row, column in np.ndindex(len(values), *out.shape[1:]):
        cell = values[band, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        out[band, row, column] = np.nan if np.isnan(cell).all() else np.nan_to_num(cell).mean()
    return out


def holed(values: Any = DN) -> np.ndarray:
    expected = means(values)
    expected[:, 0, 0] = np.nan
    return expected


def embed(given: Any, model: Any = MODEL, **options: Any) -> np.ndarray:
    return np.asarray(xr_rsembed.embed(given, model, device="cpu", **options))


def tif(folder: Path, values: np.ndarray, *, names: Any = S2, scale: Any = None, offset: Any = None, mask: Any = None,
        alpha: bool = False, nodata: float | None = 0, south_up: bool = False) -> str:  # fmt: skip
    path = str(folder / "scene.tif")
    transform = (
        rasterio.Affine(10, 0, 5e5, 0, 10, 5e6 - 480)
        if south_up
        else rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    )
    kind = {
        "driver": "GTiff",
        "dtype": values.dtype,
        "count": len(values),
        "crs": "EPSG:32632",
        "nodata": nodata,
    }
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", height=SIDE, width=SIDE, transform=transform, **kind) as file,
    ):
        if alpha:
            file.colorinterp = [*[ColorInterp.gray] * 12, ColorInterp.alpha]
        file.write(values)
        for number, name in enumerate(names or (), 1):
            file.set_band_description(number, name)
        if scale is not None:
            file.scales, file.offsets = (
                (scale, offset) if isinstance(scale, tuple) else ((scale,) * 12, (offset,) * 12)
            )
        if mask is not None:
            file.write_mask(mask)
    return path


def packed_file(folder: Path, kind: str, values: np.ndarray = DN, **packing: Any) -> str:
    """Reflectance packed as baseline 04.00, EOPF or Landsat files are, by xarray."""
    packing = {"dtype": "uint16", "scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": 0} | packing
    dataset = scene(values / 1e4).to_dataset(name="r")
    path = str(folder / f"scene.{kind}")
    if kind == "nc":
        dataset.to_netcdf(path, engine="h5netcdf", encoding={"r": packing})
    else:
        dataset.to_zarr(path, encoding={"r": packing})
    return path


def decoded(folder: Path, values: np.ndarray) -> xr.DataArray:
    return xr.open_zarr(packed_file(folder, "zarr", values), decode_coords="all")["r"]


def variables(values: np.ndarray = DN, names: Any = S2, **attrs: Any) -> xr.Dataset:
    """One variable a band, as odc-stac gives it."""
    whole = scene(values, names)
    made = {name: whole.isel(band=n, drop=True).assign_attrs(attrs) for n, name in enumerate(names)}
    return xr.Dataset(made)


def with_encoding(array: xr.DataArray, **encoding: Any) -> xr.DataArray:
    array.encoding = encoding
    return array


def radar(values: float, spread: float = 3.0, **attrs: Any) -> xr.DataArray:
    noise = np.random.default_rng(3).normal(values, spread, (2, SIDE, SIDE)).astype("float32")
    return scene(noise, ("VV", "VH"), **attrs)


DB = radar(-14.0)
LINEAR = (10 ** (DB.astype("float64") / 10)).astype("float32")
HEIGHTS = scene(np.random.default_rng(4).uniform(10, 900, (1, SIDE, SIDE)).astype("float32"), ("DEM",))
LENGTHS = {
    "m": 1,
    "metres": 1,
    "ft": 0.3048,
    "Feet": 0.3048,
    "US survey foot": 1200 / 3937,
    "cm": 0.01,
    "km": 1000,
}
FOUR = np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) < 4, DN, 0)
UP, LEFT = slice(None, None, -1), slice(None, None, -1)
MASK = np.full((1, SIDE, SIDE), 255, "uint16")
MASK[:, :16, :16] = 0
REFL = (DN / 1e4).astype("float32")
PICTURE = np.random.default_rng(5).integers(0, 256, (3, SIDE, SIDE)).astype("uint8")

LEAVES = np.array([250, 350, 600, 400, 1000, 2400, 2900, 3100, 3300, 3400, 1900, 1000])
LEAVES = (
    np.random.default_rng(8).normal(LEAVES[:, None, None], 60.0, (12, SIDE, SIDE)).round().astype("uint16")
)


def stretched(values: Any) -> np.ndarray:
    """Each band from its own minimum to its own maximum."""
    low, high = values.min((-2, -1), keepdims=True), values.max((-2, -1), keepdims=True)
    return ((values - low) / (high - low)).astype("float32")


def one_band(value: float, columns: int = SIDE, values: np.ndarray = DN) -> np.ndarray:
    """B5 alone without a measurement, in some columns."""
    values = values.copy()
    values[4, :, :columns] = value
    return values


def blended(values: np.ndarray, nodata: float) -> np.ndarray:
    """The first cell filled, then the picture shifted by a third of a pixel, as bilinear resampling does; fill is NaN."""
    filled = hole(values.astype("float32"), nodata)
    shifted = filled * np.float32(2 / 3) + np.roll(filled, -1, axis=-1) * np.float32(1 / 3)
    return np.where(filled == nodata, np.float32(np.nan), shifted)


Right = tuple[Callable[[Path], np.ndarray], Callable[[], np.ndarray]]


def dn_means() -> np.ndarray:
    return means(DN)


RIGHT: dict[str, Right] = {
    "DN": (lambda _: embed(scene()), dn_means),
    **{
        f"DN as {dtype}": (lambda _, dtype=dtype: embed(scene(DN.astype(dtype))), dn_means)
        for dtype in ("int16", "int32", "uint32", "int64", ">u2", "float32", "float64", ">f4")
    },
    # names of bands
    **{
        f"names of {catalogue}": (lambda _, names=names: embed(scene(bands=names)), dn_means)
        for catalogue, names in {
            "Planetary Computer": PLANETARY,
            "Earth Search": EARTH_SEARCH,
            "TerraMind": TERRAMIND,
            "CDSE": CDSE,
            "bytes": [name.encode() for name in S2],
            "lower case": [name.lower() for name in S2],
            "blanks": [f" {name.replace('_', ' ')} " for name in TERRAMIND],
        }.items()
    },
    "names beside numbers": (
        lambda _: embed(scene(DN[::-1], range(1, 13)).assign_coords(common_name=("band", EARTH_SEARCH[::-1])).rsembed.to_bands(MODEL)),
        dn_means,
    ),
    "names in a MultiIndex": (
        lambda _: embed(
            scene(bands=None).assign_coords(
                xr.Coordinates.from_pandas_multiindex(
                    pd.MultiIndex.from_arrays([list(S2), range(12)], names=["name", "place"]), "band"
                )
            )
        ),
        dn_means,
    ),
    "band_as_variable without names": (
        lambda folder: embed(rioxarray.open_rasterio(tif(folder, DN, names=None, nodata=None), band_as_variable=True)),
        dn_means,
    ),
    "names in a file's descriptions": (
        lambda folder: embed(rioxarray.open_rasterio(tif(folder, DN, nodata=None))),
        dn_means,
    ),
    "bands selected from a described file": (
        lambda folder: embed(
            rioxarray.open_rasterio(tif(folder, DN, nodata=None)).isel(band=UP).rsembed.to_bands(MODEL)
        ),
        dn_means,
    ),
    "another order, by to_bands": (
        lambda _: embed(scene().isel(band=[3, 1, 0, 2, *range(11, 3, -1)]).rsembed.to_bands(MODEL)),
        dn_means,
    ),
    "a layer of classes beside, by to_bands": (
        lambda _: embed(scene(np.concatenate([DN, DN[:1]]), (*S2, "SCL")).rsembed.to_bands(MODEL)),
        dn_means,
    ),
    "long_name that is a title": (lambda _: embed(scene(long_name="Sentinel-2")), dn_means),
    "long_name beside named bands": (lambda _: embed(scene(long_name=S2[::-1])), dn_means),
    # a variable for each band
    "variables": (lambda _: embed(variables()), dn_means),
    "variables of odc-stac": (lambda _: embed(variables(names=EARTH_SEARCH, units="1", nodata=0)), dn_means),
    "variables in the order of the alphabet": (lambda _: embed(variables()[sorted(S2)]), dn_means),
    "variables beside classes": (
        lambda _: embed(variables().assign(SCL=scene(DN[:1].astype("uint8"), ("SCL",))[0].drop_vars("band"))),
        dn_means,
    ),
    "variables, lazy": (lambda _: embed(variables().chunk({"y": 20})), dn_means),
    "variables with nodata": (lambda _: embed(variables(hole(DN), _FillValue=0)), holed),
    "variables, packed": (
        lambda _: embed(variables((DN + 1000).astype("uint16"), scale_factor=1e-4, add_offset=-0.1)),
        dn_means,
    ),
    "variables, of which one has another nodata": (
        lambda _: embed(
            variables(hole(DN), nodata=0).assign(B9=scene(hole(DN, 7))[9].drop_vars("band").assign_attrs(nodata=7))
        ),
        holed,
    ),
    "band_as_variable": (
        lambda folder: embed(rioxarray.open_rasterio(tif(folder, hole(DN)), band_as_variable=True)),
        holed,
    ),
    "band_as_variable, decoded": (
        lambda folder: embed(
            rioxarray.open_rasterio(
                tif(folder, hole(DN + 1000).astype("uint16"), scale=1e-4, offset=-0.1),
                band_as_variable=True,
                mask_and_scale=True,
            )
        ),
        holed,
    ),
    "scene.to_dataset('band')": (lambda _: embed(scene(units="DN", modality="S2L2A").to_dataset("band")), dn_means),
    # units
    **{
        f"units {said!r}": (lambda _, said=said: embed(scene(units=said)), dn_means)
        for said in ("DN", "dn", "counts", "1", "", None, "unitless", "digital_number", b"DN", ("DN",) * 12, [])
    },
    **{
        f"units {said!r} of reflectance": (lambda _, said=said: embed(scene(REFL, units=said)), dn_means)
        for said in ("reflectance", "Reflectance", "surface_reflectance", "TOA reflectance", "sr")
    },
    **{
        f"units {said!r} of percent": (lambda _, said=said: embed(scene(REFL * 100, units=said)), dn_means)
        for said in ("%", "percent", "pct")
    },
    "units as an argument go before attrs": (lambda _: embed(scene(REFL, units="DN"), units="reflectance"), dn_means),
    "reflectance with a bright pixel": (
        lambda _: embed(scene(np.where(np.arange(SIDE) == 5, np.float32(2.8), REFL), units="reflectance")),
        lambda: means(np.where(np.arange(SIDE) == 5, 28000.0, DN)),
    ),
    **{
        f"{said} for a model of reflectance": (
            lambda _, each=each, said=said: embed(scene(REFL * np.float32(each), units=said), REFLECTANCE),
            lambda: means(REFL),
        )
        for said, each in {"reflectance": 1, "DN": 1e4, "%": 100}.items()
    },
    "raw numbers asked for": (lambda _: embed(scene(REFL, units="DN"), normalize="none"), lambda: means(REFL)),
    # packing
    "packed in attrs": (lambda _: embed(scene(DN + 1000, scale_factor=1e-4, add_offset=-0.1)), dn_means),
    "packed, units DN": (lambda _: embed(scene(DN + 1000, scale_factor=1e-4, add_offset=-0.1, units="DN")), dn_means),
    "packed, units 1": (lambda _: embed(scene(DN + 1000, scale_factor=1e-4, add_offset=-0.1, units="1")), dn_means),
    "packed without an offset": (lambda _: embed(scene(scale_factor=1e-4, units="reflectance")), dn_means),
    "packed percent": (lambda _: embed(scene(scale_factor=0.01, units="%")), dn_means),
    "offset alone": (lambda _: embed(scene(DN + 1000, add_offset=-1000)), dn_means),
    "no packing, said so": (lambda _: embed(scene(scale_factor=1.0, add_offset=0.0)), dn_means),
    "packed finer, as Landsat is": (
        lambda _: embed(scene((DN * 4).astype("uint16"), scale_factor=2.5e-5, add_offset=0.0)),
        dn_means,
    ),
    "packed in numpy numbers": (
        lambda _: embed(scene(DN + 1000, scale_factor=np.float64(1e-4), add_offset=np.array([-0.1]))),
        dn_means,
    ),
    "decoded, with encoding": (
        lambda _: embed(with_encoding(scene(REFL), scale_factor=1e-4, add_offset=-0.1, _FillValue=0)),
        dn_means,
    ),
    **{
        f"open_scene, packed .{kind}": (
            lambda folder, kind=kind: embed(xr_rsembed.open_scene(packed_file(folder, kind))),
            dn_means,
        )
        for kind in ("nc", "zarr")
    },
    "open_dataset, decoded .nc": (
        lambda folder: embed(xr.open_dataset(packed_file(folder, "nc"), engine="h5netcdf", decode_coords="all")["r"]),
        dn_means,
    ),
    "open_zarr, decoded": (
        lambda folder: embed(decoded(folder, DN)),
        dn_means,
    ),
    "open_zarr, decoded, with a hole": (
        lambda folder: embed(decoded(folder, hole(DN.astype("f8"), np.nan))),
        holed,
    ),
    "HLS: int16, nodata -9999": (
        lambda folder: embed(
            xr_rsembed.open_scene(
                packed_file(
                    folder, "nc", hole(DN.astype("f8"), np.nan), dtype="int16", add_offset=0.0, _FillValue=-9999
                )
            )
        ),
        holed,
    ),
    **{
        f"GDAL scales, rioxarray {how or 'as it is'}": (
            lambda folder, how=how: embed(
                rioxarray.open_rasterio(tif(folder, hole(DN + 1000), scale=1e-4, offset=-0.1), **how)
            ),
            holed,
        )
        for how in ({}, {"masked": True}, {"mask_and_scale": True}, {"chunks": {"y": 20}})
    },
    "GDAL scales, another for each band": (
        lambda folder: embed(
            rioxarray.open_rasterio(
                tif(
                    folder,
                    np.concatenate([hole(DN), hole(DN // 10 * 2)])[[*range(11), 23]].astype("uint16"),
                    scale=((1e-4,) * 11 + (5e-4,)),
                    offset=(0.0,) * 12,
                )
            )
        ),
        lambda: holed(np.concatenate([DN[:11].astype("f8"), DN[11:] // 10 * 10])),
    ),
    "GDAL scales, open_scene": (
        lambda folder: embed(xr_rsembed.open_scene(tif(folder, hole(DN + 1000), scale=1e-4, offset=-0.1))),
        holed,
    ),
    # nodata
    **{
        f"nodata in {name}": (lambda _, name=name, value=value: embed(scene(hole(DN), **{name: value})), holed)
        for name, value in {
            "_FillValue": 0,
            "missing_value": 0.0,
            "fill_value": np.uint16(0),
            "nodata": "0",
            "nodatavals": (0.0,) * 12,
        }.items()
    },
    "nodata in two attrs": (
        lambda _: embed(scene(np.where(np.arange(SIDE) == 20, 9, hole(DN)), _FillValue=0, missing_value=9)),
        lambda: holed(np.where(np.arange(SIDE) == 20, np.nan, DN.astype("f8"))),
    ),
    "nodata by write_nodata": (lambda _: embed(scene(hole(DN)).rio.write_nodata(0)), holed),
    "nodata by write_nodata, encoded": (lambda _: embed(scene(hole(DN)).rio.write_nodata(0, encoded=True)), holed),
    "nodata by set_nodata": (lambda _: embed(scene(hole(DN)).rio.set_nodata(0)), holed),
    "nodata in encoding": (lambda _: embed(with_encoding(scene(hole(DN)), _FillValue=0)), holed),
    "nodata -9999": (lambda _: embed(scene(hole(DN.astype("int16"), -9999), _FillValue=-9999)), holed),
    "nodata NaN": (lambda _: embed(scene(hole(DN.astype("f4"), np.nan), _FillValue=np.nan)), holed),
    "nodata in GDAL's text": (lambda _: embed(scene(hole(DN.astype("int16"), -9999), _FillValue="-9999")), holed),
    "numbers without a sign, stored with one": (
        lambda _: embed(scene(hole(DN, 65535).astype("int16"), _Unsigned="true", _FillValue=np.int16(-1))),
        holed,
    ),
    **{
        f"invalid beyond {name}": (
            lambda _, attrs=attrs, value=value: embed(scene(hole(DN.astype("int16"), value), **attrs)),
            holed,
        )
        for name, attrs, value in (
            ("valid_range", {"valid_range": [1, 16000]}, -30),
            ("valid_range in text", {"valid_range": "1, 16000"}, 20000),
            ("valid_min", {"valid_min": np.int16(1)}, -30),
            ("valid_max", {"valid_max": 16000}, 20000),
        )
    },
    "invalid beyond valid_range, packed": (
        lambda _: embed(scene(hole(DN + 1000), valid_range=(1, 17000), scale_factor=1e-4, add_offset=-0.1)),
        holed,
    ),
    "invalid beyond valid_range in values, packed": (
        lambda _: embed(scene(hole(DN + 1000), valid_range=(0.0, 1.6), scale_factor=1e-4, add_offset=-0.1)),
        holed,
    ),
    "invalid beyond valid_range, decoded": (
        lambda _: embed(
            with_encoding(scene(hole(REFL, 3.0), valid_range=(1, 17000)), scale_factor=1e-4, add_offset=-0.1)
        ),
        holed,
    ),
    "nodata infinite": (lambda _: embed(scene(hole(DN.astype("f4"), np.inf), _FillValue=np.inf)), holed),
    "nodata that the dtype cannot hold": (lambda _: embed(scene(_FillValue=-9999)), dn_means),
    "nodata other in each band": (
        lambda _: embed(
            scene(
                np.concatenate([hole(DN)[:6], hole(DN, 9)[6:]]),
                range(1, 13),
                nodatavals=(0,) * 6 + (9,) * 6,
                long_name=S2,
            )
        ),
        holed,
    ),
    "nodata, lazy": (lambda _: embed(scene(hole(DN), _FillValue=0).chunk({"x": 20})), holed),
    # masks
    "mask of a GeoTIFF": (
        lambda folder: embed(
            xr_rsembed.open_scene(tif(folder, hole(DN, 77), nodata=None, mask=MASK[0].astype("uint8")))
        ),
        holed,
    ),
    "alpha band of a GeoTIFF": (
        lambda folder: embed(
            xr_rsembed.open_scene(tif(folder, np.concatenate([hole(DN, 77), MASK]), nodata=None, names=S2, alpha=True))
        ),
        holed,
    ),
    **{
        f"a band called {name}": (
            lambda _, name=name: embed(scene(np.concatenate([hole(DN, 77), MASK]), (*S2, name))),
            holed,
        )
        for name in ("dataMask", "mask", "alpha")
    },
    "a variable called dataMask": (
        lambda _: embed(variables(np.concatenate([hole(DN, 77), MASK]), (*S2, "dataMask"))),
        holed,
    ),
    # a measured pixel stays one
    "dark water after the offset": (
        lambda _: embed(scene(np.full_like(DN, 990), add_offset=-1000, _FillValue=0, scale_factor=1)),
        lambda: means(np.ones_like(DN)),
    ),
    "zero reflectance decoded from a file": (
        lambda folder: embed(decoded(folder, np.where(np.arange(SIDE) < 16, 0.0, DN))),
        lambda: means(np.where(np.arange(SIDE) < 16, 1.0, DN)),
    ),
    # radar
    "dB": (lambda _: embed(DB), lambda: means(DB)),
    "dB, stated": (lambda _: embed(DB.assign_attrs(units="Decibel")), lambda: means(DB)),
    "linear power": (lambda _: embed(LINEAR.assign_attrs(units="linear")), lambda: means(DB)),
    "linear power, as CF says it": (lambda _: embed(LINEAR.assign_attrs(units="m2 m-2")), lambda: means(DB)),
    "linear power as an argument": (lambda _: embed(LINEAR, units="power"), lambda: means(DB)),
    "dB in hundredths": (
        lambda _: embed(scene((DB.values * 100).round().astype("int16"), ("VV", "VH"), units="dB", scale_factor=0.01)),
        lambda: means((DB.values * 100).round() / 100),
    ),
    "linear for a model of power": (lambda _: embed(LINEAR, POWER), lambda: means(LINEAR)),
    "zero power is no data": (
        lambda _: embed(LINEAR.copy(data=hole(LINEAR.values)).assign_attrs(units="linear")),
        lambda: np.where(np.isnan(holed(np.ones((12, 1, 1)).repeat(SIDE, 1).repeat(SIDE, 2))), np.nan, means(DB)),
    ),
    **{
        f"power below zero is no data, {kind}": (
            lambda _, value=value, model=model: embed(
                LINEAR.copy(data=hole(LINEAR.values, value)).assign_attrs(units="linear"), model
            ),
            lambda right=right: holed(right),
        )
        for kind, value, model, right in (
            ("for dB", -1e-4, MODEL, DB),
            ("for power", -1e-4, POWER, LINEAR),
            ("an unstated -9999", -9999, MODEL, DB),
        )
    },
    "noise below zero throughout is no data": (
        lambda _: embed(LINEAR.copy(data=np.full_like(LINEAR, -1e-4)).assign_attrs(units="linear")),
        lambda: np.full((12, 3, 3), np.nan),
    ),
    # elevation
    **{
        f"heights in {said}": (
            lambda _, said=said, each=each: embed((HEIGHTS.astype("f8") / each).assign_attrs(units=said)),
            lambda: means(HEIGHTS),
        )
        for said, each in LENGTHS.items()
    },
    "heights in tenths of metres": (
        lambda _: embed(scene((HEIGHTS.values * 10).round().astype("int32"), ("DEM",), units="m", scale_factor=0.1)),
        lambda: means((HEIGHTS.values * 10).round() / 10),
    ),
    "heights without a dim band": (
        lambda _: embed(HEIGHTS[0].drop_vars("band"), modality="DEM"),
        lambda: means(HEIGHTS),
    ),
    "heights at sea": (lambda _: embed(HEIGHTS * 0), lambda: means(HEIGHTS * 0)),
    # pictures
    **{
        f"a picture, {name}": (lambda _, given=given: embed(given), lambda: means(PICTURE))
        for name, given in {
            "R G B": scene(PICTURE, ("R", "G", "B")),
            "names of Sentinel-2": scene(PICTURE, ("B4", "B3", "B2")),
            "floats": scene(PICTURE.astype("f4"), ("R", "G", "B"), units="8-bit"),
            "counts": scene(PICTURE, ("red", "green", "blue"), units="counts"),
        }.items()
    },
    # true scenes
    **{
        f"true: {name}": (lambda _, values=values: embed(scene(values)), lambda values=values: means(values))
        for name, values in {
            "snow": dn(9000, 14000),
            "glint": dn(14000, 19000),
            "deep shadow": dn(1, 60),
            "water at DN 1": np.where(np.random.default_rng(1).random(DN.shape) < 0.9, 1, dn(1, 200)),
            "desert or cloud, all above 1000": dn(1400, 5000),
            "a few pixels of 0": np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) < 3, 0, DN),
            "one saturated pixel": np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) == 700, 65535, DN),
            "one hot pixel in shadow": np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) == 700, 9000, dn(1, 60)),
            "all of one value": np.full_like(DN, 1500),
            "one bright band that was clipped": np.where(np.arange(12)[:, None, None] == 4, dn(300, 30_000).clip(max=20_000), DN),
        }.items()
    },
    "true: cloud of a late baseline": (
        lambda _: embed(scene(dn(2500, 9000), **{"s2:processing_baseline": "05.09"})),
        lambda: means(dn(2500, 9000)),
    ),
    "true: four valid pixels": (
        lambda _: embed(scene(FOUR, _FillValue=0)),
        lambda: np.where(means(FOUR) == 0, np.nan, means(FOUR)),
    ),
    "true: ships in dB": (
        lambda _: embed(DB.where(np.arange(SIDE) % 7 != 0, 25.0)),
        lambda: means(DB.where(np.arange(SIDE) % 7 != 0, 25.0)),
    ),
    "true: a town in dB, all above 0": (lambda _: embed(radar(12.0, 2.0)), lambda: means(radar(12.0, 2.0))),
    "true: reflectance of snow": (
        lambda _: embed(scene((dn(9000, 14000) / 1e4).astype("f4"), units="reflectance")),
        lambda: means(dn(9000, 14000)),
    ),
    "true: reflectance in shadow": (
        lambda _: embed(scene((dn(1, 60) / 1e4).astype("f4"), units="reflectance")),
        lambda: means(dn(1, 60)),
    ),
    "true: power below 0 after resampling": (
        lambda _: embed(LINEAR.where(np.arange(SIDE) % 9 != 0, -1e-4), POWER),
        lambda: means(LINEAR.where(np.arange(SIDE) % 9 != 0, -1e-4)),
    ),
    # orientation: the model sees north up and west left
    "south up": (lambda _: embed(scene().isel(y=UP)), lambda: means(DN)[:, ::-1]),
    "east left": (lambda _: embed(scene().isel(x=LEFT)), lambda: means(DN)[:, :, ::-1]),
    "both": (lambda _: embed(scene().isel(y=UP, x=LEFT)), lambda: means(DN)[:, ::-1, ::-1]),
    "south up, without x": (lambda _: embed(scene().isel(y=UP).drop_vars("x")), lambda: means(DN)[:, ::-1]),
    "east left, without y": (lambda _: embed(scene().isel(x=LEFT).drop_vars("y")), lambda: means(DN)[:, :, ::-1]),
    "south up, lazy": (lambda _: embed(scene().isel(y=UP).chunk({"y": 17})), lambda: means(DN)[:, ::-1]),
    "a file that is south up": (
        lambda folder: embed(rioxarray.open_rasterio(tif(folder, DN[:, ::-1], nodata=None, south_up=True))),
        lambda: means(DN)[:, ::-1],
    ),
    "a file that is south up, without coords": (
        lambda folder: embed(
            rioxarray.open_rasterio(tif(folder, DN[:, ::-1], nodata=None, south_up=True), parse_coordinates=False)
        ),
        lambda: means(DN)[:, ::-1],
    ),
    "rows counted from the top": (
        lambda _: embed(
            scene().drop_vars("spatial_ref").assign_coords(y=np.arange(SIDE), x=np.arange(SIDE)).drop_attrs()
        ),
        dn_means,
    ),
    "transposed": (lambda _: embed(scene().transpose("x", "y", "band")), dn_means),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_right_numbers(case: str, tmp_path: Path) -> None:
    run, expected = RIGHT[case]
    np.testing.assert_allclose(run(tmp_path), expected(), rtol=2e-5, atol=2e-3)


Refused = tuple[Callable[[], Any], type[Exception], tuple[str, ...]]
Band, Unit, Scene, Grid = errors.BandOrderError, errors.UnitsError, errors.SceneError, errors.GridError
TINY = "terramind_v1_tiny"


def tiny(given: Any, **options: Any) -> np.ndarray:
    return embed(given, TINY, weights="random", **options)


def joined(*times: list[int]) -> xr.Dataset:
    """Bands of different dates, as xr.Dataset joins them."""
    halves = [
        scene().isel(band=part).expand_dims(time=when).astype("f4")
        for part, when in zip((slice(6), slice(6, 12)), times, strict=True)
    ]
    return xr.Dataset(
        {name: half.sel(band=name, drop=True) for half in halves for name in half.band.values.tolist()}
    )


REFUSED: dict[str, Refused] = {
    # bands
    **{
        f"{len(held)} bands of S2L2A": (lambda held=held: tiny(scene().sel(band=held)), Band, ("lacks", f"missing: {lacking}", "bands="))
        for held, lacking in (
            (list(S2[1:]), "B1"),
            (["B2", "B3", "B4", "B8"], "B1, B5"),
            (["B2", "B3", "B4", "B8A", "B11", "B12"], "B1, B5"),
            (["B4", "B3", "B2"], "B1, B5"),
            (["B8"], "B1, B2"),
        )
    },
    "eleven bands, by to_bands": (lambda: scene()[1:].rsembed.to_bands(TINY), Band, ("lacks 1 of the 12", "missing: B1")),
    "eleven bands of a stated modality": (lambda: tiny(scene()[1:], modality="S2L1C"), Band, ("bands of S2L1C", "B10")),
    "eleven bands of attrs": (lambda: tiny(scene(modality="S2L1C")[1:]), Band, ("bands of S2L1C", "B10")),
    "eleven bands, a model that takes all": (
        lambda: embed(scene()[1:], "terrafm", weights="random"),
        Band,
        ("missing: B1", "all of them or none"),
    ),
    "one polarization": (lambda: tiny(DB[:1], modality="S1GRD"), Band, ("lacks 1 of the 2", 'bands={"S1GRD": ["VV"]}')),
    "labels 12 to 1": (lambda: embed(scene(bands=range(12, 0, -1))), Band, ("12 11 10", "assign_coords")),
    "labels 0 to 11": (lambda: embed(scene(bands=range(12))), Band, ("0 1 2",)),
    "wavelengths": (lambda: embed(scene(bands=range(443, 443 + 12))), Band, ("443", "names")),
    "numbers in strings": (lambda: embed(scene(bands=[str(n) for n in range(12, 0, -1)])), Band, ("12 11",)),
    "descriptions too few": (lambda: embed(scene(bands=range(2, 14), long_name=S2)), Band, ("2 3 4",)),
    "an unknown name beside all": (
        lambda: scene(np.concatenate([DN, DN[:1]]), (*S2, "banana")).rsembed.to_bands(MODEL),
        Band,
        ("unknown names: banana", "da.sel(band="),
    ),
    "a band twice": (lambda: embed(scene(bands=(*S2[:11], "blue"))), Band, ("doubled: B2",)),
    "thirteen bands": (lambda: embed(scene(np.concatenate([DN, DN[:1]]), (*S2, "SCL"))), Band, ("13 bands", "to_bands")),
    "the other product": (lambda: embed(scene(modality="S2L1C")), errors.UnknownModelError, ("S2L1C", "S2L2A")),
    "names of another sensor": (lambda: embed(scene(bands=[f"SR_B{n}" for n in range(12)])), Band, ("SR_B0",)),
    "Sentinel-2 as a picture": (lambda: embed(scene(units="DN").sel(band=["B4", "B3", "B2"])), Band, ("lacks 9",)),
    "red, green, blue of Sentinel-2": (lambda: embed(scene(DN[:3], ("red", "green", "blue"))), Band, ("lacks 9",)),
    "a picture of DN": (lambda: embed(scene(DN[:3], ("R", "G", "B"))), Unit, ("0 to 255", "S2L2A")),
    "a picture in fractions": (lambda: embed(scene(PICTURE / 255, ("R", "G", "B"))), Unit, ("fractions", "da * 255")),
    "bands as a mapping of arrays": (
        lambda: embed({name: scene().sel(band=name) for name in S2}),
        Scene,
        ("bands, not modalities", "xr.Dataset(scenes)"),
    ),
    "variables joined on unequal times": (lambda: embed(joined([0, 1], [1, 2])), Grid, ("time", "B1 at 2", "exact")),
    "variables joined on unequal times, lazy": (
        lambda: embed(joined([0, 1], [1, 2]).chunk()),
        Scene,
        ("unequal times", "exact"),
    ),
    "variables in different units": (
        lambda: embed(variables(units="DN").assign(B9=variables(units="%")["B9"])),
        Scene,
        ("different units", "B9: %"),
    ),
    # units
    **{
        f"unknown units {said!r}": (lambda said=said: embed(scene(units=said)), Unit, ("Unknown units", str(said)))
        for said in ("furlong", "K", "radians", 5, {"a": 1})
    },
    "unknown units as an argument": (lambda: embed(scene(), units="furlong"), Unit, ("units= 'furlong'", "'DN'")),
    "units of another kind": (lambda: embed(scene(units="m")), Unit, ("in m", "takes DN")),
    "units that differ": (lambda: embed(scene(units=("DN",) * 11 + ("%",))), Unit, ("different units", "%, dn")),
    "dB for power": (lambda: embed(DB.assign_attrs(units="dB"), POWER), Unit, ("dB", "10 ** (da / 10)")),
    "amplitude": (lambda: embed(DB.assign_attrs(units="amplitude")), Unit, ("amplitude", "** 2")),
    "integer radar": (lambda: embed(DB.astype("int16")), Unit, ("int16", "floats")),
    # numbers that are something else
    "reflectance": (lambda: embed(scene(REFL)), Unit, ("reflectance", 'units="reflectance"')),
    "reflectance, units kept": (lambda: embed(scene(REFL, units="DN")), Unit, ("reflectance",)),
    "reflectance, one pixel at 2.8": (
        lambda: embed(scene(np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) == 9, np.float32(2.8), REFL))),
        Unit,
        ("reflectance",),
    ),
    "reflectance, lazy": (lambda: embed(scene(REFL).chunk({"y": 20})), Unit, ("reflectance", "window:")),
    "reflectance for TerraFM": (lambda: embed(scene(REFL, units="DN"), "terrafm", weights="random"), Unit, ("reflectance",)),
    "percent": (lambda: embed(scene(REFL * 100)), Unit, ("%", 'units="%"')),
    "DN as reflectance": (lambda: embed(scene(units="reflectance")), Unit, ("cannot be reflectance", 'units="DN"')),
    "eight bits": (lambda: embed(scene((DN / 6000 * 255).astype("uint8"))), Unit, ("8-bit", "255")),
    "eight bits in sixteen": (lambda: embed(scene((DN / DN.max() * 255).astype("uint16"))), Unit, ("8-bit",)),
    "sixteen bits, stretched": (lambda: embed(scene((DN * 10.9).astype("uint16"))), Unit, ("cannot be DN",)),
    "z-scored": (lambda: embed(scene((DN - 3000.0) / 1700)), Unit, ("normalized", 'normalize="none"')),
    "z-scored, units kept": (lambda: embed(scene((DN - 3000.0) / 1700, units="DN")), Unit, ("normalized",)),
    "z-scored radar": (lambda: embed(radar(0.0, 1.0)), Unit, ("normalized",)),
    "z-scored power": (lambda: embed(radar(0.0, 1.0), POWER), Unit, ("normalized",)),
    "zeros": (lambda: embed(scene(DN * 0)), Scene, ("is 0", "write_nodata(0)")),
    "zeros in dB": (lambda: embed(DB * 0), Scene, ("is 0",)),
    "power as dB": (lambda: embed(LINEAR), Unit, ("linear", 'units="linear"')),
    "power as dB, units kept": (lambda: embed(LINEAR.assign_attrs(units="dB")), Unit, ("linear",)),
    "dB as power": (lambda: embed(DB, POWER), Unit, ("dB",)),
    "dB as power, units kept": (lambda: embed(DB.assign_attrs(units="linear")), Unit, ("linear power",)),
    "zeros among dB": (lambda: embed(DB.copy(data=hole(DB.values))), Scene, ("0 in 11.1%", "write_nodata(0)")),
    "counts of GRD as power": (lambda: embed(radar(300.0, 50.0), POWER), Unit, ("cannot be linear power",)),
    "counts of GRD as dB": (lambda: embed(radar(300.0, 50.0)), Unit, ("cannot be dB",)),
    "nodata unsaid": (lambda: embed(scene(hole(DN.astype("int16"), -9999))), Scene, ("-9999", "write_nodata(-9999)")),
    "nodata of heights unsaid": (lambda: embed(HEIGHTS.copy(data=hole(HEIGHTS.values, -32768))), Scene, ("-32768",)),
    "heights beyond mountains": (lambda: embed(HEIGHTS * 100), Unit, ("cannot be m",)),
    "the offset is still there": (
        lambda: embed(scene(dn(1, 6000) + 1000, **{"s2:processing_baseline": "05.09"})),
        Unit,
        ("offset of 1000", "04.00"),
    ),
    "the offset is still there, said in a coord": (
        lambda: embed(scene(dn(1, 6000) + 1000).assign_coords({"earthsearch:boa_offset_applied": True})),
        Unit,
        ("offset of 1000",),
    ),
    "a lost nodata, ds.to_array": (
        lambda: embed(variables(hole(DN), _FillValue=0).to_dataarray("band")),
        Scene,
        ("0 in 11.1%", "da.rio.write_nodata(0)"),
    ),
    "a lost nodata after an offset": (lambda: embed(scene(hole(DN.astype("int32"), -1000))), Scene, ("-1000", "write_nodata(-1000)")),
    "a lost nodata of 65535": (lambda: embed(scene(hole(DN, 65535))), Scene, ("65535", "write_nodata(65535)")),
    "an offset taken off without a sign": (lambda: embed(scene(dn(600, 6000)) - np.uint16(1000)), Unit, ("65536", "int32")),
    "an alpha band among unnamed ones": (
        lambda: tiny(scene(np.concatenate([DN, MASK]), None)),
        Scene,
        ("mask", "255 and 0 alone in band number 12", "open_scene"),
    ),
    "a range of other numbers": (lambda: embed(scene(valid_range=(0, 1))), Unit, ("valid range", "valid_range", "pop")),
    "a range that is none": (lambda: embed(scene(valid_range="all")), Scene, ("valid_range", "'all'", "pop")),
    "an offset taken off twice": (lambda: embed(scene(dn(1, 6000).astype("int32") - 1000)), Unit, ("taken off twice", "da + 1000")),
    "an offset taken off twice, in reflectance": (
        lambda: embed(scene(dn(1, 6000) / 1e4 - 0.1, units="reflectance")),
        Unit,
        ("taken off twice", "da + 0.1"),
    ),
    "an offset taken off before, dark and bright": (lambda: embed(scene(dn(1, 6000), add_offset=-1000)), Unit, ("added before", "pop")),
    **{
        f"nodata {mark:g} unsaid": (
            lambda mark=mark, dtype=dtype: embed(HEIGHTS.copy(data=hole(HEIGHTS.values, mark)).astype(dtype)),
            Scene,
            ("mark invalid pixels", "write_nodata"),
        )
        for mark, dtype in ((-32767, "f4"), (-99999, "f4"), (-3.4028234663852886e38, "f4"), (9.96921e36, "f4"), (-(2**31), "i4"))
    },
    "counts of GRD as power, in whole numbers": (lambda: embed(radar(60.0, 9.0).round(), POWER), Unit, ("whole numbers",)),
    "Landsat's numbers": (
        lambda: embed(scene(DN[:7], [f"B0{n}" for n in range(1, 8)], platform="landsat-8")),
        Band,
        ("Landsat", "nir08"),
    ),
    "Landsat's numbers, by a coord": (
        lambda: scene().assign_coords(platform="landsat-9").rsembed.to_bands(MODEL),
        Band,
        ("Landsat", "nir08"),
    ),
    "units that are a scale": (lambda: embed(scene(units="0.0001")), Unit, ("Unknown units", 'scale_factor=0.0001, units="reflectance"')),
    # numbers that a scene cannot hold, and nothing says why
    "one band of zeros": (lambda: embed(scene(one_band(0))), Scene, ("B5 is 0", 'bands={"S2L2A": ["B1", "B2"')),
    "a strip of zeros in one band": (lambda: embed(scene(one_band(0, 5))), Scene, ("B5 is 0", "write_nodata(0)")),
    "one band of 65535": (lambda: embed(scene(one_band(65535))), Scene, ("B5 is 65535", 'bands={"S2L2A": ["B1", "B2"')),
    "a strip of 65535 in one band": (lambda: embed(scene(one_band(65535, 5))), Scene, ("B5 is 65535", "write_nodata(65535)")),
    "a strip of 65535 beside a nodata of 0": (
        lambda: embed(scene(one_band(65535, 5), _FillValue=0)),
        Scene,
        ("B5 is 65535", 'da.attrs["missing_value"] = 65535'),
    ),
    "a strip of zeros in one band of reflectance": (
        lambda: embed(scene(one_band(0, 5, REFL), units="reflectance")),
        Scene,
        ("B5 is 0",),
    ),
    "zeros under a nodata that integers cannot hold": (lambda: embed(scene(hole(DN), nodata=np.nan)), Scene, ("by 0", "write_nodata(0)")),
    "zeros under a nodata below all": (lambda: embed(scene(hole(DN), nodata=-9999)), Scene, ("by 0", "write_nodata(0)")),
    "a mask of 0 and 1": (lambda: embed(scene(np.concatenate([DN[:11], MASK // 255]))), Scene, ("mask", "open_scene")),
    "one band of zeros in dB": (lambda: embed(DB.where(DB.band == "VH", 0.0)), Scene, ("by 0", "write_nodata(0)")),
    "the logarithm of nearly 0": (
        lambda: embed(DB.where(DB.x > DB.x[3], -100.0)),
        Scene,
        ("-100", "write_nodata(-100)"),
    ),
    "stretched reflectance": (lambda: embed(scene(stretched(DN), units="reflectance")), Unit, ("exactly 1", "none")),
    "stretched, nothing stated": (lambda: embed(scene(stretched(DN))), Unit, ("exactly 1",)),
    "stretched dB": (lambda: embed(DB.copy(data=stretched(DB.values))), Unit, ("exactly 1",)),
    "stretched heights": (lambda: embed(HEIGHTS.copy(data=stretched(HEIGHTS.values))), Unit, ("exactly 1",)),
    "-9999 blended into DN": (lambda: embed(scene(blended(DN, -9999))), Scene, ("blended", "da.where(da > -1050)")),
    "-9999 blended into reflectance": (
        lambda: embed(scene(blended(REFL, -9999), units="reflectance")),
        Scene,
        ("blended", "da.where(da > -0.105)"),
    ),
    "-9999 blended into dB": (lambda: embed(DB.copy(data=blended(DB.values, -9999))), Scene, ("blended", "> -200")),
    # packing
    "packed, of unknown units": (lambda: embed(scene(scale_factor=0.01)), Unit, ("packed", "'%'")),
    "unpacked, attrs kept": (lambda: embed(scene(REFL, scale_factor=1e-4, add_offset=-0.1)), Unit, ("unpacked already", "pop")),
    "offset taken off, attrs kept": (lambda: embed(scene(dn(1, 900), add_offset=-1000)), Unit, ("added before", "pop")),
    "a scale of 0": (lambda: embed(scene(scale_factor=0)), Scene, ("packing", "pop")),
    "a scale that is none": (lambda: embed(scene(scale_factor="x")), Scene, ("scale_factor", "'x'", "pop")),
    "scales of no bands": (lambda: embed(scene(scales=(1e-4,) * 11 + (1e-3,))), Scene, ("scales", "mask_and_scale=True")),
    "nodata that is none": (lambda: embed(scene(fill_value="none")), Scene, ("fill_value", "'none'", "pop")),
    "infinite": (lambda: embed(scene(hole(DN.astype("f4"), np.inf))), Scene, ("infinite", "isfinite")),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_what_was_found(case: str) -> None:
    run, error, words = REFUSED[case]
    with pytest.raises(error) as caught:
        run()
    message = str(caught.value)
    assert isinstance(caught.value, errors.RsEmbedError)
    assert all(word in message for word in words), message
    assert "PROJCRS" not in message
    assert len(message) < 1200
    assert "remedy:" in message


# A scene that is refused, words of the remedy that is printed, and what comes out of following it.
Remedy = tuple[Callable[[], Any], str, Callable[[], Any], Callable[[], np.ndarray]]


def attrs_set(array: xr.DataArray, **attrs: Any) -> xr.DataArray:
    return array.assign_attrs(attrs)


def without(array: xr.DataArray, *names: str) -> xr.DataArray:
    array = array.copy()
    for name in names:
        array.attrs.pop(name, None)
        array.encoding.pop(name, None)
    return array


LATE = {"s2:processing_baseline": "05.09", "_FillValue": 0}
OFFSET = scene(hole(dn(1, 6000) + 1000), **LATE)


def dn_minus_offset(da: xr.DataArray) -> xr.DataArray:
    return xr.where(da == 0, 0, (da.astype("int32") - 1000).clip(1)).assign_attrs(da.attrs)


REMEDIES: dict[str, Remedy] = {
    "units of reflectance": (lambda: embed(scene(REFL)), 'units="reflectance"', lambda: embed(scene(REFL), units="reflectance"), dn_means),
    "reflectance times 10000": (lambda: embed(scene(REFL)), "da * 10000", lambda: embed(scene(REFL * 10000, units="DN")), dn_means),
    "units of percent": (lambda: embed(scene(REFL * 100)), 'units="%"', lambda: embed(scene(REFL * 100), units="%"), dn_means),
    "units in attrs": (lambda: embed(LINEAR), 'da.attrs["units"] = "linear"', lambda: embed(attrs_set(LINEAR, units="linear")), lambda: means(DB)),
    "dB to power": (
        lambda: embed(DB.assign_attrs(units="dB"), POWER),
        '(10 ** (da / 10)).assign_attrs(da.attrs, units="linear")',
        lambda: embed((10 ** (DB / 10)).assign_attrs(DB.attrs, units="linear"), POWER),
        lambda: means(LINEAR),
    ),
    "amplitude to power": (
        lambda: embed(attrs_set(LINEAR**0.5, units="amplitude")),
        '(da.astype("float32") ** 2).assign_attrs(da.attrs, units="linear")',
        lambda: embed(((LINEAR**0.5).astype("float32") ** 2).assign_attrs(units="linear")),
        lambda: means(DB),
    ),
    "dB in hundredths, unsaid": (
        lambda: embed((DB * 100).round().astype("int16").assign_attrs(units="dB")),
        'assign_attrs(units="dB", scale_factor=0.01)',
        lambda: embed((DB * 100).round().astype("int16").assign_attrs(units="dB", scale_factor=0.01)),
        lambda: means((DB.values * 100).round() / 100),
    ),
    "zeros among dB": (
        lambda: embed(DB.copy(data=hole(DB.values))),
        "da.rio.write_nodata(0)",
        lambda: embed(DB.copy(data=hole(DB.values)).rio.write_nodata(0)),
        lambda: holed(DB),
    ),
    "a band dim of another name": (
        lambda: embed(scene().rename(band="feature")),
        'da.rename({"feature": "band"})',
        lambda: embed(scene().rename(band="feature").rename({"feature": "band"})),
        dn_means,
    ),
    "variables on other axes": (
        lambda: embed(variables().rename(y="northing", x="easting")),
        "ds.rename({'northing': 'y', 'easting': 'x'})",
        lambda: embed(variables().rename(y="northing", x="easting").rename({"northing": "y", "easting": "x"})),
        dn_means,
    ),
    "a Dataset of elevation": (
        lambda: embed(HEIGHTS.isel(band=0, drop=True).to_dataset(name="elevation")),
        'modalities={"DEM": "elevation"}',
        lambda: embed(HEIGHTS.isel(band=0, drop=True).to_dataset(name="elevation"), modalities={"DEM": "elevation"}),
        lambda: means(HEIGHTS),
    ),
    "radar to floats": (lambda: embed(DB.round().astype("int16")), "floats", lambda: embed(DB.round().astype("float32"), units="dB"), lambda: means(DB.round())),
    "eight bits": (
        lambda: embed(scene(PICTURE[[0] * 12])),
        'da.astype("float32") * (10000 / 255)',
        lambda: embed((scene(PICTURE[[0] * 12]).astype("float32") * (10000 / 255)).assign_attrs(units="DN")),
        lambda: means(PICTURE[[0] * 12] * (10000 / 255)),
    ),
    "a picture times 255": (
        lambda: embed(scene(PICTURE / 255, ("R", "G", "B"))),
        '(da * 255).assign_attrs(da.attrs, units="8-bit")',
        lambda: embed((scene(PICTURE / 255, ("R", "G", "B")) * 255).assign_attrs(units="8-bit")),
        lambda: means(PICTURE),
    ),
    "normalize none": (
        lambda: embed(scene((DN - 3000.0) / 1700)),
        'normalize="none"',
        lambda: embed(scene((DN - 3000.0) / 1700), normalize="none"),
        lambda: means((DN - 3000.0) / 1700),
    ),
    "zeros are nodata": (
        lambda: embed(scene(DN * 0)),
        "da.rio.write_nodata(0)",
        lambda: embed(scene(DN * 0).rio.write_nodata(0)),
        lambda: np.full((12, 3, 3), np.nan),
    ),
    "a strip of one band": (
        lambda: embed(scene(one_band(0, 16))),
        "da.rio.write_nodata(0)",
        lambda: embed(scene(one_band(0, 16)).rio.write_nodata(0)),
        lambda: means(np.where(np.arange(SIDE) < 16, np.nan, DN)),
    ),
    "a strip of one band, beside another nodata": (
        lambda: embed(scene(one_band(65535, 16), _FillValue=0)),
        'da.attrs["missing_value"] = 65535',
        lambda: embed(scene(one_band(65535, 16), _FillValue=0, missing_value=65535)),
        lambda: means(np.where(np.arange(SIDE) < 16, np.nan, DN)),
    ),
    "what is blended goes": (
        lambda: embed(scene(blended(DN, -9999))),
        "da.where(da > -1050)",
        lambda: embed(scene(blended(DN, -9999)).where(lambda da: da > -1050)),
        lambda: means(np.where((blended(DN, -9999) > -1050).all(0), blended(DN, -9999), np.nan)),
    ),
    "a lost nodata": (
        lambda: embed(variables(hole(DN), _FillValue=0).to_dataarray("band")),
        "da.rio.write_nodata(0)",
        lambda: embed(variables(hole(DN), _FillValue=0).to_dataarray("band").rio.write_nodata(0)),
        holed,
    ),
    "the offset taken off with a sign": (
        lambda: embed(scene(dn(600, 6000)) - np.uint16(1000)),
        "xr.where(da == 0, 0, (da.astype('int32') - 1000).clip(1)).assign_attrs(da.attrs)",
        lambda: embed(dn_minus_offset(scene(dn(600, 6000)))),
        lambda: means(np.maximum(dn(600, 6000).astype("int32") - 1000, 1)),
    ),
    "alpha by its name": (
        lambda: tiny(scene(np.concatenate([hole(DN, 77), MASK]), None)),
        'da.assign_coords(band=["B1", ..., "alpha"])',
        lambda: embed(scene(np.concatenate([hole(DN, 77), MASK]), None).assign_coords(band=[*S2, "alpha"])),
        holed,
    ),
    "alpha of a picture, by its name": (
        lambda: embed(scene(np.concatenate([hole(PICTURE), MASK.astype("uint8")]), None)),
        'da.assign_coords(band=["R", "G", "B", "alpha"])',
        lambda: embed(
            scene(np.concatenate([hole(PICTURE), MASK.astype("uint8")]), None).assign_coords(band=["R", "G", "B", "alpha"])
        ),
        lambda: holed(PICTURE),
    ),
    "DN that attrs call reflectance": (
        lambda: embed(scene(units="reflectance")),
        'embed(..., units="DN")',
        lambda: embed(scene(units="reflectance"), units="DN"),
        dn_means,
    ),
    "DN made of decoded reflectance": (
        lambda: embed(with_encoding(scene(DN.astype("f4")), scale_factor=1e-4, add_offset=-0.1)),
        "da.drop_encoding()",
        lambda: embed(with_encoding(scene(DN.astype("f4")), scale_factor=1e-4, add_offset=-0.1).drop_encoding()),
        dn_means,
    ),
    "a fill of heights": (
        lambda: embed(HEIGHTS.astype("int16").copy(data=hole(HEIGHTS.values.astype("int16"), 32767))),
        "da.rio.write_nodata(32767)",
        lambda: embed(
            HEIGHTS.astype("int16").copy(data=hole(HEIGHTS.values.astype("int16"), 32767)).rio.write_nodata(32767)
        ),
        lambda: holed(HEIGHTS.values.astype("int16")),
    ),
    "parts in another order": (
        lambda: embed(xr.concat([scene().isel(x=slice(20, None)), scene().isel(x=slice(20))], "x")),
        "da.sortby('x', ascending=True)",
        lambda: embed(
            xr.concat([scene().isel(x=slice(20, None)), scene().isel(x=slice(20))], "x").sortby("x", ascending=True)
        ),
        dn_means,
    ),
    "a range taken away": (
        lambda: embed(scene(valid_range=(0, 1))),
        'for name in ("valid_range", "valid_min", "valid_max"): da.attrs.pop(name, None)',
        lambda: embed(without(scene(valid_range=(0, 1)), "valid_range", "valid_min", "valid_max")),
        dn_means,
    ),
    "an offset added again": (
        lambda: embed(scene(dn(1, 6000).astype("int32") - 1000)),
        "dn = (da + 1000).assign_attrs(da.attrs)",
        lambda: embed((scene(dn(1, 6000).astype("int32") - 1000) + 1000).assign_attrs()),
        lambda: means(dn(1, 6000)),
    ),
    "a scale that stood as units": (
        lambda: embed(scene(units="0.0001")),
        'da.assign_attrs(scale_factor=0.0001, units="reflectance")',
        lambda: embed(scene(units="0.0001").assign_attrs(scale_factor=0.0001, units="reflectance")),
        dn_means,
    ),
    "a sentinel is nodata": (
        lambda: embed(scene(hole(DN.astype("int16"), -9999))),
        "da.rio.write_nodata(-9999)",
        lambda: embed(scene(hole(DN.astype("int16"), -9999)).rio.write_nodata(-9999)),
        holed,
    ),
    "attrs of packing taken away": (
        lambda: embed(scene(REFL, scale_factor=1e-4, add_offset=-0.1, units="reflectance")),
        'da.attrs.pop("scale_factor", None); da.attrs.pop("add_offset", None)',
        lambda: embed(without(scene(REFL, scale_factor=1e-4, add_offset=-0.1, units="reflectance"), "scale_factor", "add_offset")),
        dn_means,
    ),
    "an offset added before": (
        lambda: embed(scene(dn(1, 900), add_offset=-1000)),
        "pop",
        lambda: embed(without(scene(dn(1, 900), add_offset=-1000), "scale_factor", "add_offset")),
        lambda: means(dn(1, 900)),
    ),
    "nodata taken away": (lambda: embed(scene(nodata="x")), 'da.attrs.pop("nodata", None)', lambda: embed(without(scene(nodata="x"), "nodata")), dn_means),
    "units of a packed scene": (lambda: embed(scene(scale_factor=0.01)), 'units="reflectance"', lambda: embed(scene(scale_factor=0.01), units="%"), dn_means),
    "the offset taken off": (
        lambda: embed(OFFSET),
        "xr.where(da == 0, 0, (da.astype('int32') - 1000).clip(1)).assign_attrs(da.attrs)",
        lambda: embed(dn_minus_offset(OFFSET)),
        lambda: holed(dn(1, 6000)),
    ),
    "the offset in attrs": (
        lambda: embed(OFFSET),
        'da.attrs["add_offset"] = -1000',
        lambda: embed(attrs_set(OFFSET, add_offset=-1000)),
        lambda: holed(dn(1, 6000)),
    ),
    "finite pixels": (
        lambda: embed(scene(hole(DN.astype("f4"), np.inf))),
        "da.where(np.isfinite(da))",
        lambda: embed(scene(hole(DN.astype("f4"), np.inf)).where(lambda da: np.isfinite(da))),
        holed,
    ),
    "to_bands": (
        lambda: embed(scene().isel(band=UP)),
        'da.rsembed.to_bands("Means")',
        lambda: embed(scene().isel(band=UP).rsembed.to_bands(MODEL)),
        dn_means,
    ),
    "to_bands, of a scene with classes": (
        lambda: embed(scene(np.concatenate([DN, DN[:1]]), (*S2, "SCL"))),
        "to_bands",
        lambda: embed(scene(np.concatenate([DN, DN[:1]]), (*S2, "SCL")).rsembed.to_bands(MODEL)),
        dn_means,
    ),
    "unknown bands left out": (
        lambda: scene(np.concatenate([DN, DN[:1]]), (*S2, "banana")).rsembed.to_bands(MODEL),
        f"da.sel(band={list(S2)})",
        lambda: embed(scene(np.concatenate([DN, DN[:1]]), (*S2, "banana")).sel(band=list(S2))),
        dn_means,
    ),
    "names for labels": (
        lambda: embed(scene(bands=range(12, 0, -1))),
        'da.assign_coords(band=["B1", "B2", ...])',
        lambda: embed(scene(bands=range(12, 0, -1)).assign_coords(band=list(S2))),
        dn_means,
    ),
    "a Dataset of the bands": (
        lambda: embed({name: scene().sel(band=name, drop=True) for name in S2}),
        "xr.Dataset(scenes)",
        lambda: embed(xr.Dataset({name: scene().sel(band=name, drop=True) for name in S2})),
        dn_means,
    ),
    "a modality for a picture": (
        lambda: embed(scene(PICTURE.astype("f4"), ("red", "green", "blue"))),
        'modality="RGB"',
        lambda: embed(scene(PICTURE.astype("f4"), ("red", "green", "blue")), modality="RGB"),
        lambda: means(PICTURE),
    ),
    "the other product": (
        lambda: embed(scene(modality="S2L1C")),
        'modality="S2L2A"',
        lambda: embed(scene(modality="S2L1C"), modality="S2L2A"),
        dn_means,
    ),
    "per-band scales by mask_and_scale": (
        lambda: embed(scene(scales=(1e-4,) * 11 + (1e-3,))),
        "mask_and_scale=True",
        lambda: embed(with_encoding(scene(REFL), scale_factor=1e-4)),
        dn_means,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REMEDIES)
def test_a_remedy_that_is_followed_gives_the_right_numbers(case: str) -> None:
    run, words, follow, expected = REMEDIES[case]
    with pytest.raises(errors.RsEmbedError) as caught:
        run()
    assert words in str(caught.value)
    np.testing.assert_allclose(follow(), expected(), rtol=2e-5, atol=2e-3)


@pytest.mark.parametrize(
    "held",
    [S2[1:], ("B2", "B3", "B4", "B8"), ("B2", "B3", "B4", "B8A", "B11", "B12"), ("B4", "B3", "B2"), ("B8",)],
    ids=len,
)
def test_the_bands_that_an_error_prints_embed_what_the_scene_has(held: tuple[str, ...]) -> None:
    part = scene().sel(band=list(held))
    with pytest.raises(Band) as caught:
        tiny(part)
    printed = str(caught.value).split("remedy:")[1].split(" embeds")[0].strip()
    assert printed == f'bands={{"S2L2A": {list(held)}}}'.replace("'", '"')
    chosen = eval(printed.removeprefix("bands="))
    embedding = xr_rsembed.embed(part, TINY, weights="random", device="cpu", bands=chosen)
    assert embedding.attrs["bands"] == list(held)
    stated = xr_rsembed.embed(
        scene(), TINY, weights="random", device="cpu", modality="S2L2A", bands=list(held)
    )
    np.testing.assert_array_equal(embedding, stated)


@pytest.mark.parametrize("size", [(48, 48), (50, 70), (300, 250)], ids=str)
@pytest.mark.parametrize(
    "turn", [{"y": UP}, {"x": LEFT}, {"y": UP, "x": LEFT}], ids=lambda turn: "".join(turn)
)
@pytest.mark.parametrize("chunks", [None, {"y": 100, "x": 90}], ids=["eager", "lazy"])
def test_a_scene_on_other_axes_has_the_numbers_of_its_twin(size: Any, turn: Any, chunks: Any) -> None:
    rng = np.random.default_rng(7)
    twin = scene(rng.integers(300, 6000, (12, *size)).astype("uint16"))
    twin = twin if chunks is None else twin.chunk(chunks)
    for options in ({}, {"overlap": 64, "blend": "mean"}, {"output": "tiles"}):
        expected = xr_rsembed.embed(twin, MODEL, device="cpu", **options)
        given = xr_rsembed.embed(twin.isel(turn), MODEL, device="cpu", **options)
        back = given.isel({dim if dim in given.dims else f"tile_{dim}": step for dim, step in turn.items()})
        xr.testing.assert_allclose(
            back.drop_vars("spatial_ref"), expected.drop_vars("spatial_ref"), rtol=1e-6
        )
        if "y" in given.dims:
            assert given.odc.geobox.crs == twin.odc.geobox.crs
            turned = given.rio.transform()
            assert (turned.e > 0, turned.a < 0) == ("y" in turn, "x" in turn)


def test_modalities_on_different_axes_are_one_grid() -> None:
    s2, s1 = scene(units="DN"), DB.assign_attrs(units="dB")
    options: dict[str, Any] = {"model": TINY, "weights": "random", "device": "cpu"}
    expected = xr_rsembed.embed({"S2L2A": s2, "S1RTC": s1}, **options)
    turned = xr_rsembed.embed({"S2L2A": s2, "S1RTC": s1.isel(y=UP)}, **options)
    np.testing.assert_allclose(turned, expected, rtol=1e-5, atol=1e-5)


def test_normalize_and_to_bands_read_the_same() -> None:
    packed = scene((DN + 1000).astype("uint16"), scale_factor=1e-4, add_offset=-0.1, _FillValue=0)
    np.testing.assert_allclose(packed.rsembed.normalize(MODEL), DN)
    seen = packed.isel(y=UP).rsembed.normalize(MODEL)
    np.testing.assert_allclose(seen, DN[:, ::-1])
    assert not {"scale_factor", "add_offset", "_FillValue", "units"} & set(seen.attrs)
    kept = packed.isel(band=UP).rsembed.to_bands(MODEL)
    np.testing.assert_allclose(embed(kept), means(DN), rtol=2e-5)


@pytest.mark.filterwarnings("default")
def test_an_offset_that_no_metadata_tell_of_is_said_once() -> None:
    shifted = scene(dn(1, 6000) + 1000).chunk({"y": 16})
    with pytest.warns(errors.RsEmbedWarning, match="offset of Sentinel-2's baseline 04.00") as caught:
        np.testing.assert_allclose(embed(shifted), means(dn(1, 6000) + 1000), rtol=1e-5)
    assert sum("04.00" in str(one.message) for one in caught) == 1
    for true in (dn(1, 6000), dn(1400, 5000)):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "No pixel of a block is below 1000")
            embed(scene(true))


WARNED: dict[str, tuple[Callable[[], Any], str, Callable[[], Any], Callable[[], Any]]] = {
    "reflectance * 1000": (
        lambda: embed(scene((LEAVES / 10).round().astype("uint16"))),
        "(da / 1000)",
        lambda: embed(
            (scene((LEAVES / 10).round().astype("uint16")) / 1000).assign_attrs(units="reflectance")
        ),
        lambda: means((LEAVES / 10).round() * 10),
    ),
    "amplitude": (
        lambda: embed(LINEAR**0.5, POWER),
        '(da.astype("float32") ** 2).assign_attrs(da.attrs, units="linear")',
        lambda: embed((LINEAR**0.5) ** 2, POWER),
        lambda: means(LINEAR),
    ),
    "amplitude in dB": (
        lambda: embed((DB - np.float32([[[0]], [[4]]])) / 2),
        "(2 * da)",
        lambda: embed(2 * ((DB - np.float32([[[0]], [[4]]])) / 2)),
        lambda: means(DB.values - [[[0]], [[4]]]),
    ),
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", WARNED)
def test_what_may_be_meant_and_hardly_is_gives_a_warning(case: str) -> None:
    run, remedy, follow, expected = WARNED[case]
    with pytest.warns(errors.RsEmbedWarning, match="the numbers may be") as caught:
        run()
    assert any(remedy in str(one.message) for one in caught)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*the numbers may be")
        np.testing.assert_allclose(follow(), expected(), rtol=2e-5, atol=2e-3)


LIKELY = {
    "swapped": (lambda: embed(DB + np.float32([[[0]], [[6]]])), "VH is twice as strong as VV"),
    "swapped power": (
        lambda: embed(LINEAR * np.float32([[[1]], [[4]]]), POWER),
        "VH is twice as strong as VV",
    ),
    "a copy": (lambda: embed(scene(DN[[0, 1, 2, 2, *range(4, 12)]])), "B3 and B4 hold the same pixels"),
    "filled in": (lambda: embed(scene(one_band(1000))), "B5 is 1000 at every pixel"),
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", LIKELY)
def test_bands_that_can_hardly_be_what_they_are_called_give_a_warning(case: str) -> None:
    run, words = LIKELY[case]
    with pytest.warns(errors.RsEmbedWarning, match=words):
        run()


def water(**bands: float) -> xr.DataArray:
    """Noise of 20 DN around a spectrum, cut off at 0, as a correction that takes too much leaves it."""
    spectrum = np.array([bands.get(name, 0.0) for name in S2])[:, None, None]
    noise = np.random.default_rng(9).normal(spectrum, 20.0, (12, SIDE, SIDE))
    return scene(noise.clip(0).round().astype("uint16"))


TRUE: dict[str, Callable[[], Any]] = {
    "leaves": lambda: embed(scene(LEAVES)),
    "leaves in low sun": lambda: embed(scene(LEAVES // 3)),
    "leaves whose blue was corrected to 0": lambda: embed(scene(np.where(np.arange(12)[:, None, None] == 1, LEAVES / 9 - 45, LEAVES).clip(0).astype("uint16"))),
    "clear water": lambda: embed(water(B1=300, B2=250, B3=120, B4=20, B5=-10, B8=-20, B11=-60, B12=-60)),
    "turbid water": lambda: embed(water(B1=900, B2=1100, B3=1400, B4=1500, B5=1300, B6=600, B7=500, B8=400, B8A=200, B9=100, B11=-5, B12=-5)),
    "a white cloud cut off at 1": lambda: embed(scene(np.where(np.arange(12)[:, None, None] < 9, hole(REFL.clip(0.001), 1), REFL).astype("f4"), units="reflectance")),
    "a forest's power": lambda: embed(radar(-6.5, 1.5) - [[[0]], [[5.5]]]),
    "a city's power": lambda: embed(radar(-2.0, 6.0) - [[[0]], [[6]]]),
    "calm water": lambda: embed(radar(-23.0, 2.0) - [[[0]], [[2]]]),
    "a little below the noise": lambda: embed(DB.where(DB.x > DB.x[0], DB.where(DB.y < DB.y[9], -75.0))),
}  # fmt: skip


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", TRUE)
def test_true_scenes_pass_without_a_word(case: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "error", ".*the numbers may be|.*the bands may be|.*same pixels|.*every pixel of a block"
        )
        assert np.isfinite(TRUE[case]()).all()


def test_clip_is_an_option_that_is_recorded() -> None:
    bright = scene(dn(9000, 14000))
    options: dict[str, Any] = {"model": TINY, "weights": "random", "device": "cpu"}
    clipped, whole = (xr_rsembed.embed(bright, **options, clip=clip) for clip in (True, False))
    assert "clipped to 0..10000" in clipped.attrs["normalization"]
    assert "clip" not in whole.attrs["normalization"]
    assert not np.allclose(clipped, whole)
    np.testing.assert_array_equal(xr_rsembed.reproduce(whole, bright, device="cpu"), whole)
    at_most = scene(np.minimum(bright.values, 10000))
    np.testing.assert_allclose(
        xr_rsembed.embed(at_most, **options, clip=False), clipped, rtol=1e-5, atol=1e-5
    )
    with pytest.raises(errors.OptionError, match="True or False"):
        xr_rsembed.embed(bright, **options, clip="no")


def test_the_tables_are_long() -> None:
    assert len(RIGHT) + len(WARNED) + len(LIKELY) + len(TRUE) + len(REFUSED) + len(REMEDIES) >= 200
