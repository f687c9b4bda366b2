"""Scenes from Earth Engine: the real client against the loopback server, its numbers against the true world."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

import xr_rsembed  # noqa: F401  (registers .rsembed)
from xr_rsembed import bands
from xr_rsembed.errors import (
    CatalogError,
    NoScenesError,
    OptionError,
    ProviderAuthError,
    ProviderError,
    RsEmbedWarning,
)
from xr_rsembed.providers import gee, gee_client, retry
from xr_rsembed.providers.base import SceneRequest
from xr_rsembed.providers.fetch import fetch
from xr_rsembed.providers.gee import EarthEngine, request_side
from xr_rsembed.specs import SensorSpec

from .servers import earthengine, region, truth
from .servers.earthengine import TILES, EarthEngineServer, scene, world

ee = pytest.importorskip("ee")
import google.auth  # noqa: E402

#: 96 x 80 pixels inside the tile of zone 33, on its native pixels of 10, 20 and 60 m.
INSIDE = GeoBox.from_bbox((263_640, 4_986_960, 264_600, 4_987_760), "EPSG:32633", resolution=10)
#: Beyond the reach of the other tile.
EAST = GeoBox.from_bbox((267_000, 4_986_960, 267_960, 4_987_760), "EPSG:32633", resolution=10)
#: Half of it west of every tile.
HALF_OUT = GeoBox.from_bbox((262_500, 4_986_960, 263_460, 4_987_760), "EPSG:32633", resolution=10)
SUMMER = (datetime(2022, 6, 1, tzinfo=UTC), datetime(2022, 9, 1, tzinfo=UTC))
TEN_METRES = ("B2", "B3", "B4", "B8")
CLEAR = [a for a in truth.S2_ACQUISITIONS if a.cloud_cover < 30]


@pytest.fixture(scope="module")
def only_zone_33():
    """The tile of zone 33 alone: every value is that of a native pixel."""
    with EarthEngineServer(world(tiles=TILES[1:])) as server:
        yield server


@pytest.fixture(scope="module")
def both_zones():
    with EarthEngineServer(world()) as server:
        yield server


@pytest.fixture(autouse=True)
def fresh(request, monkeypatch):
    """Every test counts from zero, and waits for nothing."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    for name in {"only_zone_33", "both_zones"} & set(request.fixturenames):
        request.getfixturevalue(name).reset()


@pytest.fixture(scope="module", autouse=True)
def signed_out():
    yield
    ee.Reset()


def ask(server, grid=INSIDE, modality="S2L2A", **changes) -> SceneRequest:
    if ee.data.is_initialized() and ee.data._get_state().cloud_api_base_url != server.url:
        ee.Reset()  # one process is signed in at one server
    options = {"project": "xr-test", "url": server.url} | changes.pop("options", {})
    names = changes.pop("bands", bands.S1 if modality.startswith("S1") else bands.S2_L2A)
    return SceneRequest(grid, *SUMMER, modality, names, options=options, **changes)


def open_scene(server, *args, **changes):
    return EarthEngine().open(ask(server, *args, **changes))


def native(grid: GeoBox, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the native pixels of the zone-33 tile in which the grid's pixels lie."""
    left, _, _, top = TILES[1][2]
    x, y = truth.pixel_centres(tuple(grid.affine), grid.shape.yx)
    return left + (np.floor((x - left) / size) + 0.5) * size, top - (np.floor((top - y) / size) + 0.5) * size


def seen(acquisition, band, grid=INSIDE) -> np.ndarray:
    return truth.dn(band, acquisition.when, *native(grid, truth.RESOLUTION[band]), 32633)


def half_up(values: np.ndarray) -> np.ndarray:
    return np.floor(values + 0.5).astype("uint16")


# --- numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("composite", "reduce"),
    [("median", np.median), ("mean", np.mean), ("first", lambda stack, axis: stack[0])],
)
def test_a_composite_is_the_true_one(only_zone_33, composite, reduce):
    got = open_scene(only_zone_33, composite=composite).compute()
    for band in bands.S2_L2A:
        want = half_up(reduce(np.stack([seen(a, band) for a in CLEAR]), axis=0))
        np.testing.assert_array_equal(got.sel(band=band), want, err_msg=band)


