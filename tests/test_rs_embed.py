"""Calls of rs-embed's own pages with only the import changed, and what its other names say."""

from __future__ import annotations

import json

import numpy as np
import pytest

import xr_rsembed
from tests.test_places import Asked, Fields
from xr_rsembed import (
    BBox,
    FetchSpec,
    InputPrepSpec,
    OutputSpec,
    PointBuffer,
    RsEmbedError,
    SensorSpec,
    TemporalSpec,
    describe_model,
    get_embedding,
    get_embeddings_batch,
    inspect_provider_patch,
    list_models,
)
from xr_rsembed.providers import fetch as fetch_room

pytest.importorskip("xvec")
PLACE = PointBuffer(lon=121.5, lat=31.2, buffer_m=1120)
SUMMER = TemporalSpec.range("2022-06-01", "2022-09-01")


@pytest.fixture(autouse=True)
def backend(probe, monkeypatch):
    """Both providers are the smooth land of the tests of places; what was asked is kept."""
    land = Asked()
    real = fetch_room.find_provider
    monkeypatch.setattr(
        fetch_room, "find_provider", lambda one: land if one in ("gee", "auto", "stac") else real(one)
    )
    return land


def plain(**more):
    return get_embedding("probe", spatial=PLACE, temporal=SUMMER, backend=Fields(), weights="random", **more)


