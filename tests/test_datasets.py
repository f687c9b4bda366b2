"""The made scenes: the same whatever the chunks, lazy at any size, and labelled like a real one."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import rioxarray  # noqa: F401  the .rio accessor

from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import OptionError

MODALITIES = ["S2L2A", "S2L1C", "S1GRD", "S1RTC", "DEM", "LULC"]


@pytest.mark.parametrize("modality", MODALITIES)
def test_chunks_and_windows_do_not_change_a_pixel(modality):
    options = {"modality": modality, "seed": 3, "clouds": 0.4, "nodata_share": 0.2}
    whole = synthetic_scene((200, 330), chunks=None, **options)
    for chunks in ((97, 200), 2048):
        np.testing.assert_array_equal(
            synthetic_scene((200, 330), chunks=chunks, **options).values, whole.values
        )
    window = synthetic_scene((200, 330), chunks=128, **options)[:, 150:190, 101:300:3]
    np.testing.assert_array_equal(window.values, whole[:, 150:190, 101:300:3].values)


def test_a_larger_scene_holds_the_smaller_one():
    small = synthetic_scene((64, 64), chunks=None)
    large = synthetic_scene((400, 300), chunks=100)[:, :64, :64]
    np.testing.assert_array_equal(large.values, small.values)
    np.testing.assert_array_equal(large.x.values, small.x.values)


def test_any_size_builds_at_once_with_one_task_a_chunk():
    edges = ((99_900, 100), (99_900, 100))
    scene = synthetic_scene((100_000, 100_000), chunks=edges)
    assert scene.sizes == {"band": 12, "y": 100_000, "x": 100_000}
    corner = scene[3, -2:, -2:]
    (graph,) = dask.optimize(corner.data)
    assert len(dict(graph.__dask_graph__())) <= 2
    assert corner.values.min() > 0


@pytest.mark.parametrize("modality", MODALITIES)
def test_labels_are_those_of_a_real_scene(modality):
    scene = synthetic_scene((40, 30), modality)
    assert scene.rio.crs.to_epsg() == 32632
    assert scene.odc.geobox.resolution.x == 10
    assert scene.rio.transform()[2] == scene.x.values[0] - 5
    assert scene.attrs["modality"] == modality
    nodata = scene.rio.nodata
    assert np.isnan(nodata) if scene.dtype.kind == "f" else nodata == 0
    expected = {"S2L2A": 12, "S2L1C": 13, "S1GRD": 2, "S1RTC": 2, "DEM": 1, "LULC": 1}
    assert scene.sizes["band"] == expected[modality]


def test_every_modality_shows_the_same_land():
    classes = synthetic_scene((512, 512), "LULC", chunks=None, seed=2)[0].values
    optical = synthetic_scene((512, 512), chunks=None, seed=2).sel(band="B8").values
    radar = synthetic_scene((512, 512), "S1RTC", chunks=None, seed=2).sel(band="VV").values
    water, crops, built = (classes == code for code in (1, 5, 7))
    assert min(water.sum(), crops.sum(), built.sum()) > 100
    assert np.median(optical[water]) < 700 < np.median(optical[crops])
    assert np.median(radar[water]) < -15 < np.median(radar[crops])
    assert np.percentile(radar[built], 99) > np.percentile(radar[crops], 99), (
        "houses, not the roads between them"
    )


def test_lulc_says_what_its_values_mean():
    scene = synthetic_scene((256, 256), "LULC", chunks=None)
    assert set(np.unique(scene)) <= set(scene.attrs["flag_values"])
    assert len(scene.attrs["flag_meanings"].split()) == len(scene.attrs["flag_values"])


def test_plants_have_a_red_edge_and_water_none():
    classes = synthetic_scene((512, 512), "LULC", chunks=None, seed=2)[0].values
    scene = synthetic_scene((512, 512), chunks=None, seed=2).astype(float)
    ndvi = (scene.sel(band="B8") - scene.sel(band="B4")) / (scene.sel(band="B8") + scene.sel(band="B4"))
    assert np.median(ndvi.values[classes == 2]) > 0.6
    assert np.median(ndvi.values[classes == 1]) < 0
    assert np.median(scene.sel(band="B11").values[classes == 1]) < 300


def test_seasons_differ_and_dates_label_them():
    scene = synthetic_scene((128, 128), time=["2023-01-20", "2023-05-01"], chunks=64)
    assert scene.dims == ("time", "band", "y", "x")
    assert scene.time.values[1] == np.datetime64("2023-05-01")
    january, may = scene.astype(float).sel(band="B8").mean(["y", "x"]).values
    assert may > 1.2 * january
    alone = synthetic_scene((128, 128), time=["2023-05-01"], chunks=None)
    np.testing.assert_array_equal(scene.isel(time=1), alone.isel(time=0))


def test_speckle_differs_between_dates_of_one_land():
    scene = synthetic_scene((64, 64), "S1RTC", time=["2023-06-01", "2023-06-13"], chunks=None)
    assert abs(float((scene[0] - scene[1]).mean())) < 0.5
    assert float((scene[0] - scene[1]).std()) > 0.5


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize(("modality", "missing"), [("S2L2A", lambda a: a == 0), ("DEM", np.isnan)])
def test_nodata_takes_the_share_asked_for(share, modality, missing):
    scene = synthetic_scene((200, 300), modality, nodata_share=share, chunks=None)
    assert missing(scene.values[0]).mean() == pytest.approx(share, abs=0.01)
    full = synthetic_scene((200, 300), modality, chunks=None)
    assert not missing(full.values).any()


def test_clouds_brighten_their_share_and_darken_their_shadows():
    clear = synthetic_scene((1024, 1024), chunks=None, seed=5).sel(band="B2").astype(float)
    cloudy = synthetic_scene((1024, 1024), chunks=None, seed=5, clouds=0.4).sel(band="B2").astype(float)
    assert 0.15 < float((cloudy > clear + 500).mean()) < 0.65
    assert float((cloudy < 0.8 * clear).mean()) > 0.01


def test_linear_radar_is_the_power_behind_the_decibels():
    decibels = synthetic_scene((64, 64), "S1GRD", chunks=None)
    power = synthetic_scene((64, 64), "S1GRD", chunks=None, units="linear")
    assert (decibels.attrs["units"], power.attrs["units"]) == ("dB", "linear")
    np.testing.assert_allclose(10 * np.log10(power), decibels, atol=1e-3)


def test_any_crs_or_none():
    assert synthetic_scene((8, 8), crs="EPSG:32733").rio.crs.to_epsg() == 32733
    degrees = synthetic_scene((8, 8), crs="EPSG:4326")
    assert degrees.dims == ("band", "y", "x")
    assert degrees.rio.crs.is_geographic
    assert synthetic_scene((8, 8), crs=None).rio.crs is None


@pytest.mark.parametrize(
    "options",
    [
        {"size": (0, 5)},
        {"size": 5},
        {"modality": "S3"},
        {"nodata_share": 1.5},
        {"clouds": -1},
        {"units": "dB"},
        {"time": []},
        {"time": ["yesterday"]},
    ],
)
def test_bad_options_say_what_is_expected(options):
    with pytest.raises(OptionError, match="expected"):
        synthetic_scene(**options)