def test_clouds_are_left_out_where_asked(only_zone_33):
    got = open_scene(only_zone_33, mask_clouds=True).compute()
    for band in bands.S2_L2A:
        days = [np.where(seen(a, "SCL") == 8, np.nan, seen(a, band)) for a in CLEAR]
        want = half_up(np.nan_to_num(np.nanmedian(days, axis=0)))
        np.testing.assert_array_equal(got.sel(band=band), want, err_msg=band)
    assert (open_scene(only_zone_33).compute() != got).any(), "no cloud lies here: the test shows nothing"


def test_without_a_composite_there_is_one_image_a_day(only_zone_33):
    got = open_scene(only_zone_33, composite=None, bands=TEN_METRES)
    assert got.dims == ("time", "band", "y", "x")
    assert [str(t)[:19] for t in got.time.values] == [f"{a.when:%Y-%m-%dT%H:%M:%S}" for a in CLEAR]
    for day, acquisition in zip(got.compute(), CLEAR, strict=True):
        np.testing.assert_array_equal(day, np.stack([seen(acquisition, band) for band in TEN_METRES]))


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:32633", "EPSG:4326", "EPSG:3035"])
def test_two_zones_join_without_a_seam(both_zones, crs):
    across = GeoBox.from_bbox((11.985, 44.995, 12.015, 45.005), "EPSG:4326", resolution=0.0004)
    grid = across if crs == "EPSG:4326" else across.to_crs(crs, resolution=30).pad(-8)
    got = open_scene(both_zones, grid, composite="first", bands=("B4", "B9")).compute()
    assert got.attrs["covered"] == pytest.approx(1)
    x, y = truth.pixel_centres(tuple(grid.affine), grid.shape.yx)
    first = CLEAR[0].when
    epsg = int(crs.split(":")[1])
    if epsg == 3035:
        from pyproj import Transformer

        x, y = Transformer.from_crs(3035, 4326, always_xy=True).transform(x, y)
        epsg = 4326
    clear = ~truth.clouds(first, x, y, epsg) & (got.values < truth.CLOUD_DN).all(0)
    assert clear.mean() > 0.5
    for band, off in (("B4", 2), ("B9", 12)):  # slope of the world times half a pixel's diagonal
        apart = got.sel(band=band).values - truth.truth(band, first, x, y, epsg)
        assert np.abs(apart[clear]).max() < off


def test_a_crs_without_a_code_is_sent_as_text(both_zones):
    grid = GeoBox.from_bbox((-500, -500, 500, 500), "+proj=laea +lat_0=45 +lon_0=12.02", resolution=50)
    got = open_scene(both_zones, grid, composite="first", bands=("B4",)).compute()
    assert "crsWkt" in both_zones.bodies[0]["grid"]
    assert (got > 0).all()


def test_a_place_on_the_antimeridian():
    bounds = (166_000.0, 0.0, 176_000.0, 4_000.0)  # zone 1, east of 180
    image = scene("X", CLEAR[0].when, 32601, bounds, {"B4": 10}, truth.dn, CLOUDY_PIXEL_PERCENTAGE=0.0)
    grid = GeoBox.from_bbox((164_000, 1000, 168_000, 2000), "EPSG:32601", resolution=50)
    with EarthEngineServer({"COPERNICUS/S2_SR_HARMONIZED": [image]}) as server:
        got = open_scene(server, grid, bands=("B4",)).compute()
    assert got.attrs["covered"] == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(got[0] > 0, np.broadcast_to(got.x > 166_000, got[0].shape))


# --- nodata --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("composite", ["median", "first", None])
@pytest.mark.parametrize("fill", [None, 65535])
def test_what_no_image_covers_is_nodata(only_zone_33, composite, fill):
    sensor = SensorSpec(fill_value=fill)
    got = open_scene(only_zone_33, HALF_OUT, composite=composite, sensor=sensor, bands=("B4", "B9")).compute()
    assert got.attrs["nodata"] == got.attrs["_FillValue"] == (fill or 0)
    outside = np.broadcast_to(got.x < TILES[1][2][0], got.shape)
    np.testing.assert_array_equal(got == (fill or 0), outside)
    assert got.attrs["covered"] == pytest.approx(0.5)


@pytest.mark.parametrize(("fill", "is_fill"), [(None, np.isnan), (-99.0, lambda v: v == -99)])
def test_radar_that_no_image_covers_is_nodata(only_zone_33, fill, is_fill):
    got = open_scene(only_zone_33, HALF_OUT, "S1GRD", sensor=SensorSpec(fill_value=fill)).compute()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(is_fill(got.values), np.broadcast_to(got.x < TILES[1][2][0], got.shape))


