"""Dates, places and resolution for encoders that take more than pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from pyproj import Transformer

import xr_rsembed
from tests import reference
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.engine import context
from xr_rsembed.errors import GridError, OptionError, SceneError
from xr_rsembed.models.spec import Modality
from xr_rsembed.normalize import Normalization

DATES = np.array(
    ["2021-03-01", "2022-12-31T10:30", "2024-02-29", "2019-06-15", "2020-01-01"], "datetime64[s]"
)
pytestmark = pytest.mark.filterwarnings("ignore::xr_rsembed.errors.RsEmbedWarning")


class Told:
    """Gives what it was told, in every cell."""

    modalities = Modality("red", ("B4",), "", Normalization("none"))
    embed_dim = 4
    needs: tuple[str, ...] = ("time", "place", "resolution")

    def __call__(self, inputs, layers, options, context):
        number = len(inputs["red"])
        assert len(context.time) == len(context.latitude) == len(context.longitude) == number
        days = (context.time - np.datetime64("2019-01-01")) / np.timedelta64(1, "D")
        told = np.stack(
            [days, context.latitude, context.longitude, np.full(number, context.resolution)], axis=1
        )
        return torch.from_numpy(told).float()[:, :, None, None].expand(-1, -1, 14, 14)


def scene_of(height, width):
    return synthetic_scene(size=(height, width)).sel(band=["B4"])


def centres(scene, overlap=0):
    """Latitude and longitude of each cell's tile, worked out by hand."""
    told = []
    for dim in ("y", "x"):
        starts, _ = reference.tile_starts(scene.sizes[dim], overlap, "shift")
        middles = np.array(starts) + 112
        cells = 16 * np.arange(-(-scene.sizes[dim] // 16)) + 8
        nearest = middles[[int(np.argmin(abs(cell - middles))) for cell in cells]]
        step = float(scene[dim][1] - scene[dim][0])
        told.append(float(scene[dim][0]) - step / 2 + step * nearest)
    x, y = np.meshgrid(told[1], told[0])
    longitude, latitude = Transformer.from_crs(scene.rio.crs, "EPSG:4326", always_xy=True).transform(x, y)
    return latitude, longitude


def test_batches_share_one_transformer():
    context._to_degrees.cache_clear()
    xr_rsembed.embed(
        scene_of(500, 700).load().assign_coords(time=DATES[0]), Told(), batch_size=1, device="cpu"
    )
    assert context._to_degrees.cache_info().misses == 1


@pytest.mark.parametrize("block_tiles", [1, 2, 8])
@pytest.mark.parametrize("overlap", [0, 32])
def test_each_tile_has_its_own_place_and_date(block_tiles, overlap):
    scene = scene_of(500, 700)
    series = scene.expand_dims(time=DATES).copy()
    with xr_rsembed.set_options(block_tiles=block_tiles):
        emb = xr_rsembed.embed(series.chunk(time=2, y=300), Told(), overlap=overlap).compute()
    latitude, longitude = centres(scene, overlap)
    for number, date in enumerate(DATES):
        days = (date - np.datetime64("2019-01-01")) / np.timedelta64(1, "D")
        np.testing.assert_allclose(emb[number, 0], days, rtol=1e-6)
        np.testing.assert_allclose(emb[number, 1], latitude, atol=1e-5)
        np.testing.assert_allclose(emb[number, 2], longitude, atol=1e-5)
    np.testing.assert_allclose(emb[:, 3], 10.0)


def test_a_scene_upside_down_lies_where_it_lay():
    scene = scene_of(300, 500).assign_coords(time=DATES[0])
    right = xr_rsembed.embed(scene, Told()).compute()
    flipped = xr_rsembed.embed(scene.isel(y=slice(None, None, -1)), Told()).compute()
    np.testing.assert_allclose(flipped.isel(y=slice(None, None, -1)), right)


def test_a_resized_scene_is_one_tile_of_coarser_pixels():
    scene = scene_of(448, 448).assign_coords(time=DATES[0])
    emb = xr_rsembed.embed(scene, Told(), input_prep="resize", output="pooled").compute()
    np.testing.assert_allclose(emb[3], 20.0)
    latitude, _ = centres(scene.isel(y=slice(112, 336), x=slice(112, 336)))
    np.testing.assert_allclose(emb[1], latitude[0, 0], atol=1e-5)


def test_a_date_for_each_chip():
    scene = scene_of(224, 224)
    chips = xr.concat([scene] * 5, "chip").assign_coords(time=("chip", DATES))
    emb = xr_rsembed.embed(chips, Told(), output="pooled").compute()
    assert len(np.unique(emb[:, 0])) == 5


def test_what_is_needed_and_missing_is_named_and_the_remedy_works():
    da = scene_of(224, 224).drop_vars("time", errors="ignore")
    da.attrs |= {"time_start": "2022-06-01T00:00:00+00:00", "time_end": "2022-07-01T00:00:00+00:00"}
    with pytest.raises(SceneError, match="takes the date") as error:
        xr_rsembed.embed(da, Told())
    remedy = str(error.value).partition("remedy:")[2].strip()
    assert "2022-06-16" in remedy
    xr_rsembed.embed(eval(remedy, {"da": da, "np": np}), Told())
    bare = da.drop_vars("spatial_ref").assign_coords(time=DATES[0])
    with pytest.raises(GridError, match="place and resolution"):
        xr_rsembed.embed(bare, Told())
    with pytest.raises(SceneError, match="takes the date"):
        xr_rsembed.embed(da.assign_coords(time="noon"), Told())


def test_only_what_is_needed_is_asked_for():
    class Timed(Told):
        needs = ("time",)
        embed_dim = 1

        def __call__(self, inputs, layers, options, context):
            assert np.isnan([*context.latitude, *context.longitude, context.resolution]).all()
            return torch.zeros(len(context.time), 1, 14, 14)

    xr_rsembed.embed(scene_of(224, 224).drop_vars("spatial_ref").assign_coords(time=DATES[0]), Timed())

    class Odd(Told):
        needs = ("weather",)

    with pytest.raises(OptionError, match="no scene says"):
        xr_rsembed.embed(scene_of(224, 224), Odd())
