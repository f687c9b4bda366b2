"""Scenes from STAC: the real clients against ``rustac serve`` and COGs over HTTP, their pixels against the truth."""

from __future__ import annotations

import copy
import functools
import json
import tracemalloc
from dataclasses import replace
from datetime import datetime

import cloudpickle
import dask
import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

import xr_rsembed  # noqa: F401  (registers .rsembed)
from xr_rsembed.errors import CatalogError, NoScenesError, OptionError, ProviderAuthError, RsEmbedWarning
from xr_rsembed.providers import catalogs, plan, retry
from xr_rsembed.providers.catalogs import Catalog, find_catalog
from xr_rsembed.providers.fetch import fetch

from .servers import stac, truth
from .servers.loopback import Loopback

SUMMER = "2022-06-01/2022-09-01"
WEST, EAST = stac.TILES
CLEAR = [a for a in truth.S2_ACQUISITIONS if a.cloud_cover < 30]


def tile_grid(tile: stac.Tile) -> GeoBox:
    transform, shape = tile.grid(10)
    return GeoBox(shape, transform, f"EPSG:{tile.epsg}")


#: 144 x 192 pixels within the western tile, which comes first of a day's two, so every value is one of its own.
INSIDE = tile_grid(WEST)[96:240, 120:312]


_lonlat = functools.cache(WEST.lonlat)


def native(band: str, when: truth.Acquisition, grid: GeoBox = INSIDE) -> np.ndarray:
    """The western tile's own pixels on a 10 m grid within it."""
    resolution = truth.RESOLUTION[band]
    transform, _ = WEST.grid(resolution)
    pixels = truth.dn(band, when.when, *_lonlat(resolution), 4326)
    fine = pixels.repeat(resolution // 10, axis=0).repeat(resolution // 10, axis=1)
    top = round((transform.f - grid.transform.f) / 10)
    left = round((grid.transform.c - transform.c) / 10)
    return fine[top : top + grid.shape.y, left : left + grid.shape.x]


def median(images: list[np.ndarray]) -> np.ndarray:
    return np.floor(np.median(images, axis=0) + 0.5)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)


@pytest.fixture(scope="module")
def server():
    with stac.stac_api(lambda url: stac.s2_items(url, "earth-search")) as front:
        yield front


@pytest.fixture
def earth_search(server) -> Catalog:
    server.reset()
    return replace(find_catalog("earth-search"), href=server.url)


@pytest.fixture
def written(tmp_path):
    """A function that writes items as a file beside the world's files, and gives its path."""

    def write(items: list[dict], name: str = "items.json"):
        path = tmp_path / name
        path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        return path

    return write


def web_items(server, **properties) -> list[dict]:
    return stac.edited(stac.s2_items(server.url, "earth-search"), **properties)


# --- pixels -----------------------------------------------------------------------------------------------


def test_a_median_is_the_true_one_in_every_band(earth_search):
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=earth_search).compute()
    assert scene.dims == ("band", "y", "x")
    assert scene.dtype == np.uint16
    assert scene.band.values.tolist() == list(truth.S2_BANDS)
    for band in truth.S2_BANDS:
        expected = median([native(band, a) for a in CLEAR])
        np.testing.assert_array_equal(scene.sel(band=band), expected, err_msg=band)


@pytest.fixture(scope="module")
def plain(server):
    catalog = replace(find_catalog("earth-search"), href=server.url)
    return fetch("stac", INSIDE, time=SUMMER, catalog=catalog).compute()


@pytest.mark.parametrize("dialect", ["c1", "planetary-computer", "cdse", "unknown"])
def test_every_catalogue_gives_the_same_pixels(dialect, plain):
    spoken = "planetary-computer" if dialect == "unknown" else dialect
    with stac.stac_api(lambda url: stac.s2_items(url, spoken)) as front:
        known = find_catalog("earth-search" if dialect == "c1" else spoken)
        catalog = front.url if dialect == "unknown" else replace(known, href=front.url)
        more = {"collection": "sentinel-2-c1-l2a"} if dialect == "c1" else {}
        scene = fetch("stac", INSIDE, time=SUMMER, catalog=catalog, **more)
        np.testing.assert_array_equal(scene, plain)