def test_a_pixel_that_is_cloudy_every_time_is_nodata(only_zone_33):
    got = open_scene(only_zone_33, composite=None, mask_clouds=True).compute()
    for day, acquisition in zip(got, CLEAR, strict=True):
        cloud = np.broadcast_to(seen(acquisition, "SCL") == 8, day.shape)
        np.testing.assert_array_equal(day == 0, cloud)


# --- Sentinel-1 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("linear", "units"), [(True, "linear"), (False, "dB")])
def test_radar_units(only_zone_33, linear, units):
    sensor = SensorSpec(use_float_linear=linear)
    got = open_scene(only_zone_33, modality="S1GRD", sensor=sensor, composite="first").compute()
    want = truth.backscatter("VH", truth.S1_ACQUISITIONS[0].when, *native(INSIDE, 10), 32633)
    assert got.attrs["units"] == units
    assert got.attrs["collection"] == ("COPERNICUS/S1_GRD_FLOAT" if linear else "COPERNICUS/S1_GRD")
    np.testing.assert_allclose(got.sel(band="VH"), want if linear else 10 * np.log10(want), rtol=1e-5)


def iw(scene) -> tuple[int, ...]:
    names = "s1_iw_requested", "s1_iw_applied", "s1_iw_relaxed_on_empty", "s1_relax_iw_on_empty"
    return tuple(scene.attrs[name] for name in names)


def test_the_wide_mode_is_preferred(both_zones):
    assert iw(open_scene(both_zones, modality="S1GRD")) == (1, 1, 0, 1)
    assert both_zones.requests["compute"] == 1
    assert iw(open_scene(both_zones, modality="S1GRD", sensor=SensorSpec(s1_require_iw=False))) == (
        0,
        0,
        0,
        1,
    )


def test_another_mode_serves_where_there_is_no_wide_one():
    with EarthEngineServer(world(s1_mode="EW")) as server:
        got = open_scene(server, modality="S1GRD")
        assert iw(got) == (1, 0, 1, 1)
        assert all("_EW_" in name for name in got.attrs["item_ids"])
        with pytest.raises(NoScenesError):
            open_scene(server, modality="S1GRD", sensor=SensorSpec(s1_relax_iw_on_empty=False))


# --- the search ----------------------------------------------------------------------------------------------


def test_attrs_say_what_was_used(both_zones):
    got = open_scene(both_zones, EAST)
    assert got.attrs["provider"] == "gee"
    assert got.attrs["dates"] == [a.day for a in CLEAR]
    assert len(got.attrs["item_ids"]) == len(CLEAR)  # the other tile does not touch this grid
    assert all(name.startswith("COPERNICUS/S2_SR_HARMONIZED/2022") for name in got.attrs["item_ids"])
    assert got.attrs["cloud_limit"] == 30


@pytest.mark.parametrize(("limit", "dates"), [(None, 5), (30, 4), (20, 3), (5, 1)])
def test_the_cloud_limit(both_zones, limit, dates):
    got = open_scene(both_zones, sensor=SensorSpec(cloudy_pct=limit))
    assert len(got.attrs["dates"]) == dates


def test_an_empty_search_says_why(both_zones):
    with pytest.raises(
        NoScenesError, match=r"10 images, none with a CLOUDY_PIXEL_PERCENTAGE below 0"
    ) as error:
        open_scene(both_zones, sensor=SensorSpec(cloudy_pct=0))
    assert "COPERNICUS/S2_SR_HARMONIZED" in str(error.value)
    with pytest.raises(NoScenesError, match="found: +nothing"):
        open_scene(both_zones, GeoBox.from_bbox((30, 10, 30.01, 10.01), "EPSG:4326", resolution=0.001))


def test_the_time_is_half_open(both_zones):
    first, second = (a.when for a in CLEAR[:2])
    got = EarthEngine().open(replace(ask(both_zones), start=first, end=second))
    assert got.attrs["dates"] == [CLEAR[0].day]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"modality": "S1RTC"}, CatalogError, 'modality="S1GRD"'),
        ({"sensor": SensorSpec(collection="COPERNICUS/S2_SR")}, CatalogError, "S2_SR_HARMONIZED"),
        ({"sensor": SensorSpec(collection="USERS/NOBODY")}, CatalogError, "USERS/NOBODY"),
        ({"options": {"reader": "odc"}}, OptionError, "reader"),
    ],
)
def test_a_wrong_request_is_refused_at_once(both_zones, changes, error, words):
    with pytest.raises(error, match=words):
        open_scene(both_zones, **changes)
    assert both_zones.requests["computePixels"] == 0


