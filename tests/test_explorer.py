"""The explorer: its answers, and the page in a real browser."""

from __future__ import annotations

import io
import shutil
import socket
import time
import tracemalloc

import cloudpickle
import dask
import geopandas
import numpy as np
import odc.geo.xr  # noqa: F401  (registers .odc)
import pytest
import shapely
import xarray as xr

from tests import fakes
from tests.test_engine import random_pixels, scene_of
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import LabelError, SceneError
from xr_rsembed.explore import classify, fit_pca, pca
from xr_rsembed.explore.app import explore, serve
from xr_rsembed.explore.canvas import Canvas
from xr_rsembed.explore.explorer import Explorer, Vectors


@pytest.fixture
def embedding():
    """Three kinds of land in vertical stripes, and a corner that is not valid."""
    rng = np.random.default_rng(0)
    kinds = np.eye(3, 8)
    values = kinds[np.repeat([0, 1, 2], 10)][None].repeat(20, axis=0) + rng.normal(0, 0.03, (20, 30, 8))
    values[:4, :5] = np.nan
    return xr.DataArray(
        values.transpose(2, 0, 1).astype("float32"),
        dims=("D", "y", "x"),
        coords={"y": 5_199_940 - 160.0 * np.arange(20), "x": 600_080 + 160.0 * np.arange(30)},
        attrs={"model_key": "probe", "weights": "random (seed 0)"},
        name="embedding",
    ).odc.assign_crs("EPSG:32632")


@pytest.fixture
def state(embedding):
    return Explorer(Vectors(embedding))


def place(embedding, row, column):
    return float(embedding.x[column]), float(embedding.y[row])


def label(state, embedding, name, row, column):
    state.draw(name, shapely.Point(*place(embedding, row, column)))


def test_places_are_found_on_the_grid(state, embedding):
    assert state.locate(*place(embedding, 7, 12)) == (7, 12)
    assert state.locate(*place(embedding, 0, 0)) is None, "not valid"
    assert state.locate(0.0, 0.0) is None


def test_a_click_shows_the_cells_alike(state, embedding):
    state.find_like(*place(embedding, 10, 15))
    assert state.view == "Similar"
    state.threshold = 0.9
    picture, legend = state.picture()
    assert legend[-1][2] == "200 of 580 cells"
    shown = picture[..., 3] > 0
    assert shown[:, 10:20].all()
    assert shown.sum() == 200
    state.find_like(*place(embedding, 0, 0))
    assert state.note == "No valid cell there."


def test_pictures_are_those_of_the_library(state, embedding):
    picture, _ = state.picture()
    fitted = fit_pca(embedding)
    colors = fitted.colors(np.moveaxis(pca(embedding, fitted=fitted).values, 0, -1))
    np.testing.assert_allclose(picture, colors * 255, atol=1)
    state.view, state.k = "Clusters", 3
    picture, legend = state.picture()
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) == 4, "three clusters, and clear"
    assert [name for _, name, _ in legend] == ["cluster 0", "cluster 1", "cluster 2"]
    assert (picture[:4, :5, 3] == 0).all()


def test_labels_make_the_map_that_classify_makes(state, embedding):
    for name, column in (("water", 2), ("forest", 15)):
        label(state, embedding, name, 12, column)
    x, y = place(embedding, 12, 25)
    state.draw("town", shapely.box(x - 300, y - 300, x + 300, y + 300))
    picture, legend = state.picture()
    assert legend == [
        (state.labels.colors["water"], "water", "1 labels, 180 cells"),
        (state.labels.colors["forest"], "forest", "1 labels, 200 cells"),
        (state.labels.colors["town"], "town", "1 labels, 200 cells"),
    ]
    saved = geopandas.read_file(io.StringIO(state.labels.to_geojson()))
    assert saved.crs.to_epsg() == 4326
    assert saved.geometry[0].y == pytest.approx(46.9, abs=0.1), "degrees"
    found = classify(embedding, saved, cross_validate=False)["class"]
    assert found.flag_colors.split() == [state.labels.colors[name] for name in found.flag_meanings.split()]
    names = np.array(found.flag_meanings.split())[found.values]
    for name in names[found.values >= 0]:
        assert name in state.labels.colors
    for name, color in state.labels.colors.items():
        drawn = (picture[..., :3] == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1)
        np.testing.assert_array_equal(drawn & (found.values >= 0), (names == name) & (found.values >= 0))