def test_both_readers_give_the_same_pixels_where_two_zones_meet(earth_search):
    both = GeoBox.from_bbox((11.97, 44.985, 12.03, 45.015), "EPSG:4326", shape=(160, 240)).to_crs(
        "EPSG:32632", resolution=10
    )
    bands = ("B2", "B5", "B9")
    stackstac, odc = (
        fetch("stac", both, time=SUMMER, catalog=earth_search, reader=reader, bands=bands).compute()
        for reader in ("stackstac", "odc")
    )
    apart = np.abs(stackstac.astype(int) - odc.astype(int))
    assert (apart == 0).mean() > 0.999
    assert (
        apart.where(stackstac < 8000).max() <= 20
    )  # a neighbouring 60 m pixel, of a slope of 0.2 DN a metre

    x, y = np.meshgrid(odc.x, odc.y)
    for band in bands:
        pixels = odc.sel(band=band).values
        true = np.stack([truth.truth(band, a.when, x, y, 32632) for a in CLEAR])
        clear = ~np.any([truth.clouds(a.when, x, y, 32632) for a in CLEAR], axis=0)
        seen = clear & (pixels > 0)
        within = 0.2 * truth.RESOLUTION[band] + 2
        # Where a cloud of one date is a pixel away, its edge is taken from another pixel.
        assert (np.abs(pixels - np.median(true, axis=0))[seen] < within).mean() > 0.99, band
    assert (odc > 0).all("band").mean() > 0.9


def test_numbers_do_not_depend_on_the_chunks(earth_search):
    request = {"time": SUMMER, "catalog": earth_search, "mask_clouds": True, "bands": ("B2", "B5", "B9")}
    whole = fetch("stac", INSIDE, **request)
    parts = fetch("stac", INSIDE, **request, chunks=50)
    assert whole.data.numblocks == (1, 1, 1)
    assert parts.data.numblocks == (1, 3, 4)
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize(
    ("composite", "expected"),
    [
        ("mean", lambda images: np.floor(np.mean(images, axis=0) + 0.5)),
        ("first", lambda images: images[0]),
        ("last", lambda images: images[-1]),
    ],
)
def test_other_composites(composite, expected, earth_search):
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=earth_search, composite=composite, bands=("B3", "B11"))
    for band in ("B3", "B11"):
        np.testing.assert_array_equal(scene.sel(band=band), expected([native(band, a) for a in CLEAR]))


def test_without_a_composite_there_is_one_image_for_each_solar_day(earth_search):
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=earth_search, composite=None, bands=("B4", "B9"))
    assert scene.dims == ("time", "band", "y", "x")
    assert [str(t)[:16] for t in scene.time.values] == [f"{a.when:%Y-%m-%dT%H:%M}" for a in CLEAR]
    assert len(scene.attrs["item_ids"]) == 2 * len(CLEAR)  # two tiles a day, one image
    for image, when in zip(scene, CLEAR, strict=True):
        np.testing.assert_array_equal(image.sel(band="B9"), native("B9", when))


def test_masked_clouds_are_no_part_of_a_median(earth_search):
    scene = fetch(
        "stac", INSIDE, time=SUMMER, catalog=earth_search, mask_clouds=True, bands=("B2",)
    ).compute()
    images = [np.where(native("SCL", a) == 8, np.nan, native("B2", a)) for a in CLEAR]
    expected = np.floor(np.nanmedian(images, axis=0) + 0.5)
    np.testing.assert_array_equal(scene.sel(band="B2"), expected)
    days = fetch(
        "stac", INSIDE, time=SUMMER, catalog=earth_search, mask_clouds=True, composite=None, bands=("B2",)
    )
    np.testing.assert_array_equal(days.isel(time=1, band=0) == 0, native("SCL", CLEAR[1]) == 8)


def test_what_no_scene_reaches_is_nodata_and_attrs_say_how_much(earth_search):
    left, _, _, top = tile_grid(WEST).boundingbox.bbox
    beside = GeoBox.from_bbox((left - 800, top - 800, left + 800, top), "EPSG:32632", resolution=10)
    scene = fetch("stac", beside, time=SUMMER, catalog=earth_search, bands=("B2",)).compute()
    assert scene.attrs["covered"] == pytest.approx(0.5, abs=0.02)
    assert (scene.isel(x=slice(0, 80)) == 0).all()
    assert (scene.isel(x=slice(80, None)) > 0).all()