def test_a_band_that_the_collection_lacks(both_zones):
    with pytest.raises(CatalogError, match="B10"):
        open_scene(both_zones, bands=("B10",)).compute()
    assert both_zones.requests["computePixels"] == 1


# --- requests ------------------------------------------------------------------------------------------------


def test_building_reads_no_pixel(both_zones):
    scene = open_scene(both_zones)
    scene.isel(y=slice(0, 16)).mean("band")
    assert both_zones.requests["compute"] == 1
    assert both_zones.requests["computePixels"] == 0


def test_one_request_a_chunk(only_zone_33):
    got = open_scene(only_zone_33, chunks=48, bands=TEN_METRES)
    assert got.chunks == ((4,), (48, 32), (48, 48))
    whole = open_scene(only_zone_33, bands=TEN_METRES).compute()
    only_zone_33.reset()
    np.testing.assert_array_equal(got.compute(), whole)
    assert only_zone_33.requests["computePixels"] == 4


@pytest.mark.parametrize("pick", [
    {"y": slice(10, 20), "x": slice(3, 90, 4)},
    {"y": 5, "band": 2},
    {"band": slice(1, 3), "x": slice(None, None, -1)},
    {"band": [3, 0], "y": slice(0, 9)},
    {"y": [1, 50], "x": slice(-3, None)},
])  # fmt: skip
def test_a_part_is_the_part_of_the_whole(only_zone_33, pick):
    scene = open_scene(only_zone_33, composite=None, bands=TEN_METRES, chunks=64)
    np.testing.assert_array_equal(scene.isel(pick).compute(), scene.compute().isel(pick))


def test_a_window_of_one_band_costs_only_itself(both_zones):
    scene = open_scene(both_zones, composite=None)
    scene.isel(time=1, band=3, y=slice(8, 16), x=slice(16, 40)).compute()
    (body,) = both_zones.bodies
    assert body["grid"]["dimensions"] == {"width": 24, "height": 8}
    assert body["bandIds"] == ["B4"]


def test_no_request_passes_the_limit(both_zones, monkeypatch):
    limit = 2**17
    monkeypatch.setattr(earthengine, "REQUEST_BYTES", limit)
    monkeypatch.setattr(gee, "REQUEST_BYTES", limit)
    got = open_scene(both_zones)
    got.compute()
    sides = [body["grid"]["dimensions"] for body in both_zones.bodies]
    assert all(side["width"] * side["height"] * len(got.band) * 3 <= limit for side in sides)
    assert len(sides) == got.data.npartitions > 1
    assert gee_client.REQUEST_BYTES == 48 * 2**20

    monkeypatch.setattr(gee, "REQUEST_BYTES", 2 * limit)  # were the service's limit to sink one day
    with pytest.raises(ProviderError, match=r"(?s)Total request size.*chunks=448"):
        open_scene(both_zones).compute()


@pytest.mark.parametrize(
    ("count", "itemsize", "wanted", "side"),
    [(12, 2, 1792, 896), (12, 2, 448, 448), (2, 4, 1792, 1792), (13, 2, 1792, 896), (1, 0, 40_000, 6667)],
)
def test_request_side(count, itemsize, wanted, side):
    assert request_side(count, itemsize, wanted) == side
    assert side**2 * count * (itemsize + 1) <= gee_client.REQUEST_BYTES


def test_equal_requests_make_equal_graphs(both_zones):
    assert open_scene(both_zones).data.name == open_scene(both_zones).data.name
    assert open_scene(both_zones).data.name != open_scene(both_zones, composite="first").data.name


def test_workers_bound_the_requests_under_way(only_zone_33):
    got = open_scene(only_zone_33, chunks=16, bands=("B4",), options={"workers": 2})
    got.compute(scheduler="threads", num_workers=8)
    assert only_zone_33.requests["computePixels"] == 30
    assert only_zone_33.most_at_once <= 2


def test_another_process_signs_in_by_itself(only_zone_33):
    ee.Reset()
    got = open_scene(only_zone_33, bands=("B4",))
    other = got.compute(scheduler="processes", num_workers=1)
    assert only_zone_33.requests["algorithms"] == 2
    np.testing.assert_array_equal(other, got.compute())


