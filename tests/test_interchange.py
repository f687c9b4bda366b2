"""The pixels a model sees must not depend on who served them: one place and time through STAC and Earth Engine."""

from __future__ import annotations

import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
from odc.geo.geobox import GeoBox

import xr_rsembed  # noqa: F401  (registers .rsembed)
from xr_rsembed.providers.fetch import fetch

from .servers import truth
from .servers.earthengine import EarthEngineServer, world
from .servers.stac import SIDE_M, TILES, s1_items, s2_items, stac_api

ee = pytest.importorskip("ee")

SUMMER = "2022-06-01/2022-09-01"
READERS = ("stackstac", "odc")
CLEAR = [a for a in truth.S2_ACQUISITIONS if a.cloud_cover < 30]

#: In zone 33, on the native pixels of every band, beyond the reach of the other zone's tile: nothing is resampled.
ALIGNED = GeoBox.from_bbox((264_960, 4_986_000, 266_400, 4_987_440), "EPSG:32633", resolution=10)
#: Where the tiles of two zones meet.
ACROSS = GeoBox.from_bbox((262_800, 4_986_000, 264_240, 4_987_440), "EPSG:32633", resolution=10)
#: Half of it beyond all tiles.
EDGE = GeoBox.from_bbox((266_640, 4_986_000, 268_080, 4_987_440), "EPSG:32633", resolution=10)


@pytest.fixture(scope="module")
def fetch_from():
    """``fetch_from(name, ...)`` with name "stackstac", "odc" or "gee"."""
    corners = [(tile, *tile.origin()) for tile in TILES]
    tiles = [(t.name, t.epsg, (left, top - SIDE_M, left + SIDE_M, top)) for t, left, top in corners]
    ee.Reset()
    with stac_api(items) as catalog, EarthEngineServer(world(tiles=tiles)) as service:

        def ask(name, grid, **changes):
            if name == "gee":
                return fetch("gee", grid, time=SUMMER, project="xr-test", url=service.url, **changes)
            return fetch("stac", grid, time=SUMMER, catalog=catalog.url, reader=name, **changes)

        yield ask
    ee.Reset()


def items(root: str) -> list[dict]:
    return s2_items(root, "earth-search") + s1_items(root)


def same_labels(one, other):
    assert one.odc.geobox == other.odc.geobox
    assert (one.name, one.dims, one.dtype) == (other.name, other.dims, other.dtype)
    for name, coord in one.coords.items():
        np.testing.assert_array_equal(coord, other[name], err_msg=name)
    assert set(one.coords) == set(other.coords)
    np.testing.assert_array_equal(one.rio.nodata, other.rio.nodata)
    shared = (
        "units",
        "nodata",
        "_FillValue",
        "composite",
        "mask_clouds",
        "time_start",
        "dates",
        "cloud_limit",
    )
    for name in shared:
        np.testing.assert_array_equal(one.attrs.get(name), other.attrs.get(name), err_msg=name)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("mask_clouds", [False, True])
@pytest.mark.parametrize("composite", ["median", "mean", "first", "last", None])
def test_aligned_pixels_are_the_very_same(fetch_from, reader, composite, mask_clouds):
    wanted = {"composite": composite, "mask_clouds": mask_clouds, "bands": ("B4", "B8A", "B9")}
    stac, gee = (fetch_from(name, ALIGNED, **wanted) for name in (reader, "gee"))
    same_labels(stac, gee)
    np.testing.assert_array_equal(stac, gee)


@pytest.mark.parametrize("name", [*READERS, "gee"])
def test_the_pixels_are_the_true_ones(fetch_from, name):
    got = fetch_from(name, ACROSS, composite="first", mask_clouds=True).compute()
    x, y = truth.pixel_centres(tuple(ACROSS.affine), ACROSS.shape.yx)
    when = CLEAR[0].when
    far = [truth.clouds(when, x + dx, y + dy, 32633) for dx in (-60, 0, 60) for dy in (-60, 0, 60)]
    clear = ~np.any(far, axis=0)
    assert 0.5 < clear.mean() < 1
    for band in got.band.values:
        apart = np.abs(got.sel(band=band).values - truth.truth(band, when, x, y, 32633))[clear]
        # The nearest native pixel lies up to half a diagonal away, and the world's slope is 0.2 DN a metre.
        assert apart.max() <= 0.2 * truth.RESOLUTION[band] * 2**0.5 / 2 + 1, band


@pytest.mark.parametrize("reader", READERS)
def test_where_zones_meet_they_differ_by_resampling_at_most(fetch_from, reader):
    stac, gee = (fetch_from(name, ACROSS, mask_clouds=True).compute() for name in (reader, "gee"))
    same_labels(stac, gee)
    apart = np.abs(stac.astype("int32") - gee.astype("int32"))
    assert (apart == 0).mean() > 0.98
    assert apart.max() <= 0.2 * 60 * 2**0.5 + 1


@pytest.mark.parametrize("reader", READERS)
def test_what_nobody_covers_is_nodata_in_both(fetch_from, reader):
    stac, gee = (fetch_from(name, EDGE) for name in (reader, "gee"))
    same_labels(stac, gee)
    assert stac.attrs["covered"] < 1
    np.testing.assert_array_equal(stac == 0, gee == 0)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("units", ["linear", "dB"])
def test_radar_is_the_same(fetch_from, reader, units):
    """Terrain-corrected from STAC, ground range from Earth Engine: two products, in this world of one truth."""
    stac = fetch_from(reader, ALIGNED, modality="S1RTC", units=units, composite="first").compute()
    gee = fetch_from("gee", ALIGNED, modality="S1GRD", units=units, composite="first").compute()
    assert stac.attrs["units"] == gee.attrs["units"] == units
    names = [name for name in gee.attrs if name.startswith("s1_")]
    assert len(names) == 4
    assert [stac.attrs[name] for name in names] == [gee.attrs[name] for name in names]
    np.testing.assert_allclose(stac.values, gee.values, rtol=1e-5)


@pytest.mark.parametrize("reader", READERS)
def test_the_embeddings_are_the_same(fetch_from, reader):
    stac, gee = (
        fetch_from(name, ALIGNED, mask_clouds=True)
        .rsembed.embed("terramind_v1_tiny", weights="random")
        .compute()
        for name in (reader, "gee")
    )
    assert stac.odc.geobox == gee.odc.geobox
    assert stac.sizes == {"D": 192, "y": 9, "x": 9}
    assert np.isfinite(stac).all()
    np.testing.assert_array_equal(stac, gee)