def test_another_fill_value_marks_what_is_not_there(earth_search):
    left, _, _, top = tile_grid(WEST).boundingbox.bbox
    beside = GeoBox.from_bbox((left - 160, top - 160, left + 160, top), "EPSG:32632", resolution=10)
    scene = fetch(
        "stac", beside, time=SUMMER, catalog=earth_search, bands=("B2",), fill_value=65535
    ).compute()
    assert (scene.isel(x=slice(0, 16)) == 65535).all()
    assert scene.attrs["nodata"] == 65535


def test_it_embeds(earth_search, probe):
    grid = tile_grid(WEST)[96:352, 96:416]
    scene = fetch("stac", grid, time=SUMMER, catalog=earth_search)
    emb = scene.rsembed.embed("probe", weights="random").compute()
    assert (emb.sizes["y"], emb.sizes["x"]) == (16, 20)
    assert np.isfinite(emb).all()
    assert emb.odc.geobox.crs == scene.odc.geobox.crs


# --- laziness ---------------------------------------------------------------------------------------------


def test_opening_reads_no_pixel_and_the_graph_stays_small(server, earth_search):
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=earth_search, chunks=48)
    assert server.pixel_requests() == []
    assert [request.path for request in server.log if request.method == "POST"] == ["/search"]
    (graph,) = dask.optimize(scene.data)
    assert len(dict(graph.__dask_graph__())) <= graph.npartitions + 2
    again = fetch("stac", INSIDE, time=SUMMER, catalog=earth_search, chunks=48)
    assert again.data.name == scene.data.name


def test_a_band_and_a_window_cost_only_themselves(server, earth_search):
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=earth_search, chunks=48)
    scene.sel(band="B4").isel(x=slice(0, 20), y=slice(0, 20)).compute()
    assert {request.path.rpartition("/")[2] for request in server.pixel_requests()} == {"B4.tif", "B4_h.tif"}


def test_an_aligned_window_touches_only_its_blocks(server, written, tmp_path):
    item = next(i for i in web_items(server) if i["id"].startswith("S2A_32TQQ_20220603"))
    noise = np.random.default_rng(0).integers(1, 10_000, (1024, 1024), dtype="uint16")
    path = stac.world_folder() / "big" / "B2.tif"
    grid = GeoBox.from_bbox((700_000, 4_980_000, 710_240, 4_990_240), "EPSG:32632", resolution=10)
    stac.write_cog(path, noise, grid.transform, 32632, 0)  # blocks of 128 pixels, some 30 KB each
    item["assets"] = {"blue": {**item["assets"]["blue"], "href": f"{server.url}/big/B2.tif"}}
    item["geometry"] = json.loads(json.dumps(grid.geographic_extent.json))
    scene = fetch("stac", grid, time=SUMMER, catalog=written([item]), bands=("B2",), chunks=128)
    server.log.clear()
    window = scene.isel(y=slice(256, 384), x=slice(512, 640)).compute()
    np.testing.assert_array_equal(window[0], noise[256:384, 512:640])

    with rasterio.open(path) as cog:

        def place(row, column):
            return [
                int(cog.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=1))
                for what in ("OFFSET", "SIZE")
            ]

        wanted, size = place(2, 4)
        first_block = min(place(row, column)[0] for row in range(8) for column in range(8))
    asked = [r.range.removeprefix("bytes=").split("-") for r in server.pixel_requests() if r.range]
    beyond_header = [(int(a), int(b)) for a, b in asked if int(b) >= first_block + 32_768]
    step = 16_384  # GDAL asks in whole steps
    assert beyond_header
    assert all(a >= wanted - step and b <= wanted + size + step for a, b in beyond_header)