def test_labels_are_taken_back_and_read_again(state, embedding):
    label(state, embedding, "water", 12, 2)
    state.labels.color("water", "#123456")
    label(state, embedding, "town", 12, 25)
    saved = state.labels.to_geojson().encode()
    assert state.labels.undo() == "town"
    assert state.labels.counts() == {"water": 1, "town": 0}
    other = Explorer(state.vectors)
    assert other.labels.read(saved) == 2
    assert other.labels.colors["water"] == "#123456"
    assert other.labels.drawn[1][1].distance(shapely.Point(*place(embedding, 12, 25))) < 0.01
    with pytest.raises(LabelError, match="no file of labels"):
        other.labels.read(b"hello")
    other.draw("x", shapely.Point(0, 0))
    assert "lies on the embedding" in other.note


def test_a_view_that_cannot_be_made_says_why(state, embedding):
    state.view, state.k = "Clusters", 1000
    picture, legend = state.picture()
    assert not picture.any()
    assert legend == [("#ffffff", "The cells cannot form 1000 clusters.", "")]
    lone = Explorer(Vectors(embedding.isel(y=[10], x=[10])))
    picture, legend = lone.picture()
    assert not picture.any()
    assert "principal components" in legend[0][1]
    for column, name in enumerate(("water", "town")):
        label(state, embedding, name, 0, column)  # where no cell is valid
    picture, legend = state.picture()
    assert not picture.any()
    assert [row[1:] for row in legend[:2]] == [("water", "1 labels"), ("town", "1 labels")]
    assert legend[2] == ("#ffffff", "No label lies on a valid cell.", "")
    assert explore(embedding, clusters=25) is not None


def test_dates_share_colours_and_labels(embedding):
    days = np.array(["2022-06-01", "2022-07-01"], "M8[ns]")
    series = xr.concat(
        [embedding, embedding.isel(x=slice(None, None, -1)).assign_coords(x=embedding.x)], "time"
    )
    state = Explorer(Vectors(series.assign_coords(time=days)))
    first, _ = state.picture()
    state.date = 1
    second, _ = state.picture()
    np.testing.assert_array_equal(second[10], first[10, ::-1])


