"""The engine against a plain-numpy reference: any size, chunking, overlap, blend, edge and validity."""

from __future__ import annotations

import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401  the .rio accessor
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xr_rsembed
from tests import fakes, reference, strategies
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import RsEmbedWarning

pytestmark = pytest.mark.usefixtures("probe")
many = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def raise_if_dask_computes(dsk, keys, **kwargs):
    raise AssertionError("something computed while the graph was being built")


def scene_of(pixels: np.ndarray, chunks=None, **attrs) -> xr.DataArray:
    """Pixels on a 10 m UTM grid."""
    height, width = pixels.shape[-2:]
    scene = xr.DataArray(
        pixels,
        dims=("time", "band", "y", "x")[-pixels.ndim :],
        coords={
            "band": list(fakes.S2),
            "y": 5_000_000 - 10.0 * np.arange(height) - 5,
            "x": 500_000 + 10.0 * np.arange(width) + 5,
        },
        attrs={"units": "DN", **attrs},
    )
    scene = scene.rio.write_crs("EPSG:32632")
    return scene if chunks is None else scene.chunk(chunks)


def random_pixels(height: int, width: int, seed: int, nodata_share: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(200, 9000, size=(12, height, width), dtype="uint16")
    if nodata_share:
        coarse = rng.random((-(-height // 40), -(-width // 40))) < nodata_share
        pixels[:, np.kron(coarse, np.ones((40, 40), dtype=bool))[:height, :width]] = 0
    return pixels


def embed(scene, **options) -> xr.DataArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RsEmbedWarning)
        return xr_rsembed.embed(scene, "probe", weights="random", device="cpu", **options)


def expected(pixels, **options):
    return reference.embed(pixels, lambda x: np.clip(x / 1000, 0, 10), fakes.encode, **options)


@many
@given(
    data=st.data(),
    height=strategies.sizes,
    width=strategies.sizes,
    overlap=strategies.overlaps,
    blend=strategies.blends,
    edge=strategies.edges,
    nodata_share=st.sampled_from([0.0, 0.3]),
    block_tiles=st.sampled_from([1, 2, 8]),
)
def test_lazy_result_equals_the_reference(
    data, height, width, overlap, blend, edge, nodata_share, block_tiles
):
    pixels = random_pixels(height, width, height * 1000 + width, nodata_share)
    chunks = {
        "y": data.draw(strategies.chunks(height)),
        "x": data.draw(strategies.chunks(width)),
        "band": data.draw(st.sampled_from([12, 5, 1])),
    }
    scene = scene_of(pixels, chunks, nodata=0)
    with xr_rsembed.set_options(block_tiles=block_tiles):
        lazy = embed(scene, overlap=overlap, blend=blend, edge=edge, batch_size=3)
    assert lazy.chunks is not None
    np.testing.assert_allclose(
        lazy.compute(scheduler="synchronous").values,
        expected(pixels, overlap=overlap, blend=blend, edge=edge, nodata=0),
        rtol=1e-5,
        atol=1e-5,
    )


@many
@given(data=st.data(), height=strategies.sizes, width=strategies.sizes, overlap=strategies.overlaps)
def test_two_chunkings_give_the_same_numbers(data, height, width, overlap):
    pixels = random_pixels(height, width, seed=7)
    results = []
    for _ in range(2):
        chunks = {"y": data.draw(strategies.chunks(height)), "x": data.draw(strategies.chunks(width))}
        results.append(embed(scene_of(pixels, chunks), overlap=overlap).compute(scheduler="synchronous"))
    xr.testing.assert_identical(*results)


def test_numpy_in_numpy_out_and_equal_to_lazy():
    pixels = random_pixels(500, 300, seed=1)
    eager, lazy = embed(scene_of(pixels)), embed(scene_of(pixels, {"y": 130, "x": 90}))
    assert eager.chunks is None
    xr.testing.assert_identical(eager, lazy.compute())


def test_building_computes_nothing():
    scene = synthetic_scene((3000, 2500), chunks=1000)
    with dask.config.set(scheduler=raise_if_dask_computes):
        for options in ({}, {"output": "pooled"}, {"output": "tiles"}, {"overlap": 64, "blend": "mean"}):
            lazy = embed(scene, **options)
            assert isinstance(lazy.data, da.Array)
        embed(scene, input_prep="resize")


@pytest.mark.parametrize("min_valid", [0.0, 0.3, 0.5, 1.0])
def test_min_valid_raises_the_bar(min_valid):
    pixels = random_pixels(260, 400, seed=2, nodata_share=0.4)
    result = embed(scene_of(pixels, {"y": 100}, nodata=0), min_valid=min_valid)
    reference_result = expected(pixels, nodata=0, min_valid=min_valid)
    np.testing.assert_allclose(result.values, reference_result, rtol=1e-5, atol=1e-5)
    assert np.isnan(reference_result).any()


def test_a_block_without_valid_pixels_never_touches_the_model():
    pixels = np.zeros((12, 448, 448), dtype="uint16")
    fakes.clear()
    result = embed(scene_of(pixels, {}, nodata=0))
    assert np.isnan(result.values).all()
    assert fakes.forwards == []
    pixels[:, 300:, 300:] = 500
    result = embed(scene_of(pixels, {}, nodata=0)).compute()
    assert fakes.forwards == [1], "three of the four tiles hold nothing"
    assert np.isfinite(result.values[:, 19:, 19:]).all()
    assert np.isnan(result.values[:, :18]).all()


def test_float_scenes_take_nan_as_invalid():
    pixels = random_pixels(224, 224, seed=3).astype("float32")
    pixels[4, :16, :32] = np.nan
    result = embed(scene_of(pixels, {})).values
    assert np.isnan(result[:, 0, :2]).all()
    np.testing.assert_allclose(result, expected(pixels), rtol=1e-5, atol=1e-5)


def test_leading_dims_pass_through():
    pixels = np.stack([random_pixels(300, 250, seed) for seed in range(3)])
    scene = scene_of(pixels, {"time": 2, "y": 111}).assign_coords(
        time=np.array(["2024-01-01", "2024-02-01", "2024-03-01"], dtype="M8[ns]"),
        cloud=("time", [1.0, 2.0, 3.0]),
    )
    result = embed(scene).compute()
    assert result.dims == ("time", "D", "y", "x")
    assert list(result.coords["cloud"].values) == [1.0, 2.0, 3.0]
    for index, one in enumerate(pixels):
        np.testing.assert_allclose(result[index], expected(one), rtol=1e-5, atol=1e-5)


def test_a_list_of_layers_is_one_forward():
    pixels = random_pixels(224, 448, seed=5)
    fakes.clear()
    result = embed(scene_of(pixels, {}), layer=[0, 2, -1], batch_size=8).compute()
    assert fakes.forwards == [2]
    assert result.dims == ("layer", "D", "y", "x")
    assert list(result.layer.values) == [0, 2, -1]
    for position, layer in enumerate([0, 2, 3]):
        reference_result = reference.embed(
            pixels, lambda x: np.clip(x / 1000, 0, 10), lambda tile, at=layer: fakes.encode(tile, at)
        )
        np.testing.assert_allclose(result[position], reference_result, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooled_is_the_mean_of_tiles_weighted_by_their_own_valid_pixels(pooling):
    pixels = random_pixels(500, 300, seed=6, nodata_share=0.3)
    scene = scene_of(pixels, {"y": 128, "x": 77}, nodata=0)
    vector = embed(scene, output="pooled", pooling=pooling)
    tiles = embed(scene, output="tiles", pooling=pooling).compute()
    assert vector.dims == ("D",)
    assert tiles.dims == ("D", "tile_y", "tile_x")
    valid = (pixels != 0).all(axis=0)
    (ys, tall), (xs, wide) = (reference.tile_starts(n, 0, "shift") for n in (500, 300))
    padded = np.pad(valid, ((0, tall - 500), (0, wide - 300)))
    model_input = np.where(valid, np.clip(pixels / np.float32(1000), 0, 10), 0).astype("float32")
    model_input = np.pad(model_input, ((0, 0), (0, tall - 500), (0, wide - 300)), mode="edge")
    owner_y = [reference.nearest(row, ys) for row in range(-(-500 // 16))]
    owner_x = [reference.nearest(column, xs) for column in range(-(-300 // 16))]
    total, weight = np.zeros(fakes.EMBED_DIM), 0.0
    for i, y in enumerate(ys):
        for j, x in enumerate(xs):
            grid = fakes.encode(model_input[:, y : y + 224, x : x + 224])
            usable = padded[y : y + 224, x : x + 224].reshape(14, 16, 14, 16).any(axis=(1, 3))
            values = grid[:, usable].mean(axis=1) if pooling == "mean" else grid[:, usable].max(axis=1)
            np.testing.assert_allclose(tiles[:, i, j], values, rtol=1e-5, atol=1e-5)
            own = sum(
                int(padded[r * 16 : r * 16 + 16, c * 16 : c * 16 + 16].sum())
                for r, at_y in enumerate(owner_y)
                for c, at_x in enumerate(owner_x)
                if (at_y, at_x) == (y, x)
            )
            total += own * values
            weight += own
    np.testing.assert_allclose(vector.compute(), total / weight, rtol=1e-5)


def test_tiles_are_georeferenced_by_their_centres():
    scene = scene_of(random_pixels(500, 300, seed=8), {})
    tiles = embed(scene, output="tiles")
    starts, _ = reference.tile_starts(500, 0, "shift")
    np.testing.assert_allclose(tiles.tile_y, 5_000_000 - 10.0 * (np.array(starts) + 112))
    assert tiles.rio.crs.to_epsg() == 32632


def test_resize_gives_one_tile_over_the_scene():
    import torch

    pixels = random_pixels(300, 500, seed=9)
    result = embed(scene_of(pixels, {"y": 100}), input_prep="resize").compute()
    assert result.shape == (fakes.EMBED_DIM, 14, 14)
    small = torch.nn.functional.interpolate(
        torch.from_numpy(pixels.astype("float32") / 1000)[None],
        size=(224, 224),
        mode="bilinear",
        align_corners=False,
    )[0].numpy()
    np.testing.assert_allclose(result.values, fakes.encode(small), rtol=1e-4, atol=1e-4)
    bounds = result.rio.bounds()
    np.testing.assert_allclose(bounds, (500_000, 5_000_000 - 3000, 505_000, 5_000_000))


def test_same_numbers_under_both_local_schedulers_and_any_batch_size():
    scene = scene_of(random_pixels(700, 600, seed=10), {"y": 200, "x": 333})
    first = embed(scene, overlap=64).compute(scheduler="synchronous")
    for batch_size in (1, 5, "auto"):
        xr.testing.assert_allclose(
            first, embed(scene, overlap=64, batch_size=batch_size).compute(scheduler="threads"), rtol=1e-5
        )


def test_one_load_and_one_forward_at_a_time_when_threads_race():
    from xr_rsembed.engine import devices

    devices.clear_encoders()
    fakes.clear()
    before = fakes.loads
    scene = scene_of(random_pixels(672, 896, seed=11), {"y": 224, "x": 224})
    with xr_rsembed.set_options(block_tiles=1):
        embed(scene).compute(scheduler="threads", num_workers=8)
    assert fakes.loads == before + 1
    assert fakes.most_running == 1
    assert sum(fakes.forwards) == 12


def test_out_dtype():
    scene = scene_of(random_pixels(224, 224, seed=12), {})
    assert embed(scene, out_dtype="float16").compute().dtype == np.float16
    assert embed(scene).dtype == embed(scene).compute().dtype == np.float32


def test_a_word_of_numpy_is_a_word():
    assert (
        xr_rsembed.embed(
            scene_of(random_pixels(224, 224, seed=1)),
            "probe",
            weights="random",
            device="cpu",
            blend=np.str_("mean"),
        ).attrs["blend"]
        == "mean"
    )