def test_the_memory_of_a_median_is_that_of_one_chunk_and_one_band(server, written, monkeypatch):
    """60 dates and 12 bands of 4 chunks are 189 MB; one band of one chunk over its dates is 4 MB."""
    items = []
    for day in range(60):
        (item,) = stac.edited(stac.s2_items(server.url, "earth-search")[:1])
        item["id"] += f"_{day}"
        item["properties"]["datetime"] = f"2022-{6 + day // 30:02d}-{1 + day % 30:02d}T10:00:00Z"
        items.append(item)
    monkeypatch.setattr(plan, "read", lambda asset, grid, *_: np.full(grid.shape.yx, 7, dtype="float32"))
    grid = GeoBox.from_bbox(INSIDE.boundingbox.bbox, "EPSG:32632", shape=(362, 362))
    scene = fetch("stac", grid, time=SUMMER, catalog=written(items), chunks=181)
    assert scene.data.numblocks == (1, 2, 2)
    stack = 60 * 181**2 * 2
    tracemalloc.start()
    try:
        for part in scene.data.to_delayed().ravel():
            assert (part.compute(scheduler="synchronous") == 7).all()
        assert tracemalloc.get_traced_memory()[1] < 8 * stack  # of 48; reads under way are floats
    finally:
        tracemalloc.stop()


def test_the_plan_travels(earth_search):
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=earth_search, bands=("B2",))
    packed = cloudpickle.dumps(scene)
    assert len(packed) < 50_000
    np.testing.assert_array_equal(cloudpickle.loads(packed), scene)


# --- which scenes -----------------------------------------------------------------------------------------


def test_attrs_say_what_was_used(earth_search):
    attrs = fetch("stac", INSIDE, time=SUMMER, catalog=earth_search).attrs
    assert attrs["provider"] == "stac"
    assert attrs["catalog"] == "earth-search"
    assert attrs["collection"] == "sentinel-2-l2a"
    assert attrs["dates"] == [a.day for a in CLEAR]
    assert attrs["item_ids"][0] == "S2A_32TQQ_20220603_L2A"
    assert attrs["covered"] == 1.0
    assert attrs["units"] == "DN"
    assert all(isinstance(value, str | int | float | list) for value in attrs.values())


@pytest.mark.parametrize("claims", [[], ["https://api.stacspec.org/v1.0.0/item-search#query"]])
def test_the_client_filters_clouds_whatever_the_server_claims(claims, server, earth_search):
    server.claims += claims
    assert "2022-07-03" not in fetch("stac", INSIDE, time=SUMMER, catalog=earth_search).attrs["dates"]
    assert (
        "2022-07-03"
        in fetch("stac", INSIDE, time=SUMMER, catalog=earth_search, cloudy_pct=None).attrs["dates"]
    )


def test_the_end_of_a_span_is_not_part_of_it(earth_search):
    scene = fetch("stac", INSIDE, time=("2022-06-03", "2022-06-13"), catalog=earth_search)
    assert scene.attrs["dates"] == ["2022-06-03"]


def test_of_two_processings_of_one_acquisition_the_newest_is_taken(server, written):
    items = web_items(server)
    old = stac.edited(
        [i for i in items if i["id"] == "S2A_32TQQ_20220613_L2A"], **{"s2:processing_baseline": "02.14"}
    )
    old[0]["id"] += "_old"
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=written(old + items))
    assert "S2A_32TQQ_20220613_L2A" in scene.attrs["item_ids"]
    assert "S2A_32TQQ_20220613_L2A_old" not in scene.attrs["item_ids"]


def test_an_item_that_lacks_an_asset_is_left_out_with_a_word(server, written):
    items = web_items(server)
    lacking = [item for item in items if "20220613" in item["id"]]
    for item in lacking:
        del item["assets"]["swir22"]
    with pytest.warns(RsEmbedWarning, match=f"{lacking[0]['id']} lacks B12"):
        scene = fetch("stac", INSIDE, time=SUMMER, catalog=written(items))
    assert scene.attrs["items_incomplete"] == [item["id"] for item in lacking]
    np.testing.assert_array_equal(
        scene.sel(band="B2"), median([native("B2", a) for a in (CLEAR[0], *CLEAR[2:])])
    )


def test_assets_that_no_item_has_are_named(server, written):
    items = web_items(server)
    for item in items:
        del item["assets"]["swir22"]
    with pytest.raises(CatalogError, match="B12.*") as caught:
        fetch("stac", INSIDE, time=SUMMER, catalog=written(items))
    assert "rededge1" in str(caught.value)