def test_a_series_that_xee_opened_is_the_same(only_zone_33, probe):
    """Xee asks for a band of all dates, ours for a date of all bands; either can be embedded."""
    xee = pytest.importorskip("xee")
    ours = open_scene(only_zone_33, composite=None)
    images = ee.ImageCollection(ours.attrs["item_ids"]).select(list(bands.S2_L2A))
    shape = INSIDE.shape.yx[::-1]
    where = {"crs": "EPSG:32633", "crs_transform": tuple(INSIDE.affine)[:6], "shape_2d": shape}
    dataset = xr.open_dataset(images, engine=xee.EarthEngineBackendEntrypoint, **where)
    theirs = dataset.to_dataarray("band").transpose(*ours.dims).odc.assign_crs("EPSG:32633")
    assert theirs.odc.geobox == ours.odc.geobox
    np.testing.assert_array_equal(theirs, ours)
    embeddings = [
        scene.rsembed.embed("probe", weights="random", units="DN").compute() for scene in (theirs, ours)
    ]
    np.testing.assert_array_equal(*embeddings)


# --- what was measured stays valid ---------------------------------------------------------------------------


def made(collection: str, resolution, values, **properties) -> EarthEngineServer:
    """A collection of images of three dates whose values are those of a function of band and date."""
    images = [
        scene(
            f"made_{a.day}", a.when, TILES[1][1], TILES[1][2], resolution, values, **properties, **a_orbit(i)
        )
        for i, a in enumerate(CLEAR[:3])
    ]
    return EarthEngineServer({collection: images})


def a_orbit(i: int) -> dict:
    return {"orbitProperties_pass": ("ASCENDING", "DESCENDING")[i % 2]}


@pytest.mark.parametrize(
    ("composite", "fill", "expected"),
    [("median", 0, 1), ("mean", 0, 1), ("first", 0, 1), ("median", 65535, 0), ("median", 2, 0)],
)
def test_dark_pixels_stay_valid(composite, fill, expected):
    dark = {"resolution": {"B4": 10}, "values": lambda band, when, x, *_: np.zeros(x.shape, "uint16")}
    with made("COPERNICUS/S2_SR_HARMONIZED", **dark, CLOUDY_PIXEL_PERCENTAGE=1) as server:
        sensor = SensorSpec(fill_value=fill)
        got = open_scene(server, composite=composite, bands=("B4",), sensor=sensor)
        assert (got.compute() == expected).all()


def test_a_measured_value_moves_off_the_fill_value():
    with made(
        "COPERNICUS/S2_SR_HARMONIZED", {"B4": 10}, lambda band, when, x, *_: np.full(x.shape, 500, "uint16"),
        CLOUDY_PIXEL_PERCENTAGE=1,
    ) as server:  # fmt: skip
        got = open_scene(server, bands=("B4",), sensor=SensorSpec(fill_value=500)).compute()
        assert (got == 499).all()


@pytest.mark.parametrize("units", [None, "dB"])
def test_zero_power_is_no_data_before_the_composite(units):
    def power(band, when, x, *_):
        return np.full(x.shape, 0 if when == CLEAR[0].when else 0.1, "float32")

    radar = {"instrumentMode": "IW", "transmitterReceiverPolarisation": ["VV", "VH"]}
    with made("COPERNICUS/S1_GRD_FLOAT", {"VV": 10, "VH": 10}, power, **radar) as server:
        ask(server)
        with pytest.warns(RsEmbedWarning, match="mixes") as caught:
            got = fetch(
            "gee", INSIDE, time="2022", modality="S1GRD", composite="mean", units=units, project="xr-test",
            url=server.url, orbit=None,
        )  # fmt: skip
        assert caught[0].filename == __file__
        np.testing.assert_allclose(got.compute(), -10 if units else 0.1, rtol=1e-5)


# --- orbits, grids and logins --------------------------------------------------------------------------------


@pytest.mark.parametrize(("orbit", "dates"), [("ascending", 2), ("descending", 1)])
def test_passes_of_one_orbit(orbit, dates):
    radar = {"instrumentMode": "IW", "transmitterReceiverPolarisation": ["VV", "VH"]}
    resolution = {"VV": 10, "VH": 10}
    with made("COPERNICUS/S1_GRD_FLOAT", resolution, truth.backscatter, **radar) as server:
        got = open_scene(server, modality="S1GRD", orbit=orbit)
        assert len(got.attrs["item_ids"]) == dates
        assert got.attrs["s1_orbit"] == orbit
        with pytest.warns(RsEmbedWarning, match="mixes ascending and descending"):
            assert open_scene(server, modality="S1GRD").attrs["s1_orbit"] == "mixed"


