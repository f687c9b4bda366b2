"""Generated images over scenes: placed, blended, labelled; with a cheap generator in TerraMind's place."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
import torch
import xarray as xr

import xr_rsembed
from xr_rsembed.config import set_options
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.engine import devices
from xr_rsembed.engine.context import tile_seed
from xr_rsembed.engine.generate import generate
from xr_rsembed.errors import DeviceError, EncoderError, OptionError
from xr_rsembed.models.terramind import generator
from xr_rsembed.models.terramind.outputs import LULC_CLASSES, OUTPUTS

TINY = "terramind_v1_tiny"
NOISE = 50.0


class Painter:
    """Paints each output from the tile's mean pixel and one number drawn from its seed."""

    def __init__(self, outputs):
        self.outputs = outputs
        self.calls = []

    def __call__(self, inputs, seeds):
        self.calls.append((tuple(inputs), tuple(seeds)))
        base = sum(image.mean(dim=1, keepdim=True) for image in inputs.values())
        level = torch.tensor([drawn(seed) for seed in seeds], dtype=torch.float32)[:, None, None, None]
        images = {}
        for name in self.outputs:
            number = len(OUTPUTS[name].bands)
            image = base + level + torch.arange(number)[:, None, None]
            images[name] = (
                torch.softmax(base * torch.arange(number)[:, None, None], 1) if name == "LULC" else image
            )
        return images


def drawn(seed):
    return NOISE * np.random.default_rng(seed).random()


def refuse(graph, keys, **keywords):
    raise AssertionError("computed while building")


@pytest.fixture
def painters(monkeypatch):
    """The painters that a test used."""
    made = []

    def load(spec, request):
        made.append(Painter([name for name, _ in request.option("tokenizers")]))
        return made[-1]

    monkeypatch.setattr(generator, "load", load)
    devices.clear_encoders()
    yield made
    devices.clear_encoders()


def paint(scene, outputs=("DEM",), **settings):
    return generate(scene, list(outputs), model=TINY, weights="random", **settings)


