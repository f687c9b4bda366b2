"""Places to embeddings in one call: the same numbers as step by step, overlapped, and safe against being cut."""

from __future__ import annotations

import math
import threading
from datetime import UTC, date, datetime, timedelta

import dask.array as da
import numpy as np
import pandas
import pytest
import shapely
import xarray as xr
from pyproj import Transformer

from tests import fakes
from xr_rsembed import api
from xr_rsembed.errors import GridError, NoScenesError, OptionError, RsEmbedWarning, StoreError
from xr_rsembed.places import get_embedding, get_embeddings_batch
from xr_rsembed.providers.base import SceneRequest, label_scene
from xr_rsembed.providers.fetch import fetch
from xr_rsembed.providers.grid import target_grid
from xr_rsembed.specs import BBox, OutputSpec, PointBuffer, SensorSpec
from xr_rsembed.times import TemporalSpec

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
            self.read, request, chunks=self.shape(request), meta=np.empty((0, 0, 0), request.dtype)
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
        pixels = (2000 + 100 * bands + 500 * np.sin(east / 700) + 500 * np.cos(north / 900)).astype(
            request.dtype
        )
        with self._lock:
            self.running -= 1
        return pixels


@pytest.fixture(autouse=True)
def probe_model(probe):
    """The model of every test here."""


def batch(spatials=PLACES, **more):
    arguments = {"temporal": "2022-06", "backend": Fields(), "weights": "random", **more}
    return get_embeddings_batch("probe", spatials=spatials, **arguments)


def alone(spatial=PLACES[0], **more):
    arguments = {"temporal": "2022-06", "backend": Fields(), "weights": "random", **more}
    return get_embedding("probe", spatial=spatial, **arguments)


def test_one_place_is_fetch_and_embed():
    emb = alone()
    scene = fetch(Fields(), PLACES[0], time="2022-06")
    expected = api.embed(scene, "probe", weights="random", output="pooled")
    assert emb.chunks is not None
    assert emb.dims == ("D",)
    np.testing.assert_array_equal(emb, expected)
    assert emb.attrs["scene_provider"] == "fields"
    assert emb.attrs["scene_item_ids"] == ["f1"]


def test_a_grid_of_one_place_is_georeferenced():
    emb = alone(output=OutputSpec.grid())
    assert emb.dims == ("D", "y", "x")
    assert emb.odc.geobox.resolution.x == 160


def test_many_places_are_one_vector_cube_of_the_same_numbers():
    cube = batch()
    assert cube.dims == ("geometry", "D")
    assert cube.xvec.geom_coords_indexed
    assert cube.xindexes["geometry"].crs.to_epsg() == 4326
    assert cube.sizes == {"geometry": 5, "D": 5}
    for place, vector in zip(PLACES, cube, strict=True):
        np.testing.assert_array_equal(vector, alone(place))
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

    monkeypatch.setattr(api, "embed", slow_embed)
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
        ({"output": OutputSpec.grid(), "out": "rois.parquet"}, "list of grids in memory"),
        ({"spatials": {"type": "FeatureCollection", "features": []}}, "from_features"),
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
            return super().open(request)

    alone(modality="S1GRD", backend=Radar())
    assert asked == [("S1GRD", "dB")]


# --- a bad row, times, and the model's own request --------------------------------------------------------------


def frame():
    geopandas = pytest.importorskip("geopandas")
    points = [shapely.Point(9, 45).buffer(0.01), None, shapely.Point(), shapely.Point(0.5, 10).buffer(0.01)]
    table = {"crop": list("abcd"), "year": [1, 2, 3, 4]}
    return geopandas.GeoDataFrame(table, geometry=points, index=["p", "q", "r", "s"], crs=4326)


def check_rows(cube):
    assert cube.error.values[0] == ""
    assert [str(error).partition(":")[2].strip() for error in cube.error.values[1:]] == [
        "The place has no geometry.",
        "The place has no geometry.",
        "There is nothing here.",
    ]
    assert np.isfinite(cube[0]).all()
    assert np.isnan(cube[1:]).all()
    assert cube["crop"].values.tolist() == list("abcd")
    assert cube["year"].values.tolist() == [1, 2, 3, 4]
    assert cube["index"].values.tolist() == list("pqrs")


def test_bad_rows_keep_their_columns_and_their_reason():
    with pytest.warns(RsEmbedWarning, match="3 of 4 places have no embedding"):
        check_rows(batch(frame()))


