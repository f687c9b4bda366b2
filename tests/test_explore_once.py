"""No work twice: every verb on a lazy embedding runs the model once over each tile."""

from __future__ import annotations

import warnings

import geopandas
import numpy as np
import pytest
import shapely
import xarray as xr
from matplotlib.figure import Figure

from tests import fakes
from tests.test_engine import random_pixels, scene_of
from xr_rsembed.errors import RsEmbedWarning
from xr_rsembed.explore import once

TILES = 16 * 16  # 256 x 256 cells: four blocks, and more cells than a sample takes


@pytest.fixture(scope="module")
def scene():
    """Noise, and east of the middle much brighter noise: two kinds of land."""
    pixels = scene_of(random_pixels(3584, 3584, seed=1)).load()
    return (
        (pixels // 4 + 4000 * (pixels.x > pixels.x.mean())).astype(pixels.dtype).chunk({"y": 1792, "x": 1792})
    )


@pytest.fixture
def emb(scene, probe):
    once._seen.clear()
    lazy = scene.rsembed.embed("probe", weights="random", device="cpu")
    fakes.clear()
    return lazy


def place(emb, row, column):
    return float(emb.x[column]), float(emb.y[row])


def labels(emb):
    cells = [(10, 10), (10, 200), (200, 20), (220, 210), (100, 40), (60, 180)]
    return geopandas.GeoDataFrame(
        {"class": ["west" if column < 112 else "east" for _, column in cells], "height": range(6)},
        geometry=[shapely.Point(*place(emb, *cell)) for cell in cells],
        crs=emb.odc.crs.proj,
    )


VERBS = {
    "pca": lambda emb: emb.rsembed.pca(3).compute(),
    "cluster": lambda emb: emb.rsembed.cluster(3).compute(),
    "classify": lambda emb: emb.rsembed.classify(labels(emb)).compute(),
    "regress": lambda emb: emb.rsembed.regress(labels(emb), "height").compute(),
    "nearest": lambda emb: emb.rsembed.nearest(place(emb, 3, 4), k=5),
    "similarity": lambda emb: emb.rsembed.similarity(place(emb, 3, 4)).compute(),
    "plot_rgb": lambda emb: emb.rsembed.plot_rgb(Figure().subplots()),
    "plot_clusters": lambda emb: emb.rsembed.plot_clusters(Figure().subplots(), k=3),
    "explore": lambda emb: emb.rsembed.explore(),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_runs_the_model_once(emb, verb):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RsEmbedWarning)
        VERBS[verb](emb)
    assert sum(fakes.forwards) == TILES


def test_change_runs_it_once_for_each(scene, emb):
    other = (scene + 1).rsembed.embed("probe", weights="random", device="cpu")
    fakes.clear()
    emb.rsembed.change(other).compute()
    assert sum(fakes.forwards) == 2 * TILES


def test_a_small_fit_runs_the_blocks_under_it_alone(emb):
    near = labels(emb).iloc[[0, 4]].assign(**{"class": ["a", "b"]})
    emb.rsembed.classify(near, cross_validate=False)
    assert sum(fakes.forwards) == 8 * 8, "one block of 8 x 8 tiles holds both labels"


def test_the_numbers_are_those_of_an_embedding_in_memory(emb):
    in_memory = emb.compute()
    xr.testing.assert_equal(emb.rsembed.cluster(3).compute(), in_memory.rsembed.cluster(3))
    xr.testing.assert_allclose(emb.rsembed.pca(2).compute(), in_memory.rsembed.pca(2))
    found = emb.rsembed.classify(labels(emb))
    xr.testing.assert_equal(found.compute(), in_memory.rsembed.classify(labels(emb)))
    assert found["class"].chunks is not None


def test_a_second_run_says_so_once_with_the_line_that_stores(emb):
    emb.rsembed.plot_rgb(Figure().subplots())
    with pytest.warns(RsEmbedWarning, match=r"emb = emb\.rsembed\.to_zarr") as said:
        emb.rsembed.plot_rgb(Figure().subplots())
    (ours,) = [one for one in said if one.category is RsEmbedWarning]
    assert ours.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", RsEmbedWarning)
        emb.rsembed.plot_rgb(Figure().subplots())


def test_what_is_stored_or_in_memory_says_nothing(emb, tmp_path):
    emb.drop_attrs().to_dataset(name="embedding").to_zarr(tmp_path / "e.zarr")
    stored = xr.open_zarr(tmp_path / "e.zarr").embedding
    with warnings.catch_warnings():
        warnings.simplefilter("error", RsEmbedWarning)
        for _ in range(2):
            stored.rsembed.pca(2).compute()
            stored.compute().rsembed.pca(2)
    assert np.isfinite(stored).all()
