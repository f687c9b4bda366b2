"""Pictures: what stands where, in which colour, under which title."""

from __future__ import annotations

import numpy as np
import odc.geo.xr  # noqa: F401  the .odc accessor
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import SceneError
from xr_rsembed.explore import fit_pca, plots


@pytest.fixture
def ax():
    return Figure().subplots()


def embedding(height=12, width=20, step=-160.0, **attrs):
    """Two kinds of land, west and east, and a corner that is not valid."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.01, (6, height, width))
    values[0, :, width // 2 :] += 1
    values[:, :3, :4] = np.nan
    return xr.DataArray(
        values.astype("float32"),
        dims=("D", "y", "x"),
        coords={"y": 5e6 + step * np.arange(height), "x": 6e5 + 160.0 * np.arange(width)},
        attrs={"model_key": "probe", **attrs},
        name="embedding",
    ).odc.assign_crs("EPSG:32632")


@pytest.mark.parametrize("step", [-160.0, 160.0])
def test_rgb_lies_where_the_cells_lie(ax, step):
    emb = embedding(step=step)
    image = plots.plot_rgb(emb, ax).images[0]
    left, right, bottom, top = image.get_extent()
    assert (left, right) == (6e5 - 80, 6e5 + 20 * 160 - 80)
    assert top == emb.y.values[0] - step / 2
    assert bottom == emb.y.values[-1] + step / 2
    pixels = np.asarray(image.get_array())
    assert (pixels[:3, :4, 3] == 0).all(), "what is not valid is clear"
    assert (pixels[3:, :, 3] == 1).all()
    red = pixels[3:, :, 0]
    assert abs(red[:, :10].mean() - red[:, 10:].mean()) > 0.8, "the first component tells the kinds apart"
    assert ax.get_xlabel() == "easting, km (EPSG:32632)"


def test_titles_say_random_weights(ax):
    assert plots.plot_rgb(embedding(weights="random (seed 0)"), ax).get_title() == "probe, random weights"
    assert plots.plot_rgb(embedding(weights="a/b@c/d.pt"), ax).get_title() == "probe"


def test_fewer_than_three_dimensions(ax):
    pixels = np.asarray(plots.plot_rgb(embedding().isel(D=[0, 1]), ax).images[0].get_array())
    assert np.isfinite(pixels).all()


def test_one_map_at_a_time(ax):
    series = xr.concat([embedding(), embedding()], "time")
    with pytest.raises(SceneError, match="isel"):
        plots.plot_rgb(series, ax)
    plots.plot_rgb(series.isel(time=[0]), ax)


def test_similarity_has_a_scale():
    figure = Figure()
    values = embedding().isel(D=0, drop=True)
    ax = plots.plot_similarity(values, figure.subplots(), vmin=-1)
    assert ax.images[0].get_clim() == (-1, pytest.approx(float(values.max())))
    assert len(figure.axes) == 2, "the map and its scale"
    assert np.ma.getmaskarray(ax.images[0].get_array())[:3, :4].all()


@pytest.mark.parametrize(
    ("modality", "title"),
    [
        ("S2L2A", "true colour"),
        ("S2L1C", "true colour"),
        ("S1RTC", "VV, VH"),
        ("DEM", "heights"),
        ("LULC", "land cover"),
    ],
)
def test_scenes_as_one_would_look_at_them(ax, modality, title):
    scene = synthetic_scene((90, 70), modality, nodata_share=0.3)
    plots.plot_scene(scene, ax)
    assert title in ax.get_title()
    pixels = np.asarray(ax.images[0].get_array())
    assert pixels.shape == (90, 70, 4)
    invalid = scene.isel(band=0) == 0 if scene.dtype.kind == "u" else scene.isel(band=0).isnull()
    np.testing.assert_array_equal(pixels[..., 3] == 0, invalid.values)


def test_bands_without_names_are_taken_in_canonical_order(ax):
    scene = synthetic_scene((60, 60))
    named = np.asarray(plots.plot_scene(scene, ax).images[-1].get_array())
    unnamed = np.asarray(plots.plot_scene(scene.assign_coords(band=range(1, 13)), ax).images[-1].get_array())
    np.testing.assert_array_equal(named, unnamed)


def test_a_large_scene_is_thinned_out(ax):
    scene = xr.DataArray(np.zeros((1, 3000, 40), "float32"), dims=("band", "y", "x"))
    assert max(np.asarray(plots.plot_scene(scene, ax).images[0].get_array()).shape) <= 1400


def test_demo_figure_names_what_it_shows():
    emb = embedding(weights="random (seed 0)")
    figure = plots.demo_figure(synthetic_scene((64, 64)), {"one": emb, "two": emb})
    titles = [ax.get_title() for ax in figure.axes]
    assert len(titles) == 3
    assert titles[1] == "probe, random weights\nprincipal components 1 to 3 of D = 6"
    figure.draw_without_rendering()
    (bar,) = [artist for artist in figure.axes[1].artists if isinstance(artist, AnchoredSizeBar)]
    cells = figure.axes[1].images[0].get_window_extent()
    assert bar.get_window_extent().y1 <= cells.y0 + 1, "the scale bar covers no cell"
    for ax in figure.axes:
        title = ax.title.get_window_extent()
        assert title.y1 <= figure.bbox.y1
        assert ax.bbox.x0 - 25 < title.x0 < title.x1 < ax.bbox.x1 + 25, "titles do not run into each other"


def test_the_same_colour_means_the_same_on_another_date(ax):
    emb = embedding()
    other = emb.isel(x=slice(10, None))
    fitted = fit_pca(emb)
    whole = np.asarray(plots.plot_rgb(emb, ax, fitted=fitted).images[-1].get_array())
    part = np.asarray(plots.plot_rgb(other, ax, fitted=fitted).images[-1].get_array())
    np.testing.assert_array_equal(part, whole[:, 10:])
    alone = np.asarray(plots.plot_rgb(other, ax).images[-1].get_array())
    assert not np.array_equal(alone, part)


def test_classes_have_their_own_colours_and_a_legend(ax):
    land = synthetic_scene((90, 70), "LULC")
    classes = land.isel(band=0)
    plots.plot_classes(classes, ax)
    pixels = np.asarray(ax.images[0].get_array())
    colors = dict(zip(land.flag_values.tolist(), land.flag_colors.split(), strict=True))
    for code in np.unique(classes):
        assert {to_hex(color) for color in pixels[classes.values == code]} == {colors[code]}
    shown = [text.get_text().rsplit(" ", 2)[0] for text in ax.get_legend().get_texts()]
    assert set(shown) == {land.flag_meanings.split()[list(colors).index(code)] for code in np.unique(classes)}
    scene = np.asarray(plots.plot_scene(land, ax).images[-1].get_array())
    np.testing.assert_array_equal(scene, pixels)


def test_clusters_and_what_is_no_map_of_classes(ax):
    emb = embedding()
    plots.plot_clusters(emb, ax, k=2)
    pixels = np.asarray(ax.images[0].get_array())
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) == 3, "two clusters, and clear"
    assert (pixels[:3, :4, 3] == 0).all()
    assert len(ax.get_legend().get_texts()) == 2
    with pytest.raises(SceneError, match="plot_similarity"):
        plots.plot_classes(emb.isel(D=0, drop=True), ax)


def test_long_titles_are_broken(ax):
    title = plots.plot_rgb(embedding(), ax, title="a title of many words " * 6).get_title()
    assert max(map(len, title.splitlines())) < 80
