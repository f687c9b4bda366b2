"""Places to embeddings in one call: the same numbers as step by step, overlapped, and safe against being cut."""

from __future__ import annotations

import threading

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from xr_rsembed import api, places
from xr_rsembed.errors import NoScenesError, OptionError, RsEmbedWarning, StoreError
from xr_rsembed.places import get_embedding, get_embeddings_batch
from xr_rsembed.providers.base import SceneRequest, label_scene
from xr_rsembed.providers.fetch import fetch
from xr_rsembed.specs import BBox, OutputSpec, PointBuffer, SensorSpec

pytest.importorskip("xvec")

PLACES = [PointBuffer(9 + i / 100, 45, 1200) for i in range(5)]
EMPTY = PointBuffer(0.5, 10, 1200)


class Fields:
    """A provider of smooth land; nothing lies west of 2 degrees. Counts, and can be cut at the nth scene."""

    def __init__(self, cut_at: int | None = None) -> None:
        self.opened, self.cut_at = 0, cut_at
        self.running, self.most = 0, 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Fields()"

    def open(self, request: SceneRequest) -> xr.DataArray:
        with self._lock:
            self.opened += 1
            if self.opened == self.cut_at:
                raise KeyboardInterrupt
        if request.grid.geographic_extent.boundingbox.left < 2:
            raise NoScenesError("There is nothing here.", found="the sea")
        pixels = da.map_blocks(
            self.read, request, chunks=self.shape(request), dtype="uint16", meta=np.empty((0, 0, 0), "uint16")
        )
        return label_scene(request, pixels, attrs={"provider": "fields", "item_ids": ["f1"]})

    def shape(self, request):
        return tuple((size,) for size in (len(request.bands), *request.grid.shape.yx))

    def read(self, request: SceneRequest) -> np.ndarray:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        x, y = np.meshgrid(*(np.arange(n) * 10.0 for n in request.grid.shape.xy))
        east, north = x + request.grid.transform.c, y + request.grid.transform.f
        bands = np.arange(len(request.bands))[:, None, None]
        pixels = (2000 + 100 * bands + 500 * np.sin(east / 700) + 500 * np.cos(north / 900)).astype("uint16")
        with self._lock:
            self.running -= 1
        return pixels


@pytest.fixture(autouse=True)
def probe_model(probe):
    """The model of every test here."""


def batch(spatials=PLACES, **more):
    arguments = {"temporal": "2022-06", "backend": Fields(), "weights": "random", **more}
    return get_embeddings_batch("probe", spatials=spatials, **arguments)


def test_one_place_is_fetch_and_embed():
    emb = get_embedding("probe", spatial=PLACES[0], temporal="2022-06", backend=Fields(), weights="random")
    scene = fetch(Fields(), PLACES[0], time="2022-06")
    expected = api.embed(scene, "probe", weights="random", output="pooled")
    assert emb.chunks is not None
    assert emb.dims == ("D",)
    np.testing.assert_array_equal(emb, expected)
    assert emb.attrs["scene_provider"] == "fields"
    assert emb.attrs["scene_item_ids"] == ["f1"]


def test_a_grid_of_one_place_is_georeferenced():
    emb = get_embedding(
        "probe",
        spatial=PLACES[0],
        temporal="2022-06",
        backend=Fields(),
        weights="random",
        output=OutputSpec.grid(),
    )
    assert emb.dims == ("D", "y", "x")
    assert emb.odc.geobox.resolution.x == 160


def test_many_places_are_one_vector_cube_of_the_same_numbers():
    cube = batch()
    assert cube.dims == ("geometry", "D")
    assert cube.xvec.geom_coords_indexed
    assert cube.xindexes["geometry"].crs.to_epsg() == 4326
    assert cube.sizes == {"geometry": 5, "D": 5}
    for place, vector in zip(PLACES, cube, strict=True):
        alone = get_embedding("probe", spatial=place, temporal="2022-06", backend=Fields(), weights="random")
        np.testing.assert_array_equal(vector, alone)
    assert cube.error.values.tolist() == [""] * 5
    assert cube.attrs["model_key"] == "probe"


def test_a_place_that_fails_does_not_lose_the_others():
    with pytest.warns(RsEmbedWarning, match="2 of 4 places"):
        cube = batch([PLACES[0], EMPTY, PointBuffer(9, 89, 100), PLACES[1]])
    assert np.isnan(cube[1]).all()
    assert np.isnan(cube[2]).all()
    assert np.isfinite(cube[[0, 3]]).all()
    assert cube.error.values[1] == "NoScenesError: There is nothing here."
    assert cube.error.values[2].startswith("GridError")


def test_where_every_place_fails_the_first_error_is_raised():
    with pytest.raises(NoScenesError, match="nothing here"):
        batch([EMPTY, EMPTY])


