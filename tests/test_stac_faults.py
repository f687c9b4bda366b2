"""Trouble on the way to a scene: each ends in the true pixels, or in our error that names what to do."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

from xr_rsembed.errors import CatalogError, NoScenesError, ProviderAuthError, ProviderError, RsEmbedError
from xr_rsembed.providers import retry
from xr_rsembed.providers.catalogs import find_catalog
from xr_rsembed.providers.fetch import fetch

from .servers import stac
from .servers.loopback import Fault

SUMMER = "2022-06-01/2022-09-01"
transform, shape = stac.TILES[0].grid(10)
#: GDAL's own retry, cut short.
HURRIED = {"GDAL_HTTP_RETRY_DELAY": "0.01", "GDAL_HTTP_TIMEOUT": "1", "GDAL_HTTP_MAX_RETRY": "1"}
ONE = r"/32TQQ/2022-06-13/B5\.tif"


def grid():
    from odc.geo.geobox import GeoBox

    return GeoBox(shape, transform, "EPSG:32632")[100:260, 100:300]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)


@pytest.fixture(scope="module")
def server():
    with stac.stac_api(lambda url: stac.s2_items(url, "earth-search")) as front:
        yield front


@pytest.fixture(scope="module")
def truth_(server):
    """What comes without any fault: the other tests show that it is true."""
    return scene_of(server, "undisturbed").values


def scene_of(server, name: str, **options):
    """The same scene under addresses of its own, since GDAL keeps what it has read by address."""
    catalog = replace(find_catalog("earth-search"), href=server.url, sign=_Renamed(name))
    bands = ("B2", "B5")
    return fetch(
        "stac", grid(), time=SUMMER, bands=bands, **{"catalog": catalog, "gdal": HURRIED, **options}
    ).compute()


class _Renamed:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, href: str, renew: bool) -> str:
        return f"{href}?for={self.name}"


FAULTS = {
    "429": {"status": 429},
    "500": {"status": 500},
    "503": {"status": 503},
    "slow": {"slow": 1.5},
    "cut": {"cut": True},
    "short": {"short": True},
    "page": {"body": "<html>Please log in.</html>" * 100},
}


@pytest.mark.parametrize("reader", ["stackstac", "odc"])
@pytest.mark.parametrize("name", FAULTS)
def test_trouble_that_passes_leaves_no_trace(name, reader, server, truth_):
    server.reset()
    server.faults.append(Fault(ONE, times=3, **FAULTS[name]))
    np.testing.assert_array_equal(scene_of(server, f"pass-{name}-{reader}", reader=reader), truth_)
    assert server.faults[0].times == 0


@pytest.mark.parametrize("reader", ["stackstac", "odc"])
@pytest.mark.parametrize("name", [name for name in FAULTS if name != "slow"])
def test_trouble_that_stays_is_an_error_that_names_it(name, reader, server, monkeypatch):
    monkeypatch.setattr(retry, "ATTEMPTS", 3)
    server.reset()
    server.faults.append(Fault(ONE, times=None, **FAULTS[name]))
    with pytest.raises(ProviderError) as caught:
        scene_of(server, f"stay-{name}-{reader}", reader=reader)
    said = str(caught.value)
    assert "'rededge1' of item S2A_32TQQ_20220613_L2A in catalogue 'earth-search'" in said
    assert "skip_items=['S2A_32TQQ_20220613_L2A']" in said
    assert "?for=" not in said
    assert "attempts" in said
    # 3 attempts, each with one retry of GDAL's below, and a few requests for each
    assert len([r for r in server.log if r.path.endswith("32TQQ/2022-06-13/B5.tif")]) <= 30


@pytest.mark.parametrize(
    ("status", "error"), [(403, ProviderAuthError), (404, ProviderError), (410, ProviderError)]
)
def test_a_clear_refusal_is_not_asked_again_and_again(status, error, server):
    server.reset()
    server.faults.append(Fault(ONE, status=status, times=None))
    catalog = replace(find_catalog("earth-search"), href=server.url)
    # A file that no other test reads: GDAL would serve a known one from memory.
    with pytest.raises(error, match=f"HTTP {status}"):
        fetch("stac", grid(), time=SUMMER, catalog=catalog, bands=("B5",)).compute()
    assert len([r for r in server.log if r.path.endswith("32TQQ/2022-06-13/B5.tif")]) <= 3


@pytest.mark.parametrize("reader", ["stackstac", "odc"])
def test_a_truncated_file_never_becomes_zeros(reader, server, tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    server.reset()
    whole = stac.world_folder() / stac.s2_path(stac.TILES[0], stac.S2_ACQUISITIONS[1], "B2")
    torn = stac.world_folder() / f"torn-{reader}.tif"
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    items = stac.s2_items(server.url, "earth-search")
    items[1]["assets"]["blue"]["href"] = f"{server.url}/{torn.name}"
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    with pytest.raises(ProviderError, match="'blue' of item S2A_32TQQ_20220613_L2A"):
        scene_of(server, "torn", catalog=path, reader=reader)
    left_out = scene_of(server, "torn", catalog=path, reader=reader, skip_items=[items[1]["id"]])
    assert (left_out > 0).all()


def test_after_an_error_the_same_scene_can_be_computed(server, truth_, monkeypatch):
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    server.reset()
    server.faults.append(Fault(ONE, times=None, cut=True))
    with pytest.raises(ProviderError):
        scene_of(server, "again")
    server.reset()
    np.testing.assert_array_equal(scene_of(server, "again"), truth_)


def test_many_faults_at_once(server, truth_):
    server.reset()
    for name, fault in FAULTS.items():
        if name != "slow":
            server.faults.append(Fault(r"B[25](_h)?\.tif", times=4, **fault))
    np.testing.assert_array_equal(scene_of(server, "many"), truth_)


# --- the search -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["429", "500", "503", "cut"])
@pytest.mark.parametrize("path", ["^/$", "^/search$"])
def test_a_search_is_tried_again(path, name, server, truth_):
    server.reset()
    server.faults.append(Fault(path, times=2, **FAULTS[name]))
    np.testing.assert_array_equal(scene_of(server, "search"), truth_)
    assert server.faults[0].times == 0


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ({"status": 503}, ProviderError, "HTTP 503 .after 3 attempts"),
        ({"status": 403}, ProviderAuthError, "refuses"),
        ({"status": 404}, CatalogError, "sentinel-2-l2a"),
        ({"status": 400}, CatalogError, "HTTP 400"),
        ({"body": "<html>Please log in.</html>"}, CatalogError, "does not give STAC"),
        ({"body": '{"type": "FeatureCollection", "features": []}'}, NoScenesError, "no items"),
        ({"body": '{"type": "FeatureCollection", "features": [7]}'}, CatalogError, "not valid STAC"),
    ],
)
def test_a_search_that_fails_is_our_error(fault, error, words, server, monkeypatch):
    monkeypatch.setattr(retry, "ATTEMPTS", 3)
    server.reset()
    server.faults.append(Fault("^/search$", times=None, **fault))
    with pytest.raises(error, match=words) as caught:
        scene_of(server, "never")
    assert "earth-search" in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_server_that_is_not_there(monkeypatch):
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    catalog = replace(find_catalog("earth-search"), href="http://127.0.0.1:9/v1?key=SECRET")
    with pytest.raises(ProviderError, match="no answer") as caught:
        fetch("stac", grid(), time=SUMMER, catalog=catalog)
    assert "SECRET" not in str(caught.value)


def _without(key):
    return lambda item: item.pop(key)


MALFORMED = {
    "no date": lambda item: item["properties"].pop("datetime"),
    "broken date": lambda item: item["properties"].update(datetime="yesterday"),
    "no assets": _without("assets"),
    "assets are a list": lambda item: item.update(assets=[]),
    "an asset in words": lambda item: item["assets"].update(blue="B02.tif"),
    "an offset in words": lambda item: item["assets"]["blue"].update({"raster:offset": "some"}),
    "clouds in words": lambda item: item["properties"].update({"eo:cloud_cover": "many"}),
    "broken geometry": lambda item: item.update(geometry={"type": "Polygon", "coordinates": [[["a", 1]]]}),
    "no properties": _without("properties"),
    "asset without address": lambda item: item["assets"]["blue"].pop("href"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_item_is_named_and_can_be_left_out(name, server, tmp_path):
    server.reset()
    items = copy.deepcopy(stac.s2_items(server.url, "earth-search"))
    MALFORMED[name](items[2])
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    with pytest.raises(CatalogError, match=items[2]["id"]) as caught:
        scene_of(server, "malformed", catalog=path)
    assert f"skip_items=['{items[2]['id']}']" in str(caught.value)
    scene = scene_of(server, "malformed", catalog=path, skip_items=[items[2]["id"]])
    assert items[2]["id"] not in scene.attrs["item_ids"]


def test_scenes_that_do_not_tell_their_clouds_are_not_taken_for_clear(server, tmp_path):
    server.reset()
    items = stac.edited(stac.s2_items(server.url, "earth-search"), **{"eo:cloud_cover": None})
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    with pytest.raises(NoScenesError, match="not below 30 % clouds"):
        scene_of(server, "untold", catalog=path)
    assert len(scene_of(server, "untold", catalog=path, cloudy_pct=None).attrs["dates"]) == 5


@pytest.mark.parametrize("content", ["", "{", "[]", '{"type": "Catalog"}', '{"features": 3}'])
def test_a_file_that_is_no_catalogue(content, tmp_path):
    path = tmp_path / "catalog.json"
    path.write_text(content)
    with pytest.raises(RsEmbedError) as caught:
        fetch("stac", grid(), time=SUMMER, catalog=path)
    assert isinstance(caught.value, CatalogError | NoScenesError)
