"""What a band is, what the numbers mean, and what a file says beside its pixels: each row with the right value.

The model gives each cell's mean pixel, band by band, in its own units: numbers that are checked by hand.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr

import xr_rsembed
from tests.fakes import S2
from xr_rsembed import errors
from xr_rsembed.models.spec import Modality
from xr_rsembed.normalize import Normalization

pytestmark = pytest.mark.filterwarnings("ignore")
SIDE = 48
AS_IS = Normalization("scale", divisor=1.0, source="as they are")
PLANETARY = [f"B{name[1:]:0>2}" if name != "B8A" else name for name in S2]
EARTH_SEARCH = "coastal blue green red rededge1 rededge2 rededge3 nir nir08 nir09 swir16 swir22".split()
TERRAMIND = (
    "COASTAL_AEROSOL BLUE GREEN RED RED_EDGE_1 RED_EDGE_2 RED_EDGE_3 NIR_BROAD NIR_NARROW WATER_VAPOR SWIR_1 SWIR_2"
).split()
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
    coords = {"y": 5e6 - 5 - 10.0 * np.arange(values.shape[-2]), "x": 5e5 + 5 + 10.0 * np.arange(values.shape[-1])}
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
    transform = rasterio.Affine(10, 0, 5e5, 0, 10, 5e6 - 480) if south_up else rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    kind = {"driver": "GTiff", "dtype": values.dtype, "count": len(values), "crs": "EPSG:32632", "nodata": nodata}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", height=SIDE, width=SIDE, transform=transform, **kind) as file,
    ):
        file.write(values)
        for number, name in enumerate(names or (), 1):
            file.set_band_description(number, name)
        if scale is not None:
            file.scales, file.offsets = (scale, offset) if isinstance(scale, tuple) else ((scale,) * 12, (offset,) * 12)
        if alpha:
            file.colorinterp = [*[rasterio.enums.ColorInterp.gray] * 12, rasterio.enums.ColorInterp.alpha]
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
UP, LEFT = slice(None, None, -1), slice(None, None, -1)
MASK = np.full((1, SIDE, SIDE), 255, "uint16")
MASK[:, :16, :16] = 0
REFL = (DN / 1e4).astype("float32")
PICTURE = np.random.default_rng(5).integers(0, 256, (3, SIDE, SIDE)).astype("uint8")

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
            "lower case": [name.lower() for name in S2],
            "blanks": [f" {name.replace('_', ' ')} " for name in TERRAMIND],
        }.items()
    },
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
        for said in ("DN", "dn", "counts", "1", "", None, "unitless", "digital numbers", "digital_number", b"DN", ("DN",) * 12, [])
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
    "reflectance for a model of reflectance": (lambda _: embed(scene(REFL, units="reflectance"), REFLECTANCE), lambda: means(REFL)),
    "DN for a model of reflectance": (lambda _: embed(scene(units="DN"), REFLECTANCE), lambda: means(REFL)),
    "percent for a model of reflectance": (lambda _: embed(scene(REFL * 100, units="%"), REFLECTANCE), lambda: means(REFL)),
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
        lambda folder: embed(xr.open_zarr(packed_file(folder, "zarr"), decode_coords="all")["r"]),
        dn_means,
    ),
    "open_zarr, decoded, with a hole": (
        lambda folder: embed(
            xr.open_zarr(packed_file(folder, "zarr", hole(DN.astype("float64"), np.nan)), decode_coords="all")["r"]
        ),
        holed,
    ),
    "HLS: int16, nodata -9999": (
        lambda folder: embed(
            xr_rsembed.open_scene(
                packed_file(folder, "nc", hole(DN.astype("f8"), np.nan), dtype="int16", add_offset=0.0, _FillValue=-9999)
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
    "nodata infinite": (lambda _: embed(scene(hole(DN.astype("f4"), np.inf), _FillValue=np.inf)), holed),
    "nodata that the dtype cannot hold": (lambda _: embed(scene(_FillValue=-9999)), dn_means),
    "nodata other in each band": (
        lambda _: embed(
            scene(np.concatenate([hole(DN)[:6], hole(DN, 9)[6:]]), range(1, 13), nodatavals=(0,) * 6 + (9,) * 6, long_name=S2)
        ),
        holed,
    ),
    "nodata, lazy": (lambda _: embed(scene(hole(DN), _FillValue=0).chunk({"x": 20})), holed),
    # masks
    "mask of a GeoTIFF": (
        lambda folder: embed(xr_rsembed.open_scene(tif(folder, hole(DN, 77), nodata=None, mask=MASK[0].astype("uint8")))),
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
        lambda _: embed(scene(np.full((12, SIDE, SIDE), 990, "uint16"), add_offset=-1000, _FillValue=0, scale_factor=1)),
        lambda: means(np.ones((12, SIDE, SIDE))),
    ),
    "zero reflectance decoded from a file": (
        lambda folder: embed(
            xr.open_zarr(packed_file(folder, "zarr", np.where(np.arange(SIDE) < 16, 0.0, DN.astype("f8"))), decode_coords="all")["r"]
        ),
        lambda: means(np.where(np.arange(SIDE) < 16, 1.0, DN)),
    ),
    # radar
    "dB": (lambda _: embed(DB), lambda: means(DB)),
    "dB, stated": (lambda _: embed(DB.assign_attrs(units="Decibel")), lambda: means(DB)),
    "linear power": (lambda _: embed(LINEAR.assign_attrs(units="linear")), lambda: means(DB)),
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
    # elevation
    **{
        f"heights in {said}": (
            lambda _, said=said, each=each: embed((HEIGHTS.astype("f8") / each).assign_attrs(units=said)),
            lambda: means(HEIGHTS),
        )
        for said, each in {"m": 1, "metres": 1, "ft": 0.3048, "Feet": 0.3048, "US survey foot": 1200 / 3937, "cm": 0.01, "km": 1000}.items()
    },
    "heights in tenths of metres": (
        lambda _: embed(scene((HEIGHTS.values * 10).round().astype("int32"), ("DEM",), units="m", scale_factor=0.1)),
        lambda: means((HEIGHTS.values * 10).round() / 10),
    ),
    "heights without a dim band": (lambda _: embed(HEIGHTS[0].drop_vars("band"), modality="DEM"), lambda: means(HEIGHTS)),
    "heights at sea": (lambda _: embed(HEIGHTS * 0), lambda: means(HEIGHTS * 0)),
    # pictures
    "a picture": (lambda _: embed(scene(PICTURE, ("R", "G", "B"))), lambda: means(PICTURE)),
    "a picture by the names of Sentinel-2": (lambda _: embed(scene(PICTURE, ("B4", "B3", "B2"))), lambda: means(PICTURE)),
    "a picture in floats": (lambda _: embed(scene(PICTURE.astype("f4"), ("R", "G", "B"), units="8-bit")), lambda: means(PICTURE)),
    "a picture, counts": (lambda _: embed(scene(PICTURE, ("red", "green", "blue"), units="counts")), lambda: means(PICTURE)),
    # true scenes
    **{
        f"true: {name}": (lambda _, values=values: embed(scene(values)), lambda values=values: means(values))
        for name, values in {
            "snow": dn(9000, 14000),
            "glint": dn(14000, 19000),
            "deep shadow": dn(1, 60),
            "water at DN 1": np.where(np.random.default_rng(1).random(DN.shape) < 0.9, 1, dn(1, 200)),
            "desert or cloud, all above 1000": dn(1400, 5000),
            "one saturated pixel": np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) == 700, 65535, DN),
            "one hot pixel in shadow": np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) == 700, 9000, dn(1, 60)),
            "all of one value": np.full_like(DN, 1500),
        }.items()
    },
    "true: cloud of a late baseline": (
        lambda _: embed(scene(dn(2500, 9000), **{"s2:processing_baseline": "05.09"})),
        lambda: means(dn(2500, 9000)),
    ),
    "true: four valid pixels": (
        lambda _: embed(scene(np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) < 4, DN, 0), _FillValue=0)),
        lambda: np.where(means(np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) < 4, DN, 0)) == 0, np.nan, means(np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) < 4, DN, 0))),
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
        lambda _: embed(xr.DataArray(DN, dims=("band", "y", "x"), coords={"band": list(S2), "y": np.arange(SIDE), "x": np.arange(SIDE)})),
        dn_means,
    ),
    "transposed": (lambda _: embed(scene().transpose("x", "y", "band")), dn_means),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_right_numbers(case: str, tmp_path: Path) -> None:
    run, expected = RIGHT[case]
    np.testing.assert_allclose(run(tmp_path), expected(), rtol=2e-5, atol=2e-3)


def test_the_tables_are_long() -> None:
    assert len(RIGHT) + len(REFUSED) + len(REMEDIES) >= 180