def test_places_of_every_kind_and_a_time_for_each():
    geopandas = pytest.importorskip("geopandas")
    kinds = [
        PLACES[0],
        BBox(9, 45, 9.02, 45.02),
        (9.0, 45.0, 9.02, 45.02),
        fetch(Fields(), PLACES[1], time="2022"),
    ]
    cube = batch(kinds, temporal=["2021", "2022", "2022", "2020-05/2020-08"])
    assert [g.geom_type for g in cube.geometry.values] == ["Point", "Polygon", "Polygon", "Polygon"]
    np.testing.assert_array_equal(cube[1], cube[2])
    frame = geopandas.GeoDataFrame(geometry=[cube.geometry.values[1]], crs=4326).to_crs(3857)
    np.testing.assert_array_equal(batch(frame)[0], cube[1])


def test_the_next_place_is_fetched_while_one_is_embedded(monkeypatch):
    embed, others = api.embed, threading.Event()

    class Overlapping(Fields):
        def open(self, request):
            scene = super().open(request)
            if self.opened >= 3:
                others.set()
            return scene

    def slow_embed(*args, **kwargs):
        assert others.wait(60), "nothing is fetched while a place is embedded"
        return embed(*args, **kwargs)

    monkeypatch.setattr(places.api, "embed", slow_embed)
    assert np.isfinite(batch(backend=Overlapping(), workers=2)).all()


def test_fetching_is_bounded_by_the_workers():
    backend = Fields()
    batch(PLACES * 3, backend=backend, workers=2)
    assert 1 <= backend.most <= 2
    assert backend.opened == 15


@pytest.mark.parametrize("name", ["rois.parquet", "rois.zarr"])
def test_a_batch_that_was_cut_goes_on_where_it_stopped(name, tmp_path):
    out = tmp_path / name
    whole = batch()
    with pytest.raises(KeyboardInterrupt):
        batch(out=out, backend=Fields(cut_at=4), workers=1)
    assert not out.exists()
    kept = len(list((tmp_path / f"{name}.parts").iterdir()))
    assert 1 <= kept < 5
    rest = Fields()
    xr.testing.assert_equal(batch(out=out, backend=rest), whole)
    assert rest.opened == 5 - kept
    assert out.exists()
    assert not (tmp_path / f"{name}.parts").exists()
    again = Fields()
    xr.testing.assert_equal(batch(out=out, backend=again), whole)
    assert again.opened == 0


@pytest.mark.parametrize("name", ["rois.parquet", "rois.zarr"])
def test_failed_places_are_tried_again_and_new_ones_are_added(name, tmp_path):
    out = tmp_path / name
    with pytest.warns(RsEmbedWarning):
        batch([PLACES[0], EMPTY], out=out)
    more = Fields()
    with pytest.warns(RsEmbedWarning):
        cube = batch([PLACES[0], EMPTY, PLACES[1]], out=out, backend=more)
    assert more.opened == 2  # the one that failed, and the new one
    np.testing.assert_array_equal(cube[[0, 2]], batch(PLACES[:2]))


def test_what_decides_the_numbers_is_part_of_what_is_kept(tmp_path):
    out = tmp_path / "rois.parquet"
    batch(PLACES[:2], out=out)
    for change in (
        {"temporal": "2022-07"},
        {"overlap": 112},
        {"sensor": SensorSpec(cloudy_pct=5)},
        {"mask_clouds": True},
    ):
        backend = Fields()
        batch(PLACES[:2], out=out, backend=backend, **change)
        assert backend.opened == 2, change


def test_a_geoparquet_opens_with_geopandas(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    cube = batch(out=tmp_path / "rois.parquet")
    table = geopandas.read_parquet(tmp_path / "rois.parquet")
    np.testing.assert_array_equal(np.stack(table["embedding"]), cube)
    assert table.crs.to_epsg() == 4326


def test_a_file_that_is_something_else_is_not_touched(tmp_path):
    out = tmp_path / "rois.parquet"
    out.write_text("mine")
    with pytest.raises(StoreError, match="no vector cube"):
        batch(out=out)
    assert out.read_text() == "mine"
    with pytest.raises(StoreError, match="parquet or .zarr"):
        batch(out=tmp_path / "rois.csv")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output": OutputSpec.grid()}, "pooled"),
        ({"sensor": SensorSpec(composite=None)}, "composite"),
        ({"output": OutputSpec.pooled("cls")}, "CLS"),
        ({"modality": "S1RTC"}, "probe takes no S1RTC"),
        ({"temporal": ["2022"]}, "1 times"),
        ({"spatials": []}, "at least one"),
        ({"backend": "sentinelhub"}, "stac, gee"),
    ],
)
def test_what_cannot_be_asked(change, words):
    with pytest.raises(OptionError, match=words):
        batch(**change)


def test_radar_comes_in_the_units_that_the_model_takes():
    asked = []

    class Radar(Fields):
        def open(self, request):
            asked.append((request.modality, request.units))
            return super().open(request).astype("float32")

    get_embedding(
        "probe", spatial=PLACES[0], temporal="2022", modality="S1GRD", backend=Radar(), weights="random"
    )
    assert asked == [("S1GRD", "dB")]