def test_an_item_that_hides_its_offset_is_an_error_with_a_way_out(server, written):
    path = written(web_items(server, **{"s2:processing_baseline": None}))
    content = json.loads(path.read_text())
    for item in content["features"]:
        item["properties"].pop("earthsearch:boa_offset_applied")
        for asset in item["assets"].values():
            asset.pop("raster:bands", None)
    path.write_text(json.dumps(content))
    with pytest.raises(CatalogError, match="offset=0 or offset=-1000"):
        fetch("stac", INSIDE, time=SUMMER, catalog=path)
    scene = fetch("stac", INSIDE, time="2022-06-13", catalog=path, offset=-1000, bands=("B4",))
    np.testing.assert_array_equal(scene[0], native("B4", CLEAR[1]))


def test_nothing_found_says_which_rule_took_what(earth_search):
    with pytest.raises(NoScenesError, match=r"none of 2 items \(2 not below 30 % clouds\)") as caught:
        fetch("stac", INSIDE, time="2022-07-03", catalog=earth_search)
    assert "cloudy_pct=None" in str(caught.value)
    with pytest.raises(NoScenesError, match="no items"):
        fetch("stac", INSIDE, time="2019", catalog=earth_search)


def test_two_collections_in_one_file_are_not_mixed(server, written):
    items = web_items(server)
    for item in items[:3]:
        item["collection"] = "landsat-c2-l2"
    with pytest.raises(CatalogError, match="collection='landsat-c2-l2'"):
        fetch("stac", INSIDE, time=SUMMER, catalog=written(items), bands=("red",))
    scene = fetch(
        "stac", INSIDE, time=SUMMER, catalog=written(items), bands=("red",), collection="sentinel-2-l2a"
    )
    assert not set(scene.attrs["item_ids"]) & {item["id"] for item in items[:3]}


def test_an_item_can_be_skipped_by_its_id(earth_search):
    skip = ["S2A_32TQQ_20220613_L2A", "S2A_33TTK_20220613_L2A"]
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=earth_search, skip_items=skip)
    assert "2022-06-13" not in scene.attrs["dates"]


# --- catalogues without a server --------------------------------------------------------------------------


def local_items() -> list[dict]:
    return stac.s2_items(".", "earth-search")


@pytest.fixture
def folder():
    """A folder of its own for a catalogue, with the world's files below it."""
    home = stac.world_folder()
    made: list = []
    yield home, made
    for path in made:
        path.unlink()


def test_a_static_catalogue_on_disk(folder, earth_search):
    home, made = folder
    path = stac.write_catalog(home, local_items())
    made += [path, *(home / f"{item['id']}.json" for item in local_items())]
    expected = fetch("stac", INSIDE, time=SUMMER, catalog=earth_search, bands=("B2", "B5"))
    np.testing.assert_array_equal(
        fetch("stac", INSIDE, time=SUMMER, catalog=path, bands=("B2", "B5")), expected
    )


def test_a_static_catalogue_on_the_web(folder, server, earth_search):
    home, made = folder
    made += [
        stac.write_catalog(home, local_items()),
        *(home / f"{item['id']}.json" for item in local_items()),
    ]
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=f"{server.url}/catalog.json", bands=("B2",))
    np.testing.assert_array_equal(scene[0], median([native("B2", a) for a in CLEAR]))


def test_a_stac_geoparquet_table(folder, tmp_path, earth_search):
    import pyarrow.parquet
    import stac_geoparquet.arrow

    home, made = folder
    path = home / "items.parquet"
    table = stac_geoparquet.arrow.parse_stac_items_to_arrow(local_items())
    pyarrow.parquet.write_table(table.read_all(), path)
    made.append(path)
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=path, bands=("B2",))
    np.testing.assert_array_equal(scene[0], median([native("B2", a) for a in CLEAR]))


@pytest.mark.parametrize(
    "href", ["../outside.tif", "/etc/passwd", "file:///etc/passwd", "/vsizip/x.zip/y.tif"]
)
def test_a_path_may_not_leave_the_catalogues_folder(href, written):
    items = local_items()
    for item in items:
        item["assets"]["blue"]["href"] = href
    with pytest.raises(CatalogError, match="points out of"):
        fetch("stac", INSIDE, time=SUMMER, catalog=written(items), bands=("B2",))


def test_a_folder_that_the_user_names_may_be_read(written):
    items = stac.s2_items(str(stac.world_folder()), "earth-search")
    scene = fetch(
        "stac", INSIDE, time=SUMMER, catalog=written(items), bands=("B2",), data_root=stac.world_folder()
    )
    np.testing.assert_array_equal(scene[0], median([native("B2", a) for a in CLEAR]))