def test_the_wire_names_a_crs_by_its_code(both_zones):
    import rioxarray  # noqa: F401
    from pyproj import CRS

    like = open_scene(both_zones, bands=("B4",)).drop_vars("spatial_ref")
    like = like.rio.write_crs(CRS.from_epsg(32633).to_wkt("WKT1_GDAL"))
    ask(both_zones)
    both_zones.reset()
    fetch(
        "gee", like=like, time="2022-06", bands=("B4",), project="xr-test", url=both_zones.url
    )[:, :16, :16].compute()  # fmt: skip
    assert [body["grid"]["crsCode"] for body in both_zones.bodies] == ["EPSG:32633"]
    assert "crsWkt" not in both_zones.bodies[0]["grid"]


class Robot:
    """Credentials of a service account."""

    def __init__(self, email: str) -> None:
        self.service_account_email = email


@pytest.mark.parametrize("worker_has", [None, "another@project.iam.gserviceaccount.com", "person"])
def test_a_worker_without_the_sessions_service_account_says_so(worker_has, monkeypatch):
    def default(scopes):
        if worker_has is None:
            raise google.auth.exceptions.DefaultCredentialsError
        return (object() if worker_has == "person" else Robot(worker_has)), "project"

    ee.Reset()
    monkeypatch.setattr(google.auth, "default", default)
    connection = gee_client.Connection("project", account="robot@project.iam.gserviceaccount.com")
    with pytest.raises(ProviderAuthError, match="robot@project") as caught:
        gee_client.connect(connection)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(caught.value)
    assert not ee.data.is_initialized()


def test_a_worker_signs_in_with_the_sessions_service_account(monkeypatch):
    robot = Robot("robot@project.iam.gserviceaccount.com")
    used = []
    ee.Reset()
    monkeypatch.setattr(google.auth, "default", lambda scopes: (robot, "project"))
    monkeypatch.setattr(ee.data, "setDeadline", lambda _: None)
    monkeypatch.setattr(ee, "Initialize", lambda **given: used.append(given["credentials"]))
    gee_client.connect(gee_client.Connection("project", account=robot.service_account_email))
    assert used == [robot]
    monkeypatch.undo()
    ee.Reset()


def test_a_session_of_a_service_account_names_it_in_the_plan(both_zones, monkeypatch):
    ask(both_zones)
    open_scene(both_zones, bands=("B4",))
    monkeypatch.setattr(ee.data._get_state(), "credentials", Robot("robot@project.iam.gserviceaccount.com"))
    connection = gee_client.Connection.choose({"workers": 2})
    assert connection == gee_client.Connection(
        "xr-test", both_zones.url, 2, "robot@project.iam.gserviceaccount.com"
    )
    with pytest.raises(ProviderAuthError, match="another service account"):
        gee_client.connect(replace(connection, account="other@project.iam.gserviceaccount.com"))


# --- the same region from both providers ---------------------------------------------------------------------


def test_stac_and_earth_engine_give_the_same_region(tmp_path):
    made_region = region.make_region(tmp_path)
    assert len(made_region.items) >= 40
    names = ("B2", "B5", "B9")  # of 10, 20 and 60 m
    picked = [bands.S2_L2A.index(name) for name in names]
    where = {"time": made_region.time, "cloudy_pct": 50, "bands": names}
    for tile in region.TILES[:2]:  # with the hole, and with the split tile
        grid = GeoBox((region.SIDE, region.SIDE), tile.transform, f"EPSG:{tile.epsg}")
        skip = [made_region.unreadable]
        stac = fetch("stac", grid, catalog=made_region.catalog, skip_items=skip, **where).compute()
        with EarthEngineServer(made_region.images()) as server:
            ee.Reset()
            gee = fetch("gee", grid, project="xr-test", url=server.url, **where).compute()
        np.testing.assert_array_equal(stac, gee)
        assert stac.attrs["dates"] == gee.attrs["dates"]
        clear = [pixels[picked] for (name, when), pixels in made_region.pixels.items()
                 if name == tile.name and when != region.DATES[region.CLOUDY]]  # fmt: skip
        inside = np.s_[:, 64:96, 64:96]
        want = np.floor(np.nanmedian(np.where(np.stack(clear) > 0, np.stack(clear), np.nan), axis=0) + 0.5)
        np.testing.assert_array_equal(stac[inside], want[inside])
    halves = set(made_region.halves)
    assert halves <= set(stac.attrs["item_ids"])
