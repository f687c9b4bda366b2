"""The bad-input table: one row a case, each with our own error, the built-in it also is, and the words it must hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rioxarray  # noqa: F401  the .rio accessor
import shapely
import xarray as xr

import xr_rsembed
from tests import fakes
from tests.test_engine import random_pixels, scene_of
from xr_rsembed import OutputSpec, PointBuffer, SensorSpec, TemporalSpec, api, errors, fetch
from xr_rsembed.cli import options as cli_options
from xr_rsembed.config import set_options
from xr_rsembed.models import registry
from xr_rsembed.scenes import open_scene
from xr_rsembed.store.export import open_file, save

pytestmark = pytest.mark.usefixtures("probe")


def s2(height: int = 240, width: int = 240, **attrs: Any) -> xr.DataArray:
    return scene_of(random_pixels(height, width, seed=1), **attrs)


def s1(values: float = -12.0, **attrs: Any) -> xr.DataArray:
    scene = s2().isel(band=slice(0, 2)).assign_coords(band=["VV", "VH"])
    scene = xr.full_like(scene, values, dtype="float32")
    scene.attrs = attrs
    return scene


def embed(scene: xr.DataArray, model: str = "probe", **options: Any) -> xr.DataArray:
    return xr_rsembed.embed(scene, model, **{"weights": "random", "device": "cpu", **options}).compute()


def lazy(scene: xr.DataArray) -> xr.DataArray:
    return scene.chunk({"y": 100})


def tiny(scene: xr.DataArray, **options: Any) -> xr.DataArray:
    return embed(scene, "terramind_v1_tiny", **options)


def with_band_names(*names: str) -> xr.DataArray:
    return s2().isel(band=slice(0, len(names))).assign_coords(band=list(names))


def swapped() -> xr.DataArray:
    return s2().isel(band=[1, 0, *range(2, 12)])


def put(scene: xr.DataArray, value: float, where: tuple[int, int] = (5, 7)) -> xr.DataArray:
    scene = scene.astype("float32")
    scene[:, where[0], where[1]] = value
    return scene


def renamed_dim(old: str, new: str) -> xr.DataArray:
    return s2().rename({old: new})


def broken_encoder(make: Callable[[Any], Any]) -> Callable[[Path], Any]:
    """A model whose encoder gives what ``make`` says, as a row."""

    def run(folder: Path) -> Any:
        from dataclasses import replace

        from xr_rsembed.engine import devices
        from xr_rsembed.models import registry
        from xr_rsembed.models.spec import ModelFamily

        def load(spec: Any, request: Any) -> Any:
            return lambda inputs, layers, options: make(next(iter(inputs.values())))

        registry.register(
            ModelFamily("broken", (replace(fakes.SPEC, key="broken", family="broken", load=load),))
        )
        devices.clear_encoders()
        return embed(s2(), "broken")

    return run


def tokens(shape: tuple[int, ...], value: float = 0.0, dtype: str = "float32") -> Callable[[Any], Any]:
    def make(tiles: Any) -> Any:
        import torch

        from xr_rsembed.models.spec import Tokens

        return Tokens(torch.full((len(tiles), *shape), value, dtype=getattr(torch, dtype)))

    return make


def weights_file(content: bytes) -> Callable[[Path], Any]:
    def run(folder: Path) -> Any:
        file = folder / "weights.pt"
        file.write_bytes(content)
        return tiny(s2(), weights=file)

    return run


def state_file(change: Callable[[dict[str, Any]], Any], model: str = "terrafm_b") -> Callable[[Path], Any]:
    def run(folder: Path) -> Any:
        import torch

        file = folder / "weights.pt"
        torch.save(change({}), file)
        return embed(s2(), model, weights=file)

    return run


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code ran",))


def written(folder: Path, suffix: str = ".zarr") -> Path:
    path = folder / f"emb{suffix}"
    save(embed(s2()), path)
    return path


BOX = (9.0, 45.0, 9.02, 45.01)

Row = tuple[Callable[[Path], Any], type[Exception], type[Exception], tuple[str, ...]]
E, V, R, F = errors, ValueError, RuntimeError, FileNotFoundError
Scene, Band, Unit, Grid, Option = E.SceneError, E.BandOrderError, E.UnitsError, E.GridError, E.OptionError

TABLE: dict[str, Row] = {
    # arrays
    "no y": (lambda _: embed(renamed_dim("y", "lat")), Scene, V, ("lat", "rename")),
    "no x": (lambda _: embed(renamed_dim("x", "longitude")), Scene, V, ("longitude", "rename")),
    "no band": (lambda _: embed(renamed_dim("band", "channel")), Scene, V, ('rename({"channel": "band"})',)),
    "no band, no likely name": (lambda _: embed(s2()[0]), Scene, V, ("no dim band", "expand_dims")),
    "complex": (lambda _: embed(s2().astype("complex64")), Scene, V, ("complex64", "abs(da) ** 2")),
    "strings": (lambda _: embed(s2().astype(str)), Scene, V, ("<U", "real numbers")),
    "bool": (lambda _: embed(s2().astype(bool)), Scene, V, ("bool", "astype")),
    "empty y": (lambda _: embed(s2()[:, :0]), Scene, V, ("y of length 0", "at least one pixel")),
    "empty time": (
        lambda _: embed(s2().expand_dims(time=3)[:0]),
        Scene,
        V,
        ("time of length 0", "at least one pixel"),
    ),
    "inf": (lambda _: embed(put(s2(), np.inf)), Scene, V, ("inf", "window:   y 0:240")),
    "inf, lazy": (lambda _: embed(lazy(put(s2(), -np.inf))), Scene, V, ("inf", "window:")),
    # bands
    "eleven bands": (lambda _: embed(with_band_names(*fakes.S2[:11])), Band, V, ("B12", "missing")),
    "thirteen bands of twelve": (
        lambda _: embed(xr.concat([s2(), s2()[:1].assign_coords(band=["B10"])], "band")),
        Band,
        V,
        ("B10", "13", 'to_bands("probe")'),
    ),
    "doubled": (
        lambda _: embed(with_band_names(*fakes.S2[:11], "B1")),
        Band,
        V,
        ("doubled: B1", "missing: B12"),
    ),
    "misordered": (lambda _: embed(swapped()), Band, V, ("B2 B1", "B1 B2", 'da.rsembed.to_bands("probe")')),
    "unknown": (lambda _: embed(with_band_names(*fakes.S2[:11], "banana")), Band, V, ("banana", "B12")),
    "nearly known": (lambda _: embed(with_band_names(*fakes.S2[:11], "swirr22")), Band, V, ("did you mean B12",)),
    "five bands without names": (
        lambda _: embed(s2()[:5].drop_vars("band")),
        Band,
        V,
        ("5 bands", "S2L2A: B1 B2", "assign_coords"),
    ),
    "to_bands cannot invent": (
        lambda _: api.to_bands(with_band_names(*fakes.S2[:11]), "probe"),
        Band,
        V,
        ("missing: B12",),
    ),
    # units
    "reflectance": (
        lambda _: embed((s2() / 10000).assign_attrs(units="")),
        Unit,
        V,
        ("reflectance", "DN", "da * 10000"),
    ),
    "reflectance, lazy": (
        lambda _: embed(lazy((s2() / 10000).assign_attrs(units=""))),
        Unit,
        V,
        ("reflectance", "DN", "window:"),
    ),
    "dB for TerraFM": (lambda _: embed(s1(-12, units="dB"), "terrafm"), Unit, V, ("dB", "linear", "10 ** (da / 10)")),
    "dB for TerraFM, unsaid": (lambda _: embed(s1(-12), "terrafm"), Unit, V, ("dB", "linear", "10 ** (da / 10)")),
    "linear for TerraMind, unsaid": (
        lambda _: tiny(s1(0.2), modality="S1GRD"),
        Unit,
        V,
        ("linear", "dB", 'units="linear"'),
    ),
    "integer radar": (
        lambda _: tiny(s1().astype("int16"), modality="S1GRD"),
        Unit,
        V,
        ("int16", "convert to floats"),
    ),
    "unknown units": (lambda _: embed(s2(), units="kelvin"), Unit, V, ("'kelvin'", "'DN'")),
    # grids
    "irregular": (
        lambda _: embed(s2().assign_coords(x=np.r_[np.arange(120), np.arange(500, 620)] * 10.0)),
        Grid,
        V,
        ("regular",),
    ),
    "coords with NaN": (
        lambda _: embed(s2().assign_coords(y=np.r_[np.nan, np.arange(239) * -10.0])),
        Grid,
        V,
        ("y",),
    ),
    # modalities
    "unknown modality": (lambda _: embed(s2(), modality="S3"), E.UnknownModelError, V, ("'S3'", "S2L2A")),
    "radar of unsaid kind": (lambda _: tiny(s1(-12)), Scene, V, ("S1GRD or S1RTC", 'modality="S1GRD"')),
    # options
    "output": (lambda _: embed(s2(), output="gird"), Option, V, ("'gird'", "output='grid'")),
    "pooling": (lambda _: embed(s2(), pooling="sum"), Option, V, ("'sum'", "'mean' or 'max'")),
    "input_prep": (lambda _: embed(s2(), input_prep="crop"), Option, V, ("'crop'", "'tile' or 'resize'")),
    "blend": (lambda _: embed(s2(), blend="centre"), Option, V, ("'centre'", "blend='center'")),
    "edge": (lambda _: embed(s2(), edge="wrap"), Option, V, ("'wrap'", "'shift' or 'pad'")),
    "normalize": (lambda _: embed(s2(), normalize="minmax"), Option, V, ("'minmax'", "'none'")),
    "overlap odd": (lambda _: embed(s2(), overlap=50), Option, V, ("overlap=50", "multiple of 16", "overlap=48")),
    "overlap too large": (lambda _: embed(s2(), overlap=224), Option, V, ("overlap=224", "0 to 208", "overlap=208")),
    "overlap negative": (lambda _: embed(s2(), overlap=-16), Option, V, ("overlap=-16", "overlap=0")),
    "overlap a float": (lambda _: embed(s2(), overlap=0.5), Option, V, ("0.5", "an int")),
    "layer out of range": (lambda _: embed(s2(), layer=4), Option, V, ("layer=4", "-4 to 3")),
    "layer not a number": (lambda _: embed(s2(), layer="last"), Option, V, ("'last'", "-1")),
    "no layers": (lambda _: embed(s2(), layer=[]), Option, V, ("[]", "[2, 5, 8, 11]")),
    "a layer twice": (lambda _: embed(s2(), layer=[1, 1]), Option, V, ("[1, 1]",)),
    "min_valid": (lambda _: embed(s2(), min_valid=50), Option, V, ("50", "0.0 to 1.0")),
    "batch_size 0": (lambda _: embed(s2(), batch_size=0), Option, V, ("0", "an int from 1")),
    "batch_size a word": (lambda _: embed(s2(), batch_size="big"), Option, V, ("'big'", "'auto'")),
    "out_dtype": (lambda _: embed(s2(), out_dtype="int7"), Option, V, ("int7", "float32")),
    "out_dtype an integer": (lambda _: embed(s2(), out_dtype="int16"), Option, V, ("int16", "float32")),
    "resized tiles": (
        lambda _: embed(s2(), input_prep="resize", output="tiles"),
        Option,
        V,
        ("resize", 'output="pooled"'),
    ),
    "precision": (lambda _: embed(s2(), precision="int8"), Option, V, ("'int8'", "'bfloat16'")),
    "unknown keyword": (lambda _: embed(s2(), overlaps=16), Option, V, ("overlaps", "did you mean overlap=")),
    "product": (lambda _: embed(s2(), "terrafm", product="L3"), Option, V, ("'L3'", "'L1C' or 'L2A'")),
    "s1_scale": (lambda _: embed(s1(0.1, units="linear"), "terrafm", s1_scale=-1), Option, V, ("-1", "positive")),
    "set_options name": (lambda _: set_options(blok_tiles=4), Option, V, ("blok_tiles", "'block_tiles'")),
    "set_options value": (lambda _: set_options(block_tiles=0), Option, V, ("0", "at least 1")),
    # devices
    "no such device": (lambda _: embed(s2(), device="tpu"), E.DeviceError, R, ("tpu", "cuda")),
    # models
    "unknown model": (lambda _: embed(s2(), "teramind"), E.UnknownModelError, V, ("teramind", "'terramind'")),
    "unknown key": (
        lambda _: embed(s2(), "terramind_v1_smal"),
        E.UnknownModelError,
        V,
        ("did you mean 'terramind_v1_small'",),
    ),
    "describe": (lambda _: registry.describe_model("nope"), E.UnknownModelError, V, ("nope",)),
    "encoder of another shape": (
        broken_encoder(tokens((5, 13, 13))),
        E.EncoderError,
        R,
        ("(4, 5, 13, 13)", "(4, 5, 14, 14)", "window:"),
    ),
    "encoder of integers": (
        broken_encoder(tokens((5, 14, 14), dtype="int32")),
        E.EncoderError,
        R,
        ("torch.int32", "floats"),
    ),
    "encoder that gives NaN": (
        broken_encoder(tokens((5, 14, 14), np.nan)),
        E.EncoderError,
        R,
        ("not finite", "window:"),
    ),
    "encoder that fails": (
        broken_encoder(lambda tiles: tiles.nonsense),
        E.BlockError,
        R,
        ("AttributeError", "nonsense", "window:"),
    ),
    # weights
    "no such file": (lambda folder: tiny(s2(), weights=folder / "none.pt"), E.WeightsNotFoundError, F, ("none.pt",)),
    "a folder": (lambda folder: tiny(s2(), weights=folder), E.WeightsNotFoundError, F, ("a folder",)),
    "not a path": (lambda _: tiny(s2(), weights=7), Option, V, ("7", '"pretrained"')),
    "no checkpoint": (weights_file(b"not weights at all"), E.WeightsError, R, ("weights.pt",)),
    "empty file": (weights_file(b""), E.WeightsError, R, ("weights.pt",)),
    "a pickle with code": (state_file(lambda state: {"a": Evil()}), E.WeightsError, R, ("weights.pt",)),
    "weights without any key": (state_file(lambda state: {}), E.WeightsError, R, ("holds no weights",)),
    # stores and files
    "store exists": (
        lambda folder: save(embed(s2()), written(folder)),
        E.StoreExistsError,
        FileExistsError,
        ("emb.zarr", "overwrite=True"),
    ),
    "netcdf exists": (
        lambda folder: save(embed(s2()), written(folder, ".nc")),
        E.StoreExistsError,
        FileExistsError,
        ("emb.nc", "overwrite=True"),
    ),
    "unknown suffix": (lambda folder: save(embed(s2()), folder / "emb.xyz"), Option, V, (".xyz", ".zarr")),
    "resume a netcdf": (
        lambda folder: save(embed(s2()), folder / "emb.nc", resume=True),
        Option,
        V,
        ("resume", ".zarr"),
    ),
    "no such scene": (lambda folder: open_scene(folder / "none.tif"), Scene, V, ("none.tif", "check the path")),
    "no scene": (
        lambda folder: (folder / "text.tif").write_text("hello") and open_scene(folder / "text.tif"),
        Scene,
        V,
        ("text.tif", "GeoTIFF"),
    ),
    "no embedding": (lambda folder: open_file(folder / "none.zarr"), E.StoreError, OSError, ("none.zarr",)),
    # places, times and sensors
    "no place": (lambda _: fetch("stac", time="2022"), Option, V, ("0 of spatial=", "bbox=")),
    "two places": (lambda _: fetch("stac", BOX, bbox=BOX, time="2022"), Option, V, ("2 of spatial=",)),
    "a place of no kind": (lambda _: fetch("stac", 7, time="2022"), Grid, V, ("int", "GeoDataFrame")),
    "a box without area": (lambda _: fetch("stac", bbox=(9, 45, 9, 45), time="2022"), Grid, V, ("45",)),
    "a box beyond the pole": (lambda _: fetch("stac", bbox=(9, 45, 10, 95), time="2022"), Grid, V, ("95", "90")),
    "a box across zones": (
        lambda _: fetch("stac", bbox=(-20, 45, 40, 46), time="2022"),
        Grid,
        V,
        ("too wide", "split it"),
    ),
    "metres for degrees": (
        lambda _: fetch("stac", shapely.box(6e5, 5e6, 7e5, 5.1e6), time="2022"),
        Grid,
        V,
        ("degrees", "GeoDataFrame"),
    ),
    "an empty geometry": (lambda _: fetch("stac", shapely.Point(), time="2022"), Grid, V, ("empty",)),
    "geometries without CRS": (
        lambda _: fetch("stac", geopandas.GeoSeries([shapely.box(9, 45, 9.1, 45.1)]), time="2022"),
        Grid,
        V,
        ("CRS", "set_crs"),
    ),
    "like without a grid": (lambda _: fetch("stac", like=3, time="2022"), Grid, V, ("like=", "GeoBox")),
    "like without a CRS": (
        lambda _: fetch("stac", like=s2().drop_vars("spatial_ref"), time="2022"),
        Grid,
        V,
        ("no CRS", "write_crs"),
    ),
    "like south up": (
        lambda _: fetch("stac", like=s2().isel(y=slice(None, None, -1)), time="2022"),
        Grid,
        V,
        ("flipped", "sortby"),
    ),
    "a point off the globe": (lambda _: PointBuffer(200, 45, 100), Grid, V, ("200", "180")),
    "no buffer": (lambda _: PointBuffer(9, 45, 0), Grid, V, ("buffer_m", "0")),
    "no date": (lambda _: fetch("stac", bbox=BOX, time="summer"), Option, V, ("'summer'", "ISO 8601")),
    "time the wrong way": (
        lambda _: fetch("stac", bbox=BOX, time="2022-09-01/2022-06-01"),
        Option,
        V,
        ("2022-09-01",),
    ),
    "no such provider": (lambda _: fetch("stack", bbox=BOX, time="2022"), Option, V, ("'stack'", "stac")),
    "no such catalogue": (
        lambda _: fetch("stac", bbox=BOX, time="2022", catalog="earth-serch"),
        E.CatalogError,
        R,
        ("earth-serch", "earth-search"),
    ),
    "no such composite": (lambda _: SensorSpec(composite="best"), Option, V, ("'best'", "median")),
    "a field of rs-embed": (
        lambda _: SensorSpec(check_input=True),  # type: ignore[call-arg]
        Option,
        V,
        ("check_input", "inspect_provider_patch"),
    ),
    "bands twice": (lambda _: SensorSpec(bands=("B2", "B2")), Option, V, ("B2",)),
    "bands in one word": (lambda _: SensorSpec(bands="B4"), Option, V, ("'B4'", "list")),  # type: ignore[arg-type]
    "a year in words": (lambda _: TemporalSpec.year("2022"), Option, V, ("'2022'", "such as 2022")),  # type: ignore[arg-type]
    "no scale": (lambda _: SensorSpec(scale_m=0), Option, V, ("scale_m", "0")),
    "a scale in words": (lambda _: SensorSpec(scale_m="10"), Option, V, ("scale_m", "'10'", "a number")),  # type: ignore[arg-type]
    "clouds in words": (lambda _: SensorSpec(cloudy_pct="few"), Option, V, ("cloudy_pct", "'few'", "0 to 100")),  # type: ignore[arg-type]
    "no number": (lambda _: PointBuffer(9, float("nan"), 100), Grid, V, ("lat", "nan")),
    "clouds beyond all": (lambda _: SensorSpec(cloudy_pct=120), Option, V, ("120", "0 to 100")),
    "no such output spec": (lambda _: OutputSpec("vector"), Option, V, ("'vector'", "'pooled' or 'grid'")),
    "a pooled grid": (lambda _: OutputSpec("grid", "max"), Option, V, ("'max'",)),
    "units of optics": (lambda _: fetch("stac", bbox=BOX, time="2022", units="dB"), Option, V, ("S2L2A", "linear")),
    # the command line
    "an option that is no pair": (lambda _: cli_options.pairs(["product"]), Option, V, ("product", "name=value")),
    # reproduce
    "reproduce without attrs": (
        lambda _: xr_rsembed.reproduce(xr.DataArray(np.zeros(3)), s2()),
        Option,
        V,
        ("model_key", "embed()"),
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", TABLE)
def test_row(case: str, tmp_path: Path) -> None:
    run, error, built_in, words = TABLE[case]
    with pytest.raises(error) as caught:
        run(tmp_path)
    assert isinstance(caught.value, errors.RsEmbedError)
    assert isinstance(caught.value, built_in), type(caught.value).__mro__
    message = str(caught.value)
    for word in words:
        assert word in message, message


def test_the_table_is_long() -> None:
    assert len(TABLE) >= 60