def test_a_server_may_not_name_a_file_of_this_machine():
    with stac.stac_api(lambda url: stac.s2_items(str(stac.world_folder()), "earth-search")) as front:
        catalog = replace(find_catalog("earth-search"), href=front.url)
        with pytest.raises(CatalogError, match="cannot be opened"):
            fetch("stac", INSIDE, time=SUMMER, catalog=catalog)


# --- Sentinel-1 -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def radar():
    with stac.stac_api(lambda url: stac.s1_items(url)) as front:
        yield replace(find_catalog("planetary-computer"), href=front.url)


def test_radar_comes_in_linear_power_and_in_decibels_on_demand(radar):
    scene = fetch("stac", INSIDE, time="2022-06", modality="s1", catalog=radar, composite="first").compute()
    assert scene.attrs["units"] == "linear"
    assert scene.band.values.tolist() == ["VV", "VH"]
    x, y = np.meshgrid(scene.x, scene.y)
    expected = truth.backscatter("VH", truth.S1_ACQUISITIONS[0].when, x, y, 32632)
    np.testing.assert_allclose(scene.sel(band="VH"), expected, rtol=1e-6)
    decibels = fetch(
        "stac", INSIDE, time="2022-06", modality="s1", catalog=radar, composite="first", units="dB"
    )
    assert decibels.attrs["units"] == "dB"
    np.testing.assert_allclose(decibels.sel(band="VH"), 10 * np.log10(expected), rtol=1e-5)


def test_radar_that_is_not_there_is_nan(radar):
    left, _, _, top = tile_grid(WEST).boundingbox.bbox
    beside = GeoBox.from_bbox((left - 160, top - 160, left + 160, top), "EPSG:32632", resolution=10)
    for reader in ("stackstac", "odc"):
        scene = fetch(
            "stac", beside, time="2022-06", modality="S1RTC", catalog=radar, reader=reader
        ).compute()
        assert np.isnan(scene.isel(x=slice(0, 16))).all()
        assert np.isfinite(scene.isel(x=slice(16, None))).all()
        assert np.isnan(scene.attrs["nodata"])


def test_wide_mode_is_preferred(radar, written):
    wide, other = stac.s1_items(radar.href), stac.s1_items(radar.href, mode="EW")
    scene = fetch("stac", INSIDE, time="2022-06", modality="S1RTC", catalog=written(wide + other))
    assert all("_IW_" in item for item in scene.attrs["item_ids"])
    assert scene.attrs["s1_iw_applied"] == 1
    assert scene.attrs["s1_iw_relaxed_on_empty"] == 0


def test_wide_mode_is_relaxed_once_where_it_finds_nothing(radar, written):
    path = written(stac.s1_items(radar.href, mode="EW"))
    scene = fetch("stac", INSIDE, time="2022-06", modality="S1RTC", catalog=path)
    flags = {name: scene.attrs[name] for name in scene.attrs if name.startswith("s1_")}
    assert flags == {
        "s1_iw_requested": 1, "s1_iw_applied": 0, "s1_iw_relaxed_on_empty": 1, "s1_relax_iw_on_empty": 1,
    }  # fmt: skip
    with pytest.raises(NoScenesError, match="not in IW mode"):
        fetch("stac", INSIDE, time="2022-06", modality="S1RTC", catalog=path, s1_relax_iw_on_empty=False)


# --- access -----------------------------------------------------------------------------------------------


class Tokens:
    """A signer as catalogues have them: one token for all, a new one when the last is refused."""

    def __init__(self, server: Loopback) -> None:
        self.server, self.given = server, 0

    def __call__(self, href: str, renew: bool) -> str:
        if renew or not self.given:
            self.given += 1
            self.server.tokens.add(f"SECRET{self.given}")
        return f"{href}?sig=SECRET{self.given}"


@pytest.fixture
def private(server, written):
    items = copy.deepcopy(stac.s2_items(f"{server.url}/private", "earth-search"))
    server.reset()
    return Catalog(
        "private", str(written(items)), find_catalog("earth-search").collections, sign=Tokens(server)
    )


