"""The command line's fetch and embed over both loopback servers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import xr_rsembed
from tests.servers import stac
from tests.servers.earthengine import EarthEngineServer, world
from tests.test_cli import run
from tests.test_stac import INSIDE
from xr_rsembed.providers import catalogs
from xr_rsembed.scenes import open_scene

pytestmark = pytest.mark.filterwarnings("ignore::xr_rsembed.RsEmbedWarning")


@pytest.fixture
def box():
    left, bottom, right, top = INSIDE.geographic_extent.boundingbox
    middle_x, middle_y = (left + right) / 2, (bottom + top) / 2
    return middle_x - 0.004, middle_y - 0.003, middle_x + 0.004, middle_y + 0.003


@pytest.fixture
def earth_search(monkeypatch):
    with stac.stac_api(lambda url: stac.s2_items(url, "earth-search")) as server:
        local = replace(catalogs.find_catalog("earth-search"), href=server.url)
        monkeypatch.setitem(catalogs._CATALOGS, "earth-search", local)
        yield server


@pytest.fixture
def earth_engine():
    import ee

    ee.Reset()
    with EarthEngineServer(world()) as server:
        yield server
    ee.Reset()


WHEN = ["--time", "2022-06-01/2022-09-01"]


def test_fetch_from_stac(earth_search, box, tmp_path, capsys):
    output = tmp_path / "scene.zarr"
    assert run("fetch", "--provider", "stac", "--bbox", *box, *WHEN, "-o", output) == 0
    expected = xr_rsembed.fetch("stac", bbox=box, time=WHEN[1]).compute()
    stored = open_scene(output)
    np.testing.assert_array_equal(stored.values, expected.values)
    assert stored.rio.crs == expected.rio.crs
    assert stored.attrs["units"] == "DN"
    assert run("fetch", "--provider", "stac", "--bbox", *box, *WHEN, "-o", output) == 1
    assert "overwrite" in capsys.readouterr().err


def test_embed_from_earth_engine(earth_engine, box, tmp_path):
    output = tmp_path / "emb.zarr"
    here = ["--provider", "gee", "--point", (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, "--buffer", "600"]
    there = ["-P", "project=xr-test", "-P", f"url={earth_engine.url}"]
    model = ["-m", "terramind_v1_tiny", "--weights", "random", "-o", output]
    assert run("embed", *here, *WHEN, *there, *model) == 0
    read = xr.open_zarr(output)["embedding"]
    assert read.sizes["D"] == 192
    assert np.isfinite(read.values).all()


def test_where_and_when_must_be_said(tmp_path, capsys):
    assert run("fetch", "--bbox", 9, 45, 9.1, 45.1, "-o", tmp_path / "scene.zarr") == 1
    assert run("fetch", *WHEN, "-o", tmp_path / "scene.zarr") == 1
    assert "either --bbox or --point" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