def plain(scene, overlap, edge="shift", seed=0):
    """DEM as the painter paints it, blended over the whole scene in plain numpy."""
    how = xr_rsembed.models.registry.find_spec(TINY).modalities[0].normalization
    pixels = (
        np.clip(scene.values.astype("float64"), 0, 10000) - np.reshape(how.mean, (-1, 1, 1))
    ) / np.reshape(how.std, (-1, 1, 1))
    base, (height, width) = pixels.mean(0), pixels.shape[1:]
    starts = []
    for n in (height, width):
        full = max(224, -(-n // 16) * 16)
        first = list(range(0, max(full - 224, 0), 224 - overlap))
        starts.append(
            [*first, full - 224 if edge == "shift" else (first[-1] + 224 - overlap if first else 0)]
        )
    most = (max(starts[0]) + 224, max(starts[1]) + 224)
    base = np.pad(base, [(0, most[0] - height), (0, most[1] - width)], mode="edge")
    total, weights = np.zeros(most), np.zeros(most)
    along = np.array([min(1, (min(i, 223 - i) + 0.5) / overlap) if overlap else 1 for i in range(224)])
    x0, y0 = (float(scene[dim][0]) for dim in ("x", "y"))
    origin = round((y0 + 5) / -10), round((x0 - 5) / 10)
    for top in starts[0]:
        for left in starts[1]:
            here = np.s_[top : top + 224, left : left + 224]
            weight = np.outer(along, along)
            level = drawn(tile_seed(seed, origin[0] + top, origin[1] + left))
            total[here] += weight * (base[here] + level)
            weights[here] += weight
    return (total / weights)[:height, :width]


@pytest.mark.parametrize(
    ("size", "overlap", "edge"),
    [
        ((224, 224), 64, "shift"),
        ((500, 333), 64, "shift"),
        ((500, 333), 0, "shift"),
        ((300, 600), 112, "pad"),
        ((40, 250), 208, "shift"),
    ],
)
@pytest.mark.filterwarnings("ignore::xr_rsembed.errors.RsEmbedWarning")
def test_equals_a_plain_blend(painters, size, overlap, edge):
    scene = synthetic_scene(size=size)
    images = paint(scene.compute(), overlap=overlap, edge=edge, seed=3)
    assert images.DEM.dims == ("y", "x")
    np.testing.assert_allclose(images.DEM, plain(scene, overlap, edge, seed=3), atol=1e-3)


def test_the_same_whatever_the_chunks_and_blocks(painters):
    scene = synthetic_scene(size=(700, 900), nodata_share=0.1)
    results = []
    for chunks, block_tiles in ((-1, 8), (97, 1), ((300, 900), 2)):
        cut = (
            dict(zip(("y", "x"), chunks, strict=True))
            if isinstance(chunks, tuple)
            else {"y": chunks, "x": chunks}
        )
        with set_options(block_tiles=block_tiles):
            results.append(paint(scene.chunk(cut), ("DEM", "LULC")).compute())
    for other in results[1:]:
        xr.testing.assert_identical(results[0], other)


def test_no_seam_shows(painters):
    """Neighbouring tiles differ by up to 50 m; no two neighbouring pixels by more than a share of the overlap."""
    flat = synthetic_scene(size=(224, 700)).compute()
    flat[:] = 1000
    blended, bare = (paint(flat, overlap=overlap).DEM for overlap in (64, 0))
    steps = [float(abs(image.diff("x")).max()) for image in (blended, bare)]
    assert steps[0] <= NOISE * 2 / 64
    assert steps[1] > 3 * steps[0]


def test_noise_belongs_to_the_place(painters):
    scene = synthetic_scene(size=(224, 704)).compute()
    whole, part = paint(scene), paint(scene.isel(x=slice(160, None)))
    # Beyond the first overlap no tile of the whole scene is missing in the part.
    xr.testing.assert_allclose(whole.DEM[:, 224:], part.DEM[:, 64:])
    other = paint(scene, seed=1)
    assert float(abs(other.DEM - whole.DEM).max()) > 1


def test_building_is_lazy_and_a_window_costs_its_block(painters):
    scene = synthetic_scene(size=(20_000, 30_000), chunks=512)
    with dask.config.set(scheduler=refuse), set_options(block_tiles=2):
        images = paint(scene, ("S2L2A", "DEM"))
    assert not painters
    assert {*images.DEM.chunks[0][:-1], *images.DEM.chunks[1][:-1]} == {2 * 160}
    assert max(images.DEM.chunks[0][-1], images.DEM.chunks[1][-1]) <= 2 * 160
    images.S2L2A[:, :100, :100].compute()
    assert sum(len(painter.calls) for painter in painters) <= 16


def test_labels(painters):
    scene = synthetic_scene(size=(230, 240), time=["2022-06-01", "2022-07-01"])
    images = paint(
        scene, ["S1GRD", "LULC", "DEM", "NDVI", "S2L2A"], probabilities=True, timesteps=4
    ).compute()
    assert images.S2L2A.dims == ("time", "S2L2A_band", "y", "x")
    assert images.S1GRD_band.values.tolist() == ["VV", "VH"]
    assert images.NDVI.dims == ("time", "y", "x")
    assert images.rio.crs == scene.rio.crs
    for name in ("y", "x", "time"):
        xr.testing.assert_equal(images[name].drop_vars("spatial_ref"), scene[name].drop_vars("spatial_ref"))
    units = {name: images[name].attrs["units"] for name in ("S1GRD", "DEM", "NDVI", "S2L2A")}
    assert units == {"S1GRD": "dB", "DEM": "m", "NDVI": "1", "S2L2A": "DN"}
    assert all("Not an observation" in variable.attrs["comment"] for variable in images.data_vars.values())
    assert images.DEM.attrs["standard_name"] == "surface_altitude"
    lulc = images.LULC
    assert lulc.dtype == "uint8"
    assert len(lulc.attrs["flag_values"]) == len(lulc.attrs["flag_meanings"].split()) == 10
    chance = images.LULC_probability
    assert chance.LULC_class.values.tolist() == list(LULC_CLASSES)
    np.testing.assert_allclose(chance.sum("LULC_class"), 1, rtol=1e-5)
    np.testing.assert_array_equal(lulc, chance.argmax("LULC_class"))
    assert (images.attrs["timesteps"], images.attrs["seed"], images.attrs["weights"]) == (
        4,
        0,
        "random (seed 0)",
    )


def test_files_keep_it(painters, tmp_path):
    with set_options(block_tiles=1):
        images = paint(synthetic_scene(size=(240, 640)), ["S1GRD", "LULC"])
    images.to_netcdf(tmp_path / "images.nc")
    images.to_zarr(tmp_path / "images.zarr")
    images = images.compute()
    with xr.open_dataset(tmp_path / "images.nc", mask_and_scale=False, decode_coords="all") as again:
        xr.testing.assert_equal(again.load(), images)
        assert again.LULC.attrs["flag_meanings"] == " ".join(LULC_CLASSES)
    np.testing.assert_array_equal(
        xr.open_zarr(tmp_path / "images.zarr", mask_and_scale=False).LULC, images.LULC
    )


def test_generated_scenes_can_be_embedded(painters):
    images = paint(synthetic_scene(size=(224, 240)).compute(), ["S1GRD", "DEM"])
    images["S1GRD"] -= 80
    both = xr_rsembed.embed(images, TINY, weights="random")
    assert both.attrs["modality"] == ["S1GRD", "DEM"]
    assert both.shape == (192, 14, 15)


def test_pixels_without_data(painters):
    scene = synthetic_scene(size=(224, 700)).astype("float32").compute()
    scene[:, :50, :30] = np.nan
    scene[3, 100, 100] = np.nan
    scene[:, :, 260:] = np.nan
    images = paint(scene, ("DEM", "LULC"))
    valid = scene.notnull().all("band").values
    np.testing.assert_array_equal(images.DEM.notnull(), valid)
    np.testing.assert_array_equal(images.LULC != 255, valid)
    places = {seed for painter in painters for _, seeds in painter.calls for seed in seeds}
    assert len(places) == 2, "a tile without a valid pixel reached the model"


def test_several_inputs_and_one_that_is_missing(painters):
    s2 = synthetic_scene(size=(224, 460)).compute()
    s1 = synthetic_scene(size=(224, 460), modality="S1GRD").compute()
    s1[:, :, :300] = np.nan
    images = paint({"S2L2A": s2, "S1GRD": s1}, overlap=0)
    assert images.attrs["modality"] == ["S2L2A", "S1GRD"]
    assert [given for given, _ in painters[0].calls] == [("S2L2A",), ("S2L2A", "S1GRD"), ("S2L2A", "S1GRD")]
    assert bool(images.DEM.notnull().all())


@pytest.mark.parametrize("broken", [lambda image: image[..., :5], lambda image: image * torch.nan])
def test_broken_generators_are_named_with_their_place(painters, monkeypatch, broken):
    former = Painter.__call__
    monkeypatch.setattr(
        Painter, "__call__", lambda *args: {name: broken(image) for name, image in former(*args).items()}
    )
    with pytest.raises(EncoderError, match=r"no image of DEM(.|\n)*window: +y 0:224"):
        paint(synthetic_scene(size=(224, 224)).compute())


def test_memory_that_runs_out_is_named_with_its_place(painters, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory (made up)")

    monkeypatch.setattr(Painter, "__call__", full)
    with pytest.raises(
        DeviceError, match=r"one tile through terramind_v1_tiny_generate(.|\n)*window: +y 0:224"
    ):
        paint(synthetic_scene(size=(224, 224)).compute())


@pytest.mark.parametrize(
    "settings", [{"overlap": 50}, {"overlap": 224}, {"edge": "mirror"}, {"seed": 1.5}, {"timesteps": 0}]
)
def test_settings_that_cannot_be_used(settings):
    with pytest.raises(OptionError):
        paint(synthetic_scene(size=(224, 224)), **settings)


@pytest.mark.slow
def test_terramind_itself():
    scene = synthetic_scene(size=(224, 300), chunks=100)
    images = generate(scene, ["LULC"], model=TINY, weights="random", timesteps=1, probabilities=True)
    once = images.compute()
    with set_options(block_tiles=1):
        again = generate(
            scene.compute(), ["LULC"], model=TINY, weights="random", timesteps=1, probabilities=True
        )
    xr.testing.assert_identical(once, again)
    assert len(np.unique(once.LULC)) > 1