@pytest.mark.parametrize("reader", ["stackstac", "odc"])
def test_an_expired_token_is_renewed_and_none_is_kept(reader, server, private, caplog):
    caplog.set_level("DEBUG")
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=private, bands=("B2",), reader=reader)
    first = scene.compute()
    server.tokens.clear()  # the token that the first run used has expired
    np.testing.assert_array_equal(scene.compute(), first)
    assert private.sign.given > 1
    private.sign.server = None
    assert b"SECRET" not in cloudpickle.dumps(scene)
    assert "SECRET" not in str(first.attrs) + caplog.text


def test_access_that_is_refused_is_our_error_without_the_token(private, monkeypatch):
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    catalog = replace(private, sign=lambda href, renew: f"{href}?sig=SECRETWRONG", login="ask Anna")
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=catalog, bands=("B2",))
    with pytest.raises(ProviderAuthError, match="ask Anna") as caught:
        scene.compute()
    assert "SECRET" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_planetary_computers_own_client_signs_and_renews(server, monkeypatch):
    planetary_computer = pytest.importorskip("planetary_computer")
    from planetary_computer import sas
    from planetary_computer.settings import Settings

    folder = stac.world_folder() / "token" / "account"
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(
        Settings,
        "get",
        staticmethod(lambda: planetary_computer.settings.Settings(None, f"{server.url}/token")),
    )
    sas.TOKEN_CACHE.clear()
    href = "https://account.blob.core.windows.net/container/B02.tif"
    for number, renew in ((1, False), (2, True)):
        token = {"msft:expiry": "2099-01-01T00:00:00Z", "token": f"sig=T{number}"}
        (folder / "container").write_text(json.dumps(token))
        assert catalogs._sign_planetary(href, renew) == f"{href}?sig=T{number}"
        assert catalogs._sign_planetary(href, False) == f"{href}?sig=T{number}"


# --- requests that cannot be served -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"reader": "gdal"}, OptionError, "stackstac"),
        ({"resampling": "nearst"}, OptionError, "nearest"),
        ({"catalogue": "cdse"}, OptionError, "did you mean catalog"),
        ({"workers": 0}, OptionError, "at least 1"),
        ({"catalog": "earthsearch"}, CatalogError, "planetary-computer"),
        ({"modality": "S1GRD"}, CatalogError, "S1RTC"),
        ({"modality": "S1RTC", "mask_clouds": True}, OptionError, "mask_clouds=False"),
        ({"modality": "landsat"}, OptionError, "S2L2A"),
        ({"units": "dB"}, OptionError, "Sentinel-1"),
        ({"composite": "best"}, OptionError, "median"),
        ({"chunks": 0}, OptionError, "chunks must be"),
        ({"bands": ("B2", "B10")}, ValueError, "B10"),
    ],
)
def test_what_cannot_be_asked(options, error, words):
    with pytest.raises(error, match=words):
        fetch("stac", INSIDE, time=SUMMER, **options)


def test_other_names_of_bands_are_understood(earth_search):
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=earth_search, bands=("red", "B08"))
    assert scene.band.values.tolist() == ["B4", "B8"]
    np.testing.assert_array_equal(scene.sel(band="B8"), median([native("B8", a) for a in CLEAR]))


def test_stackstac_needs_a_code_and_odc_none(earth_search):
    odd = GeoBox(
        INSIDE.shape, INSIDE.transform, "+proj=utm +zone=32 +datum=WGS84 +units=m +no_defs +lat_ts=0"
    )
    custom = odd.crs.to_epsg() is None
    scene = fetch("stac", odd, time=SUMMER, catalog=earth_search, bands=("B2",))
    if custom:
        with pytest.raises(OptionError, match='reader="odc"'):
            scene.compute()
    by_odc = fetch("stac", odd, time=SUMMER, catalog=earth_search, bands=("B2",), reader="odc")
    np.testing.assert_array_equal(by_odc[0], median([native("B2", a) for a in CLEAR]))


def test_times_are_utc_whatever_they_are_written_in(server, written):
    items = web_items(server)
    for item in items:
        when = datetime.fromisoformat(item["properties"]["datetime"])
        item["properties"]["datetime"] = when.astimezone().isoformat()
    scene = fetch("stac", INSIDE, time=SUMMER, catalog=written(items), composite=None)
    assert str(scene.time.values[0])[:16] == "2022-06-03T10:10"