#: Arguments as rs-embed's pages give them, and the same in our words.
CALLS = {
    "terramind, minimal": ({"output": OutputSpec.pooled(), "backend": "gee"}, {}),
    "pooled by name": ({"output": OutputSpec.pooled(pooling="max")}, {"output": OutputSpec.pooled("max")}),
    "backend auto": ({"backend": "auto"}, {}),
    "no backend": ({}, {}),
    "other names, left open": ({"bbox": None, "time": None, "fetch": None}, {}),
    "device auto": ({"device": "auto"}, {}),
    "input_prep None": ({"input_prep": None}, {}),
    "input_prep auto": ({"input_prep": "auto"}, {}),
    "input_prep tile": ({"input_prep": "tile"}, {}),
    "input_prep resize": ({"input_prep": "resize"}, {"input_prep": "resize"}),
    "InputPrepSpec": ({"input_prep": InputPrepSpec()}, {}),
    "InputPrepSpec.auto": ({"input_prep": InputPrepSpec.auto(max_tiles=4, pad_edges=False)}, {}),
    "InputPrepSpec.resize": ({"input_prep": InputPrepSpec.resize()}, {"input_prep": "resize"}),
    "InputPrepSpec.tile": ({"input_prep": InputPrepSpec.tile(tile_size=224, tile_stride=112)}, {"overlap": 112}),
    "modality s2_l2a": ({"modality": "s2_l2a"}, {}),
    "modality s2": ({"modality": "s2"}, {}),
    "modality sentinel-2": ({"modality": "sentinel-2"}, {}),
    "modality in a SensorSpec": ({"sensor": SensorSpec(modality="S2L2A")}, {}),
    "FetchSpec": ({"fetch": FetchSpec(scale_m=20)}, {"sensor": SensorSpec(scale_m=20)}),
    "mosaic": ({"fetch": FetchSpec(composite="mosaic")}, {"sensor": SensorSpec(composite="last")}),
    "grid, north up": ({"output": OutputSpec.grid(grid_orientation="north_up")}, {"output": OutputSpec.grid()}),
    "grid, native": ({"output": OutputSpec.grid(grid_orientation="native")}, {"output": OutputSpec.grid()}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_runs_as_it_is(name):
    theirs, ours = CALLS[name]
    emb = get_embedding("Probe", spatial=PLACE, temporal=SUMMER, weights="random", **theirs)
    np.testing.assert_array_equal(np.asarray(emb.data), plain(**ours))


@pytest.mark.parametrize("name", ["auto", "stac", "gee"])
def test_each_provider_gets_the_models_own_number_of_requests(backend, name):
    with xr_rsembed.set_options(terrafm__fetch_workers=3):
        get_embedding("terrafm", spatial=PLACE, temporal=SUMMER, backend=name, weights="random")
    assert backend.requests[0].options == {"workers": 3}


def test_the_default_time_is_theirs(backend):
    get_embedding("probe", spatial=PLACE, weights="random")
    assert backend.spans() == [("2022-06-01", "2022-09-01")]


def test_terrafms_page_on_radar(backend):
    sensor = SensorSpec(
        collection="COPERNICUS/S1_GRD_FLOAT",
        bands=("VV", "VH"),
        scale_m=10,
        composite="median",
        orbit="ascending",
        use_float_linear=True,
        s1_require_iw=True,
        s1_relax_iw_on_empty=True,
    )
    get_embedding(
        "terrafm", spatial=PLACE, temporal=SUMMER, sensor=sensor, modality="s1", output=OutputSpec.pooled(),
        backend="gee", weights="random",
    )  # fmt: skip
    (request,) = backend.requests
    assert (request.modality, request.bands, request.units) == ("S1GRD", ("VV", "VH"), "linear")
    assert (request.orbit, request.sensor.collection) == ("ascending", "COPERNICUS/S1_GRD_FLOAT")


def test_a_batch_and_a_batch_of_grids():
    spatials = [PointBuffer(121.5, 31.2, 1120), BBox(120.5, 30.2, 120.52, 30.22, crs="EPSG:4326")]
    vectors = get_embeddings_batch("probe", spatials=spatials, temporal=SUMMER, weights="random")
    assert vectors.shape == (2, 5)
    grids = get_embeddings_batch(
        "probe",
        spatials=spatials,
        temporal=SUMMER,
        output=OutputSpec.grid(),
        backend="auto",
        weights="random",
    )
    assert grids[0].shape == (5, 14, 14)
    np.testing.assert_allclose(grids[0].mean(("y", "x")), vectors[0], rtol=1e-5)


def test_raw_is_a_word_for_no_normalization():
    with xr_rsembed.set_options(terramind__normalize="raw"):
        assert xr_rsembed.get_option("terramind.normalize") == "none"


def test_models_are_listed_and_described():
    assert "terrafm_b" in list_models()
    assert describe_model("TerraMind")


class TestReport:
    def test_of_good_pixels(self, tmp_path):
        found = inspect_provider_patch(
            spatial=PLACE, temporal=SUMMER, sensor=SensorSpec(bands=("B4", "B3", "B2"), cloudy_pct=20), backend="gee",
            save_dir=tmp_path, name="shanghai", return_array=True,
        )  # fmt: skip
        pixels = found.pop("array_chw")
        json.dumps(found)
        assert found["ok"]
        assert found["issues"] == []
        report = found["report"]
        assert (report["shape"], report["valid"], report["cloud_limit"]) == ([3, 224, 224], 1.0, 20.0)
        assert report["bands"]["B3"]["max"] == pixels[1].max()
        assert report["bands"]["B3"]["p50"] == np.median(pixels[1])
        assert (tmp_path / "shanghai.png").stat().st_size > 1000

    def test_of_bad_pixels(self, backend, monkeypatch):
        monkeypatch.setattr(backend, "read", lambda request: np.zeros((12, 224, 224), "uint16"))
        found = inspect_provider_patch(spatial=PLACE)
        assert not found["ok"]
        assert found["report"]["valid"] == 0
        assert "B1 has no valid pixel" in found["issues"]

    def test_of_a_range(self):
        found = inspect_provider_patch(spatial=PLACE, value_range=(0, 1))
        assert "outside (0, 1)" in found["issues"][0]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("export_batch", "rois.parquet"),
        ("load_export", "read_parquet"),
        ("ExportTarget", "out="),
        ("ExportConfig", "workers="),
        ("Model", "describe_model"),
        ("Embedding", "emb.attrs"),
        ("reset_runtime", "no state"),
    ],
)
def test_what_is_not_here_says_what_is(name, remedy):
    with pytest.raises(ImportError, match=remedy) as caught:
        exec(f"from xr_rsembed import {name}")
    assert isinstance(caught.value, RsEmbedError)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plain(fetch=FetchSpec(), sensor=SensorSpec()), "one argument under two names"),
        (lambda: get_embedding("probe", spatial=PLACE, backend="tensor"), "rsembed.embed"),
        (lambda: InputPrepSpec.tile(tile_size=256), "224"),
        (lambda: InputPrepSpec("grid"), "input_prep"),
        (lambda: OutputSpec.grid(grid_orientation="south_up"), "grid_orientation"),
        (lambda: SensorSpec(orbit="left"), "orbit"),
        (lambda: SensorSpec(composite="best"), "composite"),
    ],
)
def test_what_cannot_be_asked(call, words):
    with pytest.raises(RsEmbedError, match=words):
        call()