@pytest.mark.parametrize("step", [-160.0, 160.0])
def test_pictures_lie_where_the_cells_lie(embedding, step):
    flipped = embedding if step < 0 else embedding.isel(y=slice(None, None, -1))
    state = Explorer(Vectors(flipped))
    for crs in (True, False):
        if not crs:
            state = Explorer(Vectors(flipped.drop_vars("spatial_ref")))
        canvas = Canvas(state.vectors.geobox)
        image = canvas.warp(state.picture()[0])
        x, y = canvas.from_grid(*place(embedding, 2, 2))  # in the corner that is not valid
        height, width = image.shape
        row = int((y - canvas.bottom) / (canvas.top - canvas.bottom) * height)
        column = int((x - canvas.left) / (canvas.right - canvas.left) * width)
        assert image[row, column] == 0
        assert image[height // 2, width // 2] != 0


def test_what_is_no_grid_is_refused_before_anything_is_served(embedding):
    for wrong in (embedding.isel(x=0), embedding.to_dataset(), synthetic_scene((32, 32)), "emb.zarr"):
        with pytest.raises(SceneError):
            serve(wrong, show=False)
    with pytest.raises(SceneError, match="no valid cell"):
        Vectors(embedding * np.nan)
    bands = embedding.isel(D=slice(3)).assign_attrs(long_name=["B4", "B3", "B2"])
    with pytest.raises(SceneError, match="this is a scene"):  # as a GeoTIFF of one opens
        Vectors(bands)
    layers = xr.concat([embedding, embedding], xr.Variable("layer", [0, 5]))
    with pytest.raises(SceneError, match=r"emb\.isel\(layer=0\)"):
        Vectors(layers)
    with pytest.raises(SceneError, match=r"one of its groups, such as \['terramind'\]"):
        Vectors(xr.DataTree.from_dict({"terramind": embedding.to_dataset()}))


def test_a_lazy_embedding_is_computed_once_for_all_pages(probe):
    lazy = scene_of(random_pixels(500, 600, seed=1), {"y": 100}).rsembed.embed("probe", weights="random")
    fakes.clear()
    vectors = Vectors(lazy)
    for _ in range(2):
        Explorer(vectors).picture()
    assert sum(fakes.forwards) == 3 * 3


def test_blocks_that_other_processes_compute_arrive(embedding):
    def elsewhere(graph, keys, **_):
        return dask.get(*cloudpickle.loads(cloudpickle.dumps((graph, keys))))

    with dask.config.set(scheduler=elsewhere):
        found = Vectors(embedding.chunk({"y": 7}))
    xr.testing.assert_identical(found.emb, embedding)


@pytest.mark.parametrize("chunks", [None, {"y": 112, "x": 112}])
def test_memory_is_that_of_the_embedding(chunks):
    lazy = xr.DataArray(
        np.random.default_rng(0).standard_normal((384, 500, 500), dtype="float32"), dims=("D", "y", "x")
    )
    size = lazy.nbytes
    lazy = lazy if chunks is None else lazy.chunk(chunks)
    Explorer(Vectors(lazy.isel(y=slice(8), x=slice(8)))).picture()  # imports are no part of it
    tracemalloc.start()
    state = Explorer(Vectors(lazy))
    for state.view in ("PCA", "Clusters"):
        state.picture()
    state.find_like(5, 5)
    state.picture()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = 0 if chunks is None else size  # one in memory already is used as it is
    assert peak - held < 0.3 * size


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium with chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


def until(check, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError("the page did not get there in time")


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


MODEL = "Bokeh.documents[0].get_model_by_name('{}')"
READY = f"return !!(window.Bokeh && Bokeh.documents.length && {MODEL.format('map')}?.inner_height > 100)"
SCALES = f"""
const map = {MODEL.format("map")}, [x, y] = [map.x_range, map.y_range]
return [map.inner_width / (x.end - x.start), map.inner_height / (y.end - y.start)]
"""
PIXELS = f"return Array.from({MODEL.format('cells')}.data.image[0]).join()"
MARKS = f"return Array.from({MODEL.format('marks')}.data.x).length"
FIND = """
const all = Array.from(Bokeh.documents[0]._all_models.values())
const m = all.find(m => ['label', 'title', 'name'].some(k => m[k] === arguments[0]))
"""


def test_the_page_from_end_to_end(embedding, browser, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = serve(embedding, synthetic_scene((320, 480)), port=port, show=False, threaded=True)
    script = browser.execute_script

    def see(name):
        browser.save_screenshot(str(tmp_path / f"{name}.png"))

    def put(label, attribute, value):
        """Set a widget as its user would."""
        script(f"{FIND}; m.{attribute} = arguments[1]", label, value)

    def press(text):
        next(one for one in deep(browser, "button") if one.text == text).click()

    def click(across, down):
        ActionChains(browser).move_by_offset(across, down).click().perform()
        ActionChains(browser).move_by_offset(-across, -down).perform()

    def changed(act, *args):
        before = script(PIXELS)
        act(*args)
        until(lambda: script(PIXELS) != before)

    try:
        until(lambda: answers(port))
        browser.get(f"http://127.0.0.1:{port}/")
        until(lambda: script(READY))
        see("pca")
        across, down = script(SCALES)
        assert across == pytest.approx(down, rel=0.02), "cells are square"
        changed(click, 450, 450)
        assert script(MARKS) == 1
        assert "lon 10." in script(f"return {MODEL.format('pointer')}.text"), "degrees under the pointer"
        see("similar")
        changed(put, "Show cosines from", "value", 0.9)
        changed(press, "Clusters")
        changed(put, "Number of clusters", "value", 3)
        see("clusters")
        changed(press, "Labels")
        for name, across in (("water", 200), ("forest", 450)):
            put("Class of the next label", "value", name)
            click(across, 400)
        until(lambda: script(MARKS) == 2)
        see("labels")
        put("Scene side by side", "active", True)
        put("Opacity of the map", "value", 0.5)
        until(lambda: script(f"return {MODEL.format('side')}.inner_width > 100"))
        assert script(f"return {MODEL.format('map')}.inner_width") < 500, "beside each other"
        see("side")
        changed(press, "Similar")
        shown = script(f"{FIND}; return m.value", "Show cosines from")
        assert shown == pytest.approx(0.9), "each view keeps its own settings"
        press("Labels")
        until(lambda: script(MARKS) == 2)
        press("Undo")
        until(lambda: script(MARKS) == 1)
        browser.set_window_size(390, 800)
        time.sleep(1.5)
        see("phone")
        width = script("return document.documentElement.scrollWidth")
        assert width <= script("return window.innerWidth"), "nothing sticks out on a phone"
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert errors == []
    finally:
        server.stop()


def deep(browser, tag):
    """Elements of a tag, in Bokeh's shadow roots too."""
    return browser.execute_script(
        """
        const found = [], walk = root => { for (const e of root.querySelectorAll('*')) {
            if (e.localName === arguments[0]) found.push(e)
            if (e.shadowRoot) walk(e.shadowRoot) } }
        walk(document); return found
        """,
        tag,
    )


def test_a_notebook_cell_shows_it(embedding):
    assert "FlexBox" in type(explore(embedding)).__name__
