"""The rules between a request and its pixels, each on its own: no server, no file."""

from __future__ import annotations

import re
import warnings

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

from xr_rsembed.errors import BandOrderError, CatalogError, OptionError, ProviderError
from xr_rsembed.providers import catalogs, composite, fetch, readers, search
from xr_rsembed.providers.base import SceneRequest, label_scene
from xr_rsembed.providers.catalogs import (
    Catalog,
    Collection,
    add_catalog,
    find_catalog,
    public_url,
)
from xr_rsembed.providers.encoding import encoding_of
from xr_rsembed.providers.lazy import lazy_scene
from xr_rsembed.specs import BBox, PointBuffer, SensorSpec

GRID = GeoBox.from_bbox((600_000, 4_990_000, 600_480, 4_990_320), "EPSG:32632", resolution=10)


# --- composites -------------------------------------------------------------------------------------------


def stack(dtype: str, dates: int, share_missing: float) -> np.ndarray:
    rng = np.random.default_rng(dates)
    values = rng.integers(0, 12_000, (dates, 37, 41)).astype(dtype)
    values[rng.random(values.shape) < share_missing] = composite.gap(values.dtype)
    values[:, 5, 6] = composite.gap(values.dtype)
    return values


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("dates", [1, 2, 3, 8, 61])
@pytest.mark.parametrize("how", ["median", "mean"])
def test_statistics_are_those_of_the_pixels_that_are_there(how, dates, dtype):
    values = stack(dtype, dates, 0.4)
    there = np.where(composite.is_gap(values), np.nan, values.astype("float64"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, on pixels that are never there
        expected = getattr(np, f"nan{how}")(there, axis=0)
    if dtype == "uint16":
        expected = np.where(np.isnan(expected), 7, np.floor(expected + 0.5))
        np.testing.assert_array_equal(composite.compose(values, how, fill=7), expected)
    else:
        np.testing.assert_allclose(composite.compose(values, how, fill=np.nan), expected, rtol=1e-6)


def test_a_median_in_strips_is_the_median(monkeypatch):
    values = stack("uint16", 8, 0.3)
    whole = composite.compose(values, "median", fill=0)
    monkeypatch.setattr(composite, "_STRIP", 1000)
    np.testing.assert_array_equal(composite.compose(values, "median", fill=0), whole)


def test_first_and_last_take_the_earliest_and_latest_that_are_there():
    values = np.array([[[65535, 1]], [[5, 2]], [[6, 65535]]], dtype="uint16")
    assert composite.compose(values, "first", fill=0).tolist() == [[5, 1]]
    assert composite.compose(values, "last", fill=0).tolist() == [[6, 2]]


def test_what_was_measured_is_never_nodata():
    measured = np.array([np.nan, -100.0, 0.0, 0.5, 500.5, 65535.0, 90000.0])
    stored = composite.stored_as(measured, np.dtype("uint16"), nodata=0)
    assert stored.tolist() == [65535, 1, 1, 1, 501, 65534, 65534]
    assert composite.compose(stored[None, None], None, fill=0)[0].tolist() == [0, 1, 1, 1, 501, 65534, 65534]
    other = composite.stored_as(measured, np.dtype("uint16"), nodata=500)
    assert composite.compose(other[None, None], None, fill=501)[0].tolist() == [
        501,
        0,
        0,
        1,
        502,
        65534,
        65534,
    ]
    assert composite.compose(other[None, None], None, fill=65535)[0, 0] == 65535


def test_the_first_image_of_a_day_wins_and_the_next_fills_its_gaps():
    day = np.array([[65535, 3]], dtype="uint16")
    composite.lay_over(day, np.array([[8, 9]], dtype="uint16"))
    assert day.tolist() == [[8, 3]]


# --- catalogues -------------------------------------------------------------------------------------------


def test_an_offset_is_never_guessed_from_the_date():
    with pytest.raises(CatalogError, match="shifted by 1000"):
        encoding_of({"id": "x", "properties": {"datetime": "2023-01-01T00:00:00Z"}}, {}, optical=True)


def test_assets_are_recognized_by_their_names_where_no_table_says_so():
    found = {
        "B02_10m": {},
        "B02_20m": {},
        "nir": {},
        "thumbnail": {},
        "metadata": {},
        "rededge1": {"type": "image/jp2"},
    }
    assert catalogs.asset_keys(Collection(""), ("B2", "B5", "B8", "B9"), found) == {
        "B2": "B02_10m",
        "B8": "nir",
        "B5": "rededge1",
    }
    assert catalogs.asset_keys(Collection(""), ("VV", "VH"), {"vh": {}, "vv": {}}) == {"VV": "vv", "VH": "vh"}


def test_a_catalogue_of_ones_own():
    add_catalog(Catalog("ours", "https://stac.example.org/v1", {"S2L2A": (Collection("s2", {"B4": "rot"}),)}))
    assert find_catalog("ours").collection("S2L2A", None).assets == {"B4": "rot"}
    assert find_catalog("https://stac.example.org/v1/").name == "ours"
    with pytest.raises(OptionError, match="no band B3"):
        catalogs.asset_keys(find_catalog("ours").collection("S2L2A", None), ("B3",), {})


def test_what_is_secret_in_an_address_is_left_out():
    assert public_url("https://u:p@host:8080/a/b.tif?X-Amz-Signature=1#f") == "https://host:8080/a/b.tif"
    assert public_url("s3://bucket/key") == "s3://bucket/key"
    assert "SECRET" not in readers._without_queries(
        "cannot open '/vsicurl/https://h/x.tif?sig=SECRET&b=1': no"
    )


# --- search -------------------------------------------------------------------------------------------------------


def test_a_footprint_across_the_antimeridian_stays_in_one_piece():
    ring = [[179.5, -17], [-179.5, -17], [-179.5, -16], [179.5, -16], [179.5, -17]]
    grid = GeoBox.from_bbox((200_000, 8_150_000, 220_000, 8_170_000), "EPSG:32701", resolution=10)
    outline = search.footprint({"geometry": {"type": "Polygon", "coordinates": [ring]}}, grid)
    left, _, right, _ = outline.bounds
    assert 90_000 < right - left < 120_000  # one degree of longitude, not 359


def test_a_footprint_of_a_box_alone_and_of_nothing():
    by_box = search.footprint({"bbox": [9.0, 45.0, 0.0, 9.1, 45.1, 100.0]}, GRID)
    assert by_box.bounds[2] - by_box.bounds[0] == pytest.approx(7_900, rel=0.05)
    assert search.footprint({}, GRID) is None


# --- a lazy scene -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dates", [None, 3])
@pytest.mark.parametrize(
    "index",
    [
        np.s_[...],
        np.s_[..., 3:9, 5:40:7],
        np.s_[..., 1, :, 30],
        np.s_[..., ::2, 31, ::-1],
        np.s_[..., [2, 0], 4:5, :],
        np.s_[..., 4:5, [1, 40, 7]],
        np.s_[..., 5:5, :],
        np.s_[..., 2:4, 7:2],
    ],
)
def test_any_index_of_a_lazy_scene_reads_the_same_pixels(index, dates):
    height, width = GRID.shape.yx
    world = np.arange((dates or 1) * 4 * height * width, dtype="int64").reshape(dates or 1, 4, height, width)

    def read(days, bands, grid):
        top = round((GRID.transform.f - grid.transform.f) / 10)
        left = round((grid.transform.c - GRID.transform.c) / 10)
        window = np.s_[top : top + grid.shape.y, left : left + grid.shape.x]
        return world[np.ix_(days, bands)][..., window[0], window[1]]

    scene = lazy_scene(read, GRID, 4, dates, np.dtype("int64"), chunks=20)
    assert isinstance(scene, da.Array)
    whole = world if dates else world[0]
    np.testing.assert_array_equal(scene[index].compute(scheduler="synchronous"), whole[index])


# --- fetch ------------------------------------------------------------------------------------------------


class Made:
    """A provider that keeps what it was asked and gives ones."""

    def __init__(self, value: float = 1.0, units: str | None = None) -> None:
        self.value, self.units = value, units

    def open(self, request: SceneRequest) -> xr.DataArray:
        self.request = request
        pixels = da.full((len(request.bands), *request.grid.shape.yx), self.value, dtype=request.dtype)
        return label_scene(request, pixels, units=self.units)


def test_a_request_is_complete():
    provider = Made()
    fetch.fetch(
        provider,
        bbox=(9.0, 45.0, 9.01, 45.01),
        time="2022-06",
        cloudy_pct=10,
        bands=("blue", "B8A"),
        project="p",
    )
    request = provider.request
    assert request.bands == ("B2", "B8A")
    assert request.sensor == SensorSpec(cloudy_pct=10, bands=("blue", "B8A"))
    assert (request.start.isoformat(), request.end.isoformat()) == (
        "2022-06-01T00:00:00+00:00",
        "2022-07-01T00:00:00+00:00",
    )
    assert request.options == {"project": "p"}
    assert request.chunks == 1792
    assert request.composite == "median"


OTHERS = {
    "nothing": (lambda scene: None, "NoneType"),
    "plain pixels": (lambda scene: scene.values, "ndarray"),
    "other dims": (lambda scene: scene.transpose("y", "x", "band"), "('y', 'x', 'band')"),
    "another dtype": (lambda scene: scene.astype("float64"), "float64"),
    "no units": (lambda scene: scene.drop_attrs(), "units None"),
    "other bands": (lambda scene: scene.isel(band=slice(None, None, -1)), "['B12', 'B11'"),
    "bands without names": (lambda scene: scene.drop_vars("band"), "[0, 1,"),
    "a grid beside it": (lambda scene: scene.assign_coords(x=scene.x + 10), "another grid"),
    "a part of the grid": (lambda scene: scene.isel(y=slice(16, None)), "another grid"),
}


@pytest.mark.parametrize(("change", "found"), OTHERS.values(), ids=OTHERS)
def test_what_a_provider_gives_is_what_was_asked_for(change, found):
    class Other(Made):
        def open(self, request):
            return change(super().open(request))

    with pytest.raises(ProviderError, match=re.escape(found)) as caught:
        fetch.fetch(Other(), bbox=(9.0, 45.0, 9.01, 45.01), time="2022-06")
    assert "Other gave another scene" in str(caught.value)
    assert "label_scene" in str(caught.value)


def test_arguments_by_name_go_over_the_sensor():
    provider = Made()
    sensor = SensorSpec(cloudy_pct=10, composite="mean")
    fetch.fetch(provider, PointBuffer(9, 45, 100), time="2022", sensor=sensor, composite=None)
    assert provider.request.composite is None
    assert provider.request.sensor.cloudy_pct == 10


def test_every_way_to_name_a_place_gives_the_same_lattice():
    box = fetch.fetch(Made(), bbox=(9.0, 45.0, 9.02, 45.02), time="2022")
    for place in (BBox(9.0, 45.0, 9.02, 45.02), box, box.odc.geobox):
        assert fetch.fetch(Made(), place, time="2022").odc.geobox == box.odc.geobox
    assert fetch.fetch(Made(), like=box, time="2022").odc.geobox == box.odc.geobox
    beside = fetch.fetch(Made(), bbox=(9.02, 45.0, 9.04, 45.02), time="2022")
    assert (beside.x[0] - box.x[0]) % 160 == 0


def test_units_are_converted_lazily_and_only_where_they_differ():
    linear = fetch.fetch(Made(0.1), GRID, time="2022", modality="S1RTC")
    decibels = fetch.fetch(Made(0.1), GRID, time="2022", modality="S1RTC", units="dB")
    assert linear.attrs["units"] == "linear"
    assert decibels.attrs["units"] == "dB"
    assert decibels.chunks == linear.chunks
    assert decibels.dtype == np.float32
    np.testing.assert_allclose(decibels[0, 0, 0], -10, rtol=1e-6)
    back = fetch.fetch(Made(-10.0, units="dB"), GRID, time="2022", modality="S1GRD", units="linear")
    np.testing.assert_allclose(back[0, 0, 0], 0.1, rtol=1e-6)
    assert np.isnan(fetch.fetch(Made(0.0), GRID, time="2022", modality="S1RTC", units="dB")).all()


def test_a_finite_fill_value_survives_the_conversion():
    scene = fetch.fetch(Made(-9999.0), GRID, time="2022", modality="S1RTC", units="dB", fill_value=-9999.0)
    assert (scene == -9999).all()
    assert scene.attrs["nodata"] == -9999


def test_bands_that_no_such_scene_has():
    with pytest.raises(BandOrderError, match="B10"):
        fetch.fetch(Made(), GRID, time="2022", bands=("B2", "B10"))
    assert fetch.fetch(Made(), GRID, time="2022", modality="S2L1C", bands=("B10",)).band.item() == "B10"


@pytest.mark.parametrize("provider", ["stack", object(), None])
def test_what_is_no_provider(provider):
    with pytest.raises(OptionError):
        fetch.fetch(provider, GRID, time="2022")