@pytest.mark.parametrize("name", ["rois.parquet", "rois.zarr"])
def test_a_file_keeps_bad_rows_and_columns(name, tmp_path):
    geopandas = pytest.importorskip("geopandas")
    with pytest.warns(RsEmbedWarning, match="3 of 4"):
        cube = batch(frame(), out=tmp_path / name)
    if name.endswith("parquet"):
        table = geopandas.read_parquet(tmp_path / name)
    else:
        table = xr.open_zarr(tmp_path / name, consolidated=False).drop_vars(["embedding", "D"]).to_dataframe()
    assert table["crop"].tolist() == list("abcd")
    assert table["year"].tolist() == [1, 2, 3, 4]
    assert table["error"].tolist() == cube.error.values.tolist()


def test_a_place_of_nodata_alone_is_named_and_tried_again(tmp_path):
    class Sea(Fields):
        def read(self, request):
            return super().read(request) * (request.grid.geographic_extent.boundingbox.left > 9.0)

    for _ in range(2):
        with pytest.warns(RsEmbedWarning, match="no valid pixel"):
            cube = batch(backend=Sea(), out=tmp_path / "r.parquet")
        assert [bool(error) for error in cube.error.values] == [True, True, False, False, False]


def test_a_batch_of_grids_is_a_list():
    with pytest.warns(RsEmbedWarning, match="1 of 2"):
        grids = batch([PLACES[0], EMPTY], output=OutputSpec.grid())
    grid = alone(output=OutputSpec.grid())
    np.testing.assert_array_equal(grids[0], grid)
    assert grids[0].odc.geobox == grid.odc.geobox
    assert (grids[1].shape, grids[1].attrs["error"]) == ((5, 0, 0), "NoScenesError: There is nothing here.")


