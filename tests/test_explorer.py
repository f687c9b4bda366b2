"""The explorer: its answers, and the page in a real browser."""

from __future__ import annotations

import json
import shutil
import socket
import time

import numpy as np
import pytest
import xarray as xr

from xr_rsembed.errors import SceneError
from xr_rsembed.explore.app import serve
from xr_rsembed.explore.explorer import Explorer, read_cells


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
        coords={"y": 5_000_000 - 160.0 * np.arange(20), "x": 600_000 + 160.0 * np.arange(30)},
        attrs={"model_key": "probe", "weights": "random (seed 0)"},
        name="embedding",
    )


def place(embedding, row, column):
    return float(embedding.x[column]), float(embedding.y[row])


def test_cells_leave_out_what_is_not_valid(embedding):
    cells = read_cells(embedding.chunk({"y": 7}))
    assert len(cells.units) == 600 - 20
    np.testing.assert_allclose(np.linalg.norm(cells.units, axis=1), 1, rtol=1e-5)
    assert cells.at(*place(embedding, 0, 0)) is None
    assert cells.at(0.0, 0.0) is None
    at = cells.at(*place(embedding, 7, 12))
    expected = embedding[:, 7, 12] / np.linalg.norm(embedding[:, 7, 12])
    np.testing.assert_allclose(cells.units[at], expected, rtol=1e-5)


def test_a_click_shows_the_cells_alike(embedding):
    state = Explorer(embedding)
    said = state.click("Similar", *place(embedding, 10, 15))
    assert "200 of 580 cells" in said
    bright = state.colours("Similar").sum(axis=1)
    columns = state.cells.where % 30
    assert bright[(columns >= 10) & (columns < 20)].min() > bright[(columns < 10) | (columns >= 20)].max()
    assert state.click("Similar", *place(embedding, 0, 0)) == "No valid cell there."


def test_labels_make_a_map(embedding):
    state = Explorer(embedding)
    for name, column in (("water", 2), ("forest", 15), ("town", 25)):
        state.click("Labels", *place(embedding, 12, column), name)
    classes = state.cells.classes(state.labels)
    np.testing.assert_array_equal(classes, state.cells.where % 30 // 10)
    saved = json.loads(state.geojson())["features"]
    assert [one["properties"]["class"] for one in saved] == ["water", "forest", "town"]
    assert saved[1]["geometry"]["coordinates"] == list(place(embedding, 12, 15))


def test_pictures_have_north_up_and_clear_corners(embedding):
    state = Explorer(embedding)
    for view in ("PCA", "Clusters"):
        picture = state.cells.picture(state.colours(view))
        assert picture.shape == (20, 30, 4)
        assert (picture[-4:, :5, 3] == 0).all(), "Bokeh draws the first row at the bottom"
        assert (picture[:10, :, 3] == 255).all()


def test_what_is_no_grid_is_refused(embedding):
    with pytest.raises(SceneError, match="isel"):
        read_cells(embedding.expand_dims(time=2))
    with pytest.raises(SceneError, match="no valid cell"):
        read_cells(embedding * np.nan)


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


def until(check, seconds=30):
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


def test_the_page_in_a_browser(embedding, browser):
    from selenium.webdriver.common.action_chains import ActionChains

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = serve(embedding, port=port, show=False, threaded=True)
    model = "Bokeh.documents[0].get_model_by_name('{}')"
    ready = f"return !!(window.Bokeh && Bokeh.documents.length && {model.format('map')}?.inner_height > 100)"
    pixels = f"return Array.from({model.format('cells')}.data.image[0]).join()"
    places = f"return Array.from({model.format('marks')}.data.x).length"
    try:
        until(lambda: answers(port))
        browser.get(f"http://127.0.0.1:{port}/")
        until(lambda: browser.execute_script(ready))
        before = browser.execute_script(pixels)
        ActionChains(browser).move_by_offset(600, 500).click().perform()
        until(lambda: browser.execute_script(pixels) != before)
        assert browser.execute_script(places) == 1
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert errors == []
    finally:
        server.stop()
