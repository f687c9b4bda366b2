"""Regions over the made region: two zones, two baselines, holes, a split tile, clouds, one unreadable asset."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
import shapely
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox

import xr_rsembed
from tests import fakes
from tests.servers.earthengine import EarthEngineServer
from tests.servers.region import TILES, make_region
from xr_rsembed import fetch
from xr_rsembed.cli import main
from xr_rsembed.errors import GridError, OptionError, StoreError, StoreNotFoundError
from xr_rsembed.regions import open_region, region, region_status
from xr_rsembed.regions.area import area_geometry, mgrs_square
from xr_rsembed.regions.units import Unit

pytestmark = [
    pytest.mark.filterwarnings("ignore::xr_rsembed.RsEmbedWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

MAY, JUNE = "2023-05-01/2023-05-10", "2023-06-10/2023-06-16"  # two dates, and one with the unreadable asset
EAST = (12.008, 45.972, 12.028, 45.984)
AREA = (11.985, 45.962, 12.028, 45.99)  # of both zones
POINT = (12.012, 45.974, 12.014, 45.976)  # two units at most


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    fakes.register()
    return make_region(tmp_path_factory.mktemp("region"))


def begin(store, made, area=None, periods=MAY, skip=True, **changes):
    fetching = {"catalog": str(made.catalog), "skip_items": [made.unreadable] if skip else []}
    settings = {"weights": "random", "unit": 224, "fetch": fetching} | changes
    return region(store, area or AREA, periods, "probe", **settings)


def skipped(made) -> dict:
    return {"skip_items": [made.unreadable]}


def content(store) -> dict[str, bytes]:
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in Path(store).rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """The undisturbed run that others are held against."""
    store = tmp_path_factory.mktemp("whole") / "whole.zarr"
    run = begin(store, made)
    status = run.run()
    assert not status.failed
    assert not status.left
    assert status.done
    return store


@pytest.mark.parametrize(
    "settings",
    [
        {"overlap": 64, "blend": "mean", "unit": 160},
        {"overlap": 128, "unit": 192},
        {"density": 2, "unit": 224},
    ],
    ids=["mean", "wide", "dense"],
)
def test_units_join_as_one_embedding_of_the_whole(made, tmp_path, settings):
    run = begin(tmp_path / "r.zarr", made, area=EAST, **settings)
    assert not run.run().failed
    (lattice,) = run.zones.values()
    rows, columns = [sorted({getattr(unit, axis) for unit, _ in run.keys}) for axis in ("row", "column")]
    assert len(rows) > 1
    assert len(columns) > 1
    before, after = run.recipe.margins
    corner = lattice.geobox(Unit(lattice.zone, rows[0], columns[0]), (before, after))
    shape = [before + len(units) * lattice.side + after for units in (rows, columns)]
    grid = GeoBox(shape, corner.affine, corner.crs)
    scene = fetch("stac", grid, time=MAY, **run.recipe.request.backend_options)
    embedded = scene.rsembed.embed("probe", **run.recipe.settings).compute()
    first = before * lattice.cells // lattice.side
    own = [slice(first, first + len(units) * lattice.cells) for units in (rows, columns)]
    expected = embedded.isel(y=own[0], x=own[1])
    stored = open_region(tmp_path / "r.zarr")["utm33"]["embedding"].isel(time=0)
    units = {(unit.row, unit.column) for unit, _ in run.keys}
    assert len(units) == len(rows) * len(columns), "the area is a rectangle of units"
    there = stored.sel(y=expected.y, x=expected.x).values
    # Pixels of the other zone are reprojected: GDAL's nearest one may be the next in another window, here and there.
    np.testing.assert_allclose(there, expected.values, rtol=1e-3)
    assert (there == expected.values)[np.isfinite(there)].mean() > 0.9
    assert np.isfinite(expected.values).any()


def test_the_store_is_two_zones_of_plain_xarray(whole):
    tree = xr.open_datatree(whole, engine="zarr", chunks={}, consolidated=False, decode_coords="all")
    assert set(tree.children) == {"utm32", "utm33"}
    assert tree.attrs["geoemb:spatial_layout"] == "utm_zones"
    for name, code in (("utm32", 32632), ("utm33", 32633)):
        array = tree[name]["embedding"]
        assert array.dims == ("time", "D", "y", "x")
        assert array.rio.crs.to_epsg() == code
        assert array.attrs["model_key"] == "probe"
        assert np.datetime_as_string(array.time.values, "D").tolist() == ["2023-05-01"]
        assert array.time_end.dims == ("time",)
        assert np.datetime_as_string(array.time_end.values, "D").tolist() == ["2023-05-10"]
    seen = open_region(whole)["utm33"]["embedding"]
    assert max(seen.sizes.values()) < 100, "what was never asked for is not shown"
    assert np.isnan(seen.values).all(axis=1).any(), "what is not embedded reads as NaN"


def test_plan_reads_no_pixel(made, tmp_path):
    with made.stac_api() as server:
        run = begin(tmp_path / "r.zarr", made, fetch={"catalog": server.url, "skip_items": [made.unreadable]})
        plan = run.plan()
        assert not server.pixel_requests()
    assert not (tmp_path / "r.zarr").exists()
    assert {"utm32", "utm33"} == set(plan["zone"])
    assert (plan["state"] == "left").all()
    assert plan["scenes"].max() > 3
    assert (plan.loc[plan["scenes"] > 0, "tiles"] == 1).all()
    assert plan["seconds"].sum() > 0
    assert plan["bytes"].sum() > 0


def test_failed_units_are_named_and_retried(made, tmp_path):
    broken = made.folder / "broken.tif"
    kept = broken.read_bytes()
    run = begin(tmp_path / "r.zarr", made, periods=[MAY, JUNE], skip=False)
    status = run.run(retries=0)
    assert status.failed
    assert all(made.unreadable in reason for reason in status.failed.values())
    assert all(name.endswith("2023-06-10_2023-06-16") for name in status.failed), "May does not touch it"
    assert status.done
    assert region_status(tmp_path / "r.zarr") == status
    assert main(["region", "status", str(tmp_path / "r.zarr")]) == 1
    try:
        sound = next(item for item in made.items if item["id"] == made.unreadable.replace("S2B", "S2A"))
        shutil.copy(made.folder / sound["assets"]["B04"]["href"], broken)
        assert run.run().failed, "a plain run leaves failed units"
        assert run.retry().failed == {}
    finally:
        broken.write_bytes(kept)


def test_periods_and_cells_are_added_and_finished_ones_left(made, whole, tmp_path):
    store = tmp_path / "r.zarr"
    begin(store, made, area=EAST, periods=JUNE, extent=made.bbox).run()
    before = {name: data for name, data in content(store).items() if "/embedding/c/" in name}
    fakes.clear()
    status = begin(store, made, periods=[JUNE, MAY]).run()
    assert not status.left
    after = content(store)
    assert all(after[name] == data for name, data in before.items())
    tree = open_region(store)
    assert np.datetime_as_string(tree["utm33"].time.values, "D").tolist() == ["2023-05-01", "2023-06-10"]
    assert np.datetime_as_string(tree["utm33"].time_end.values, "D").tolist() == ["2023-05-10", "2023-06-16"]
    for zone in ("utm32", "utm33"):
        there, alone = (open_region(one)[zone]["embedding"].sel(time="2023-05-01") for one in (store, whole))
        np.testing.assert_array_equal(there.sel(y=alone.y, x=alone.x).values, alone.values)
    with pytest.raises(GridError, match="extent="):
        begin(store, made, area=(12.0, 46.0, 12.03, 46.1))
    with pytest.raises(StoreError, match="overlap"):
        begin(store, made, overlap=64).run()
    forwards = len(fakes.forwards)
    begin(store, made, periods=[JUNE, MAY]).run()
    assert len(fakes.forwards) == forwards, "nothing was left to do"


def test_other_weights_of_the_same_model_are_refused(made, tmp_path):
    import pystac

    store, files = tmp_path / "r.zarr", [tmp_path / name for name in ("a.pt", "b.pt", "copy.pt")]
    for file, data in zip(files, (b"a", b"b", b"a"), strict=True):
        file.write_bytes(data * 64)
    small = (12.012, 45.974, 12.014, 45.976)
    run = begin(store, made, area=small, weights=files[0])
    assert run.run().done
    before = content(store)
    for other in (files[1], "random"):
        with pytest.raises(StoreError, match="weights"):
            begin(store, made, area=small, periods=[MAY, JUNE], weights=other).run()
    assert content(store) == before, "a refused call leaves the store as it was"
    assert not begin(store, made, area=small, weights=files[2]).run().left, "the same file by another name"
    sha256 = xr.open_zarr(store, group="utm33", consolidated=False)["embedding"].attrs["weights_sha256"]
    collection = pystac.Collection.from_file(str(run.catalogue(tmp_path / "catalogue")))
    said = [
        item.properties["emb:runtime_parameters"]["weights_sha256"] for item in collection.get_all_items()
    ]
    assert said == [sha256]


def test_open_gives_a_tree_of_zones(whole):
    tree = xr_rsembed.open(whole)
    assert isinstance(tree, xr.DataTree)
    assert {"utm32", "utm33"} <= set(tree.children)
    for zone in ("utm32", "utm33"):
        array, read = tree[zone]["embedding"], open_region(whole)[zone]["embedding"]
        assert array.dims == ("time", "D", "y", "x")
        np.testing.assert_array_equal(array.sel(y=read.y, x=read.x).values, read.values)


@pytest.mark.parametrize("catalogue", ["another.json", None], ids=["other", "default"])
def test_another_catalogue_or_reader_is_refused(made, tmp_path, catalogue):
    store = tmp_path / "r.zarr"
    begin(store, made, area=POINT).run()
    before = content(store)
    moved = shutil.copy(made.catalog, tmp_path / made.catalog.name)
    begin(store, made, area=POINT, fetch={"catalog": moved, **skipped(made), "data_root": made.folder})
    other = {"catalog": shutil.copy(made.catalog, tmp_path / catalogue)} if catalogue else {}
    with pytest.raises(StoreError, match="catalog"):
        begin(store, made, area=POINT, fetch={**other, **skipped(made)})
    with pytest.raises(StoreError, match="reader stackstac"):
        begin(
            store, made, area=POINT, fetch={"catalog": made.catalog, "reader": "stackstac", **skipped(made)}
        )
    assert content(store) == before


def test_what_would_break_the_grid_is_refused(made, tmp_path):
    store, box = tmp_path / "r.zarr", tmp_path / "box.zarr"
    begin(store, made, area=POINT, clip=True).run()
    with pytest.raises(StoreError, match="side 448"):
        begin(store, made, area=POINT, clip=True, unit=448)
    with pytest.raises(StoreError, match="clip area"):
        begin(store, made, area=(12.0125, 45.974, 12.0135, 45.976), clip=True)
    with pytest.raises(StoreError, match="resolution 20"):
        begin(store, made, area=POINT, clip=True, resolution=20.0)
    begin(
        store, made, area=POINT, clip=True, overlap=0, blend="center"
    )  # said, and the defaults all the same
    tile = TILES[2]
    grid = GeoBox((448, 448), tile.transform, f"EPSG:{tile.epsg}")
    begin(box, made, area=POINT, grid=grid).run()
    assert begin(box, made, area=POINT, grid=grid[:224, :224]).zones["grid"].rows == 2, "it never shrinks"
    with pytest.raises(StoreError, match="grid left"):
        begin(box, made, area=POINT, grid=grid.translate_pix(16, 0))


def test_what_is_wrong_with_a_request_is_said_before_a_store_is_begun(made, tmp_path):
    store = tmp_path / "r.zarr"
    with pytest.raises(OptionError, match="nonsense"):
        begin(store, made, area=POINT, fetch={"catalog": made.catalog, "nonsense": 1}).run()
    with pytest.raises(OptionError, match="dark"):
        begin(store, made, area=POINT, dark=1).run()
    with pytest.raises(OptionError, match="resolution="):
        begin(store, made, area=POINT, fetch={"catalog": made.catalog, "scale_m": 20})
    assert not store.exists(), "a store begun with it would refuse the call that is right"


def test_a_region_fetches_what_the_model_takes(tmp_path):
    run = region(tmp_path / "r.zarr", POINT, MAY, "prithvi", modality="s2", weights="random", resolution=30)
    (lattice,) = run.zones.values()
    bands = ("B2", "B3", "B4", "B8A", "B11", "B12")
    assert (run.recipe.request.modality, run.recipe.request.sensor.bands) == ("S2L2A", bands)
    assert run.recipe.example(lattice).attrs["bands"] == [*bands]
    with pytest.raises(OptionError, match="takes no S1RTC"):
        region(tmp_path / "r.zarr", POINT, MAY, "prithvi", modality="sentinel-1")


def test_an_item_that_cannot_be_read_can_be_left_out_later(made, tmp_path, capsys):
    store = tmp_path / "r.zarr"
    assert begin(store, made, area=POINT, periods=JUNE, skip=False).run(retries=0).failed
    assert main(["region", "status", str(store)]) == 1
    remedy = re.search(r"remedy: .*?(-P 'skip_items=.*?')", capsys.readouterr().out)[1]
    box = " ".join(map(str, POINT))
    command = f"region {store} --bbox {box} --time {JUNE} -m probe --weights random --unit 224 --retry"
    assert main(shlex.split(f"{command} -P catalog={made.catalog} {remedy}")) == 0
    assert not begin(store, made, area=POINT, periods=JUNE, skip=False).status().failed


def test_options_of_the_process_do_not_change_a_store(made, tmp_path):
    store = tmp_path / "r.zarr"
    settings = {"fetch": {"catalog": str(made.catalog), **skipped(made)}, "weights": "random", "unit": 224}
    region(store, POINT, MAY, "terramind_v1_tiny", **settings).run()
    with (
        xr_rsembed.set_options(terramind__normalize="none"),
        pytest.raises(StoreError, match="normalization"),
    ):
        region(store, POINT, JUNE, "terramind_v1_tiny", **settings).run()


def test_workers_hold_to_the_options_of_the_caller(made, tmp_path):
    settings = {"fetch": {"catalog": str(made.catalog)}, "unit": 224}
    with xr_rsembed.set_options(
        terramind__normalize="none", terramind__layer_index=3, terramind__pretrained=False
    ):
        run = region(tmp_path / "r.zarr", POINT, MAY, "terramind_v1_tiny", **settings)
        sent = run.recipe.resolved()
    attrs = sent.example(run.zones["utm33"]).attrs
    assert attrs["normalization"].startswith("none")
    assert (attrs["layer"], attrs["weights"]) == (3, "random (seed 0)")


def test_cells_that_were_made_otherwise_are_not_written(made, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"a" * 64)
    run = begin(tmp_path / "r.zarr", made, area=EAST, weights=weights)
    status = run.run(workers=1, retries=0, after=lambda *_: weights.write_bytes(b"bb"))
    assert status.done
    assert status.failed
    assert all("weights_sha256" in reason for reason in status.failed.values())
    weights.write_bytes(b"a" * 64)
    assert not run.retry().failed


def test_empty_units_are_tried_again_when_asked(made, tmp_path):
    catalog = made.folder / "growing.json"
    items = json.loads(made.catalog.read_text())
    catalog.write_text(json.dumps(items | {"features": items["features"][:1]}))
    fetching = {"catalog": str(catalog), **skipped(made)}
    run = begin(tmp_path / "r.zarr", made, area=POINT, periods=JUNE, fetch=fetching)
    assert run.run().empty
    catalog.write_text(json.dumps(items))
    assert run.retry().empty, "what was empty is finished"
    status = run.retry(empty=True)
    assert status.done
    assert not status.empty


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of a made S3 on loopback, as arguments of region()."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    boto3 = pytest.importorskip("boto3")
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    server.start()
    host, port = server.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="regions")
    yield {"store": "s3://regions/r.zarr", "storage_options": {"endpoint_url": f"http://{host}:{port}"}}
    server.stop()


def test_a_region_in_a_bucket(made, whole, bucket, tmp_path):
    run = begin(bucket.pop("store"), made, area=POINT, **bucket)
    assert run.run(part=(1, 2)).left
    assert not run.run().left
    place = {"store": "s3://regions/r.zarr", **bucket}
    assert region_status(**place) == run.status()
    assert_same(open_region(**place), open_region(whole))
    run.preview()
    item = json.loads(next(run.catalogue(tmp_path / "stac").parent.glob("utm*/*.json")).read_text())
    assert item["assets"]["embeddings"]["href"].startswith("s3://regions/r.zarr/utm")


@pytest.mark.parametrize("kind", ["icechunk", "memory"])
def test_a_region_in_a_store_of_this_process(made, whole, tmp_path, kind):
    if kind == "icechunk":
        icechunk = pytest.importorskip("icechunk")
        repository = icechunk.Repository.create(icechunk.in_memory_storage())
        session = repository.writable_session("main")
        store = session.store
    else:
        store = zarr.storage.MemoryStore()
    run = begin(store, made, area=POINT)
    with pytest.raises(StoreError, match="workers cannot write"):
        run.run(client=object())
    assert run.run().done
    with pytest.raises(StoreError, match="no address"):
        run.catalogue(tmp_path / "stac")
    if kind == "icechunk":
        session.commit("May")
        store = repository.readonly_session("main").store
        more = begin(repository.writable_session("main").store, made, area=POINT, periods=[MAY, JUNE])
        assert len(more.run().left) == 0
    assert_same(open_region(store), open_region(whole))


def assert_same(tree, whole) -> None:
    """The cells of a tree are those of the undisturbed run."""
    assert tree.children
    for zone in tree.children:
        array, expected = tree[zone]["embedding"], whole[zone]["embedding"]
        there = expected.sel(time=array.time).reindex(y=array.y, x=array.x)
        assert np.isfinite(array.values).any()
        seen = np.isfinite(array.values)
        np.testing.assert_array_equal(array.values[seen], there.values[seen])


def test_what_a_killed_writer_leaves_goes_with_the_last_unit(made, tmp_path):
    run = begin(tmp_path / "r.zarr", made, area=POINT)
    run.run()
    before = content(tmp_path / "r.zarr")
    (tmp_path / "r.zarr" / "utm33" / ".zarr.json.0a1b.partial").write_bytes(b"half")
    run.run()
    assert content(tmp_path / "r.zarr") == before


def test_parts_write_one_store(made, whole, tmp_path):
    store = tmp_path / "r.zarr"
    first = begin(store, made).run(part=(1, 3))
    assert first.left
    for number in (2, 0):
        begin(store, made).run(part=(number, 3))
    assert content(store) == content(whole)


def test_on_a_cluster(made, whole, tmp_path):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        status = begin(tmp_path / "r.zarr", made).run(client=client)
        kinds = client.run_on_scheduler(lambda dask_scheduler: set(dask_scheduler.task_prefixes))
    assert kinds == {"work"}, (
        "a worker makes its unit itself: tasks of its own would let it begin the next one"
    )
    assert not status.failed
    assert content(tmp_path / "r.zarr") == content(whole)


def test_a_cluster_without_workers_is_not_waited_for_for_ever(made, tmp_path):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
        xr_rsembed.set_options(workers_wait=1),
        pytest.raises(StoreError, match="no worker for 1 second"),
    ):
        begin(tmp_path / "r.zarr", made, area=POINT).run(client=client)
    assert not begin(tmp_path / "r.zarr", made, area=POINT).run().left, "the same call again"


KILLED = """
import sys
from tests import fakes
from xr_rsembed.regions import region
fakes.register()
store, catalog, skip, bbox = sys.argv[1:3] + [sys.argv[3], tuple(map(float, sys.argv[4].split(",")))]
fetching = {"catalog": catalog, "skip_items": [skip]}
run = region(store, bbox, "2023-05-01/2023-05-10", "probe", weights="random", unit=224, fetch=fetching)
print("begun", flush=True)
run.run(after=lambda unit, state: print(unit, flush=True))
"""


def kill_and_finish(made, whole, store, seed: int) -> str:
    """Kill a run after a random number of units, at a random moment; go on; compare every byte."""
    rng = random.Random(seed)
    bbox = ",".join(map(str, AREA))
    command = [sys.executable, "-W", "ignore", "-c", KILLED, store, made.catalog, made.unreadable, bbox]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    lines, wait = rng.randint(1, 6), rng.uniform(0, 0.15)
    for _ in range(lines):
        process.stdout.readline()
    time.sleep(wait)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not begin(store, made).run().left
    assert content(store) == content(whole)
    return f"{wait:.2f} s after line {lines}"


def test_a_killed_run_goes_on_to_the_same_bytes(made, whole, tmp_path):
    kill_and_finish(made, whole, tmp_path / "r.zarr", seed=1)  # make chaos takes twenty


def test_earth_engine_gives_the_same_store(made, whole, tmp_path):
    ee = pytest.importorskip("ee")
    ee.Reset()
    with EarthEngineServer(made.images()) as server:
        fetching = {"project": "xr-test", "url": server.url}
        run = begin(tmp_path / "r.zarr", made, area=EAST, provider="gee", fetch=fetching)
        assert not run.run().failed
    ee.Reset()
    there, here = (open_region(store)["utm33"]["embedding"] for store in (tmp_path / "r.zarr", whole))
    here = here.sel(y=there.y, x=there.x)
    both = np.isfinite(there.values) & np.isfinite(here.values)
    assert both.mean() > 0.3
    np.testing.assert_array_equal(np.isfinite(there.values), np.isfinite(here.values))
    assert np.quantile(np.abs(there.values - here.values)[both], 0.99) < 0.02


def test_clip_and_grids(made, tmp_path):
    triangle = shapely.Polygon([(12.01, 45.97), (12.025, 45.97), (12.01, 45.99)])
    clipped = begin(tmp_path / "clip.zarr", made, area=triangle, clip=True)
    clipped.run()
    stored = open_region(tmp_path / "clip.zarr")["utm33"]["embedding"].isel(time=0, D=0)
    inside = geopandas.GeoSeries([triangle], crs=4326).to_crs(32633)[0]
    y, x = np.meshgrid(stored.y, stored.x, indexing="ij")
    within = shapely.contains_xy(inside, x, y)
    assert np.isfinite(stored.values).any()
    assert not np.isfinite(stored.values[~within]).any()
    laea = begin(tmp_path / "laea.zarr", made, area=POINT, grid="EPSG:3035")
    assert not laea.run().failed
    assert open_region(tmp_path / "laea.zarr")["grid"]["embedding"].rio.crs.to_epsg() == 3035
    tile = TILES[2]
    box = GeoBox((256, 256), tile.transform, f"EPSG:{tile.epsg}")
    exact = begin(tmp_path / "box.zarr", made, area=POINT, grid=box)
    exact.run()
    stored = open_region(tmp_path / "box.zarr")["grid"]["embedding"]
    assert (float(stored.x[0]), float(stored.y[0])) == (tile.left + 80, tile.top - 80)


def test_areas():
    for across in (
        (179.5, -1, -179.5, 1),
        shapely.box(179.5, -1, 180.5, 1),
        shapely.box(-180.5, -1, -179.5, 1),
    ):
        assert area_geometry(across).area == pytest.approx(2)
        assert area_geometry(across).bounds == (-180, -1, 180, 1)
    square = geopandas.GeoSeries([mgrs_square("33TTM")], crs=4326).to_crs(32633)[0]
    assert [round(edge / 1000) for edge in square.bounds] == [200, 5100, 300, 5200]
    south = geopandas.GeoSeries([mgrs_square("21MYT")], crs=4326).to_crs(32721)[0]
    assert [round(edge / 1000) for edge in south.bounds] == [700, 9700, 800, 9800]
    collection = json.loads(shapely.to_geojson(shapely.GeometryCollection([shapely.box(9, 45, 10, 46)])))
    assert area_geometry(collection).area == pytest.approx(1)
    broken = {"type": "Polygon", "coordinates": [[[0, 0], [1]]]}
    for wrong in ("33TTM.geojson", "33T", (9, 45, 9, 45), 5, ["33TIM"], broken, shapely.Point(9, 45)):
        with pytest.raises(GridError):
            area_geometry(wrong)
    with pytest.raises(GridError, match="poles"):
        region("r.zarr", (9, 85, 10, 86), MAY)
    with pytest.raises(OptionError):
        region("r.zarr", (9, 45, 10, 46), MAY, output="pooled")
    with pytest.raises(StoreNotFoundError):
        region_status("nothing-here.zarr")


def test_preview_and_catalogue(made, whole, tmp_path):
    import pystac

    store = tmp_path / "r.zarr"
    shutil.copytree(whole, store)
    run = begin(store, made)
    run.preview()
    tree = xr.open_datatree(store, engine="zarr", consolidated=False)
    fine = tree["preview/utm33/0"]["rgba"]
    emb = tree["utm33"]["embedding"]
    assert fine.shape == (1, 4, *emb.shape[2:])
    seen = open_region(store)["utm33"]["embedding"].isel(time=0, drop=True)
    alpha = fine.sel(y=seen.y, x=seen.x).isel(time=0, band=3)
    np.testing.assert_array_equal(alpha.values > 0, np.isfinite(seen.values).all(0))
    coarse = tree["preview/utm33/2"]["rgba"]
    coarse = coarse.isel(time=0).where(coarse.isel(time=0, band=3) > 0)
    compared = 0
    for row, column in np.argwhere(coarse.values[3] > 0):
        near = coarse[:, row, column]
        y, x = (
            slice(float(near[dim]) + step, float(near[dim]) - step) for dim, step in (("y", 320), ("x", -320))
        )
        block = fine.sel(y=y, x=x).isel(time=0).values
        if block.shape == (4, 4, 4) and (block[3] > 0).all():
            assert np.abs(block[:3].mean((1, 2)) - near.values[:3]).max() <= 1.5
            compared += 1
    assert compared
    path = run.catalogue(tmp_path / "catalogue")
    collection = pystac.Collection.from_file(str(path))
    items = list(collection.get_all_items())
    assert sorted(item.id for item in items) == ["utm32_2023-05-01_2023-05-10", "utm33_2023-05-01_2023-05-10"]
    assert shapely.box(*items[0].bbox).intersects(shapely.box(*made.bbox))
    assert items[0].properties["proj:code"] in ("EPSG:32632", "EPSG:32633")
    assert (
        xr.open_zarr(items[0].assets["embeddings"].get_absolute_href(), consolidated=False)["embedding"].ndim
        == 4
    )


def test_the_command_line(made, tmp_path, capsys):
    store = tmp_path / "r.zarr"
    box = [str(edge) for edge in EAST]
    command = [
        "region",
        str(store),
        "--bbox",
        *box,
        "--time",
        MAY,
        "-m",
        "probe",
        "--weights",
        "random",
        "--unit",
        "224",
    ]
    command += ["-P", f"catalog={made.catalog}", "-P", f'skip_items=["{made.unreadable}"]']
    assert main([*command, "--dry-run"]) == 0
    assert "utm33_" in capsys.readouterr().out
    assert not store.exists()
    assert main(command) == 0
    assert "0 failed, 0 left" in capsys.readouterr().out
    assert main(["region", "status", str(store)]) == 0
    assert "0 failed" in capsys.readouterr().out
    assert main([*command, "--overlap", "64"]) == 1
    assert main(["region", "status", str(tmp_path / "none.zarr")]) == 1