class Asked(Fields):
    """Keeps the requests."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def open(self, request):
        self.requests.append(request)
        return super().open(request)

    def spans(self):
        return [(f"{one.start:%Y-%m-%d}", f"{one.end:%Y-%m-%d}") for one in self.requests]


YEARS = [("2021-01-01", "2022-01-01"), ("2022-01-01", "2023-01-01")]
TIMES = {
    "one for both": ("2021", YEARS[:1] * 2),
    "spans": (["2021-01/2021-06", "2022"], [("2021-01-01", "2021-06-01"), YEARS[1]]),
    "TemporalSpecs": ([TemporalSpec.year(2021), TemporalSpec.year(2022)], YEARS),
    "one span": (TemporalSpec.range("2021", "2022"), YEARS[:1] * 2),
    "a column": (np.array(["2021", "2022"]), YEARS),
    "a pandas column": (pandas.Series(["2021", "2022"]), YEARS),
    "none": (None, [("2022-06-01", "2022-09-01")] * 2),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_of_two_places(name):
    temporal, spans = TIMES[name]
    backend = Asked()
    batch(PLACES[:2], temporal=temporal, backend=backend, workers=1)
    assert backend.spans() == spans


@pytest.mark.parametrize("temporal", [["2021", "2022"], ("2021", "2022"), [2021, 2022]])
def test_two_dates_over_two_places_are_refused_with_both_ways_to_say_it(temporal):
    with pytest.raises(OptionError, match="one span for both, or one time for each") as caught:
        batch(PLACES[:2], temporal=temporal)
    one, each = str(caught.value).partition("remedy:")[2].strip().split(" for one span, or ")
    for line, spans in ((one, YEARS[:1] * 2), (each, YEARS)):
        backend = Asked()
        said = eval(line, {"TemporalSpec": TemporalSpec})  # the line as it was printed
        batch(PLACES[:2], temporal=said, backend=backend, workers=1)
        assert backend.spans() == spans


DAY = ("2022-06-01", "2022-06-02")
SPANS = {
    "datetime64[D]": (np.datetime64("2022-06-01"), DAY),
    "datetime64[M]": (np.datetime64("2022-06"), ("2022-06-01", "2022-07-01")),
    "datetime64 pair": ([np.datetime64("2022-06-01T00:00", "ns"), np.datetime64("2022-06-03", "ns")],
                        ("2022-06-01", "2022-06-03")),
    "datetime64 array": (np.array(["2022-06-01", "2022-06-02"], "datetime64[D]"), DAY),
    "Timestamps": ((pandas.Timestamp("2022-06-01"), pandas.Timestamp("2022-06-02")), DAY),
    "date": (date(2022, 6, 1), DAY),
    "a year as a number": (2022, YEARS[1]),
    "open end": ("2022-06-01/..", ("2022-06-01", f"{datetime.now(UTC).date() + timedelta(days=1)}")),
    "open start": ("../2022-06-02", ("1970-01-01", "2022-06-02")),
    "None for an end": (("2022-06-01", None), ("2022-06-01", f"{datetime.now(UTC).date() + timedelta(days=1)}")),
}  # fmt: skip


@pytest.mark.parametrize("name", SPANS)
def test_a_time_as_the_ecosystem_gives_it(name):
    time, span = SPANS[name]
    found = TemporalSpec.parse(time)
    assert (f"{found.start:%Y-%m-%d}", f"{found.end:%Y-%m-%d}") == span


@pytest.mark.parametrize(
    "time", ["../..", (None, None), np.datetime64("NaT"), True, 3.5, "2022-06-01/2022-07-01/x"]
)
def test_a_time_that_is_none_is_named(time):
    with pytest.raises(OptionError):
        TemporalSpec.parse(time)


@pytest.mark.parametrize(
    ("buffer_m", "scale", "pixels"),
    [(1120, 10, 224), (1125, 10, 225), (2240, 20, 224), (100, 10, 20), (3360, 30, 224)],
)
def test_a_buffer_of_whole_pixels_keeps_its_size_around_its_point(buffer_m, scale, pixels):
    point = PointBuffer(9.123, 45.456, buffer_m)
    grid = target_grid(point, scale_m=scale)
    assert grid.shape == (pixels, pixels)
    centre = grid.geographic_extent.centroid.points[0]
    east, north = Transformer.from_crs(4326, grid.crs.proj, always_xy=True).transform(
        [9.123, centre[0]], [45.456, centre[1]]
    )
    assert max(abs(east[0] - east[1]), abs(north[0] - north[1])) <= scale
    assert grid.transform.c % scale == grid.transform.f % scale == 0


def test_one_tile_of_a_buffer_of_1120_metres_is_one_forward():
    cells = alone(PointBuffer(9, 45, 1120), output=OutputSpec.grid())
    assert cells.shape[1:] == (14, 14)


def test_a_box_in_its_own_crs_is_the_box_in_degrees():
    there = Transformer.from_crs(4326, 32632, always_xy=True)
    west, south, east, north = there.transform_bounds(9.0, 45.0, 9.02, 45.02)
    inner = target_grid(BBox(west, south, east, north, crs="EPSG:32632"))
    assert inner.boundingbox.bbox == pytest.approx(
        [
            160 * edge
            for edge in (
                math.floor(west / 160),
                math.floor(south / 160),
                math.ceil(east / 160),
                math.ceil(north / 160),
            )
        ]
    )
    assert BBox(9.0, 45.0, 9.02, 45.02, crs=4326) == BBox(9.0, 45.0, 9.02, 45.02, 4326)
    with pytest.raises(GridError, match="degrees"):
        PointBuffer(500000, 5000000, 100, crs="EPSG:32632")
    with pytest.raises(GridError, match="no area"):
        BBox(500100, 5000000, 500000, 5000100, crs="EPSG:32632")


def test_numbers_of_numpy_are_numbers():
    degrees = np.array([9.0, 45.0, 9.5, 45.5], "float32")
    assert BBox(*degrees) == BBox(9.0, 45.0, 9.5, 45.5)
    point = PointBuffer(*np.array([9, 45, 1200]))
    assert repr(point) == "PointBuffer(lon=9, lat=45, buffer_m=1200, crs='EPSG:4326')"
    assert SensorSpec(scale_m=np.float32(20), cloudy_pct=np.int64(10)) == SensorSpec(
        scale_m=20, cloudy_pct=10
    )


MODELS = {
    "prithvi_eo_v2_tiny_tl": ("S2L2A", ("B2", "B3", "B4", "B8A", "B11", "B12"), 30),
    "terramind_v1_tiny": ("S2L2A", fakes.S2, 10),
}


@pytest.mark.parametrize("model", MODELS)
def test_each_model_gets_its_own_bands_and_pixel_size(model):
    modality, bands, scale = MODELS[model]
    backend = Asked()
    emb = get_embedding(model, spatial=PointBuffer(9, 45, 112 * scale), backend=backend, weights="random")
    (request,) = backend.requests
    assert (request.modality, request.bands, request.grid.resolution.x) == (modality, tuple(bands), scale)
    assert request.grid.shape == (224, 224)
    assert np.isfinite(emb.compute()).all()
    get_embedding(model, spatial=PLACES[0], backend=backend, weights="random", sensor=SensorSpec(scale_m=20))
    assert backend.requests[1].grid.resolution.x == 20
