"""Adding to stores, sharing them, and stores that are no folders."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections import Counter

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

import xr_rsembed
from benchmarks.store import Counting
from tests.chaos.fake import embedding, files, runs
from tests.test_store_zarr import ROOT, cut_off, killing, stopping
from xr_rsembed.errors import OptionError, RsEmbedWarning, StoreError, StoreExistsError, StoreLockedError
from xr_rsembed.store import additions, write
from xr_rsembed.store.group import STATE
from xr_rsembed.store.read import open_zarr
from xr_rsembed.store.target import TOKEN
from xr_rsembed.store.zarr import to_zarr


def dated(*days: str, seed: int = 0, **how) -> xr.DataArray:
    each = [embedding(seed=seed + int(day[-2:]), **how) for day in days]
    times = np.array(days, dtype="datetime64[ns]")
    return xr.concat(each, "time", coords="minimal", compat="override").assign_coords(time=times)


def state(path, group: str = "") -> str:
    return zarr.open_group(path, path=group, mode="r").attrs[STATE]


# append_dim and region


def test_dates_are_appended_and_what_is_there_stays(tmp_path):
    path = tmp_path / "emb.zarr"
    to_zarr(dated("2022-06-01", "2022-06-02"), path)
    before, attrs = files(path), dict(zarr.open_group(path).attrs)
    stored = to_zarr(dated("2022-06-03"), path, append_dim="time")
    whole = dated("2022-06-01", "2022-06-02", "2022-06-03").compute()
    xr.testing.assert_identical(stored.compute(), whole)
    xr.testing.assert_identical(xr.open_zarr(path, decode_coords="all").embedding.compute(), whole)
    after = files(path)
    assert all(after[name] == content for name, content in before.items() if "embedding/c/" in name)
    now = dict(zarr.open_group(path).attrs)
    assert {key: now[key] for key in attrs if key.startswith("geoemb")} == {
        key: attrs[key] for key in attrs if key.startswith("geoemb")
    }
    assert now[STATE] == "complete"
    assert json.loads(after["zarr.json"])["consolidated_metadata"]["metadata"]["time"]["shape"] == [3]


def test_a_store_that_is_not_there_is_begun_by_an_append(tmp_path):
    stored = to_zarr(dated("2022-06-01"), tmp_path / "emb.zarr", append_dim="time", mode="a")
    assert stored.sizes["time"] == 1


def test_an_append_that_was_cut_off_is_finished_by_the_same_call(tmp_path):
    path, log = tmp_path / "emb.zarr", tmp_path / "log"
    to_zarr(dated("2022-06-01"), path)
    with stopping():
        to_zarr(dated("2022-06-02"), path, append_dim="time")
    assert state(path) == "incomplete"
    with pytest.raises(StoreError, match="not finished"):
        to_zarr(dated("2022-06-03"), path, append_dim="time")
    stored = to_zarr(dated("2022-06-02", log=log), path, append_dim="time", resume=True)
    assert len(runs(log)) == 9
    xr.testing.assert_identical(stored.compute(), dated("2022-06-01", "2022-06-02").compute())
    assert state(path) == "complete"


@pytest.mark.parametrize("stage", ["append_coords", "_resize", "consolidate"])
@pytest.mark.parametrize("then", ["append", "resume"])
def test_an_append_that_was_cut_off_while_the_store_grew(tmp_path, monkeypatch, stage, then):
    def dies(*_, **__):
        raise KeyboardInterrupt

    path = tmp_path / "emb.zarr"
    to_zarr(dated("2022-06-01"), path)
    before = files(path)
    monkeypatch.setattr(additions, stage, dies)
    with pytest.raises(KeyboardInterrupt):
        to_zarr(dated("2022-06-02"), path, append_dim="time")
    monkeypatch.undo()
    with pytest.warns(RsEmbedWarning, match="not finished"):
        xr.testing.assert_identical(open_zarr(path).compute(), dated("2022-06-01").compute())
    if then == "resume":  # of the store as it was
        to_zarr(dated("2022-06-01"), path, resume=True)
        assert files(path) == before
    stored = to_zarr(dated("2022-06-02"), path, append_dim="time", resume=True)
    xr.testing.assert_identical(stored.compute(), dated("2022-06-01", "2022-06-02").compute())
    xr.testing.assert_identical(xr.open_zarr(path, decode_coords="all").embedding.compute(), stored.compute())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda emb: emb.assign_attrs(weights_sha256="1" * 64), "weights_sha256"),
        (lambda emb: emb.assign_coords(x=emb.x + 10), "'x'"),
        (lambda emb: emb.isel(y=slice(0, 28)), "shape.y"),
        (lambda emb: emb.assign_coords(time=np.array(["2022-06-01"], "datetime64[ns]")), "already"),
        (lambda emb: emb.assign_coords(time=["June"]), "dtype datetime64"),
        (lambda emb: emb.assign_coords(time=emb.time + np.timedelta64(500, "ns")), "whole microseconds"),
        (lambda emb: xr.concat([emb, emb], "time"), "twice"),
    ],
)
def test_what_does_not_belong_to_a_store_is_not_appended(tmp_path, change, words):
    path = tmp_path / "emb.zarr"
    to_zarr(dated("2022-06-01"), path)
    before = files(path)
    with pytest.raises(StoreError, match=words):
        to_zarr(change(dated("2022-06-02")), path, append_dim="time")
    assert files(path) == before


def test_an_int8_store_takes_no_values_beyond_its_range(tmp_path):
    path = tmp_path / "emb.zarr"
    to_zarr(dated("2022-06-01"), path, dtype="int8")
    stored = to_zarr(dated("2022-06-02"), path, append_dim="time")
    assert float(abs(stored - dated("2022-06-01", "2022-06-02")).max()) < 0.01
    before = files(path)
    louder = dated("2022-06-03") * 3
    louder.attrs = dated("2022-06-03").attrs
    with pytest.raises(StoreError, match="beyond the range"):
        to_zarr(louder, path, append_dim="time")
    after = files(path)
    attrs = [json.loads(one.pop("zarr.json"))["attributes"] for one in (before, after)]
    assert attrs[0] == attrs[1]
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set()
    assert state(path) == "complete"
    xr.testing.assert_identical(open_zarr(path).compute(), stored.compute())
    assert xr.open_zarr(path).sizes["time"] == 2
    again = to_zarr(dated("2022-06-03"), path, append_dim="time")
    assert float(abs(again - dated("2022-06-01", "2022-06-02", "2022-06-03")).max()) < 0.01


def test_a_region_is_repaired_and_the_rest_stays(tmp_path):
    path = tmp_path / "emb.zarr"
    to_zarr(embedding(), path)
    repaired = embedding(seed=3).isel(y=slice(28, 56))
    stored = to_zarr(repaired, path, region={"y": slice(28, 56)}, mode="r+")
    expected = xr.concat([embedding()[:, :28], repaired, embedding()[:, 56:]], "y").compute()
    np.testing.assert_array_equal(stored.values, expected.values)
    to_zarr(embedding().isel(y=slice(28, 56)), path, region="auto")
    np.testing.assert_array_equal(open_zarr(path).values, embedding().values)
    assert state(path) == "complete"
    for region in ("all", [slice(0, 28)], {"y": 28}, {"y": slice(0.0, 28.0)}, {"y": slice(0, 28, 2)}):
        with pytest.raises(OptionError, match="region cannot be used"):
            to_zarr(embedding(), path, region=region)
    with pytest.raises(StoreError, match="in part along 'y'"):
        to_zarr(embedding().isel(y=slice(20, 56)), path, region="auto")


def test_nothing_is_appended_along_a_dim_that_the_store_has_not(tmp_path):
    path = tmp_path / "emb.zarr"
    to_zarr(embedding(), path)
    before = files(path)
    with pytest.raises(StoreError, match="dims"):
        to_zarr(embedding().expand_dims("time"), path, append_dim="time")
    assert files(path) == before


def test_regions_of_a_template(tmp_path):
    path = tmp_path / "emb.zarr"
    to_zarr(embedding(), path, compute=False)
    for rows in (slice(56, 94), slice(0, 56)):
        assert state(path) == "incomplete"
        to_zarr(embedding().isel(y=rows), path, region="auto")
    assert state(path) == "complete"
    xr.testing.assert_identical(open_zarr(path).compute(), embedding().compute())


# several runs, several variables


def test_parts_are_written_by_jobs_that_do_not_talk(tmp_path):
    path, log = tmp_path / "emb.zarr", tmp_path / "log"
    jobs = [
        threading.Thread(target=to_zarr, args=(embedding(log, seconds=0.01), path), kwargs={"part": (i, 5)})
        for i in range(5)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    for number in range(5):  # a job that met another at the beginning is started again, as a queue does
        to_zarr(embedding(log), path, part=(number, 5))
    assert state(path) == "complete"
    xr.testing.assert_identical(open_zarr(path).compute(), embedding().compute())
    for part in ((5, 5), 5):
        with pytest.raises(OptionError, match="n parts"):
            to_zarr(embedding(), path, part=part)


def test_groups_open_as_a_tree(tmp_path):
    path = tmp_path / "zones.zarr"
    for zone in ("utm32", "utm33"):
        to_zarr(embedding(), path, group=zone)
    with pytest.raises(StoreExistsError):
        to_zarr(embedding(), path, group="utm33")
    to_zarr(embedding(seed=1), path, group="utm33", overwrite=True)
    tree = xr_rsembed.open(path)
    assert sorted(tree.children) == ["utm32", "utm33"]
    xr.testing.assert_identical(tree["utm33"].embedding.compute(), embedding(seed=1).compute())
    alone = xr_rsembed.open(path, group="utm32")
    xr.testing.assert_identical(alone.compute(), embedding().compute())
    assert set(xr.open_datatree(path, engine="zarr").children) >= {"utm32", "utm33"}


@pytest.mark.parametrize("kind", ["folder", "icechunk"])
def test_groups_below_a_group_that_is_replaced_stay(tmp_path, kind):
    path = tmp_path / "emb.zarr"
    if kind == "icechunk":
        icechunk = pytest.importorskip("icechunk")
        path = icechunk.Repository.create(icechunk.in_memory_storage()).writable_session("main").store
    to_zarr(embedding(), path)
    to_zarr(embedding(seed=1), path, group="below/it")
    stored = to_zarr(embedding(seed=2), path, overwrite=True)
    xr.testing.assert_identical(stored.compute(), embedding(seed=2).compute())
    below = open_zarr(path, group="below/it")
    xr.testing.assert_identical(below.compute(), embedding(seed=1).compute())
    if kind == "folder":
        assert "/below/it" in xr.open_groups(path, engine="zarr")


def test_variables_that_share_a_graph_are_computed_once(tmp_path):
    log = tmp_path / "log"
    emb = embedding(log)
    two = xr.Dataset({"a": emb, "b": emb.copy(data=emb.data * 2)})
    stored = to_zarr(two, tmp_path / "two.zarr")
    assert len(runs(log)) == emb.data.npartitions
    np.testing.assert_array_equal(stored["b"].values, embedding().values * 2)


# what must not be lost or believed


def test_the_source_of_an_embedding_is_not_replaced_by_it(tmp_path):
    path = tmp_path / "emb.zarr"
    to_zarr(embedding(), path)
    for source in (open_zarr(path), xr.open_zarr(path).embedding, xr.open_zarr(path).embedding.mean("D")):
        with pytest.raises(StoreError, match="read from"):
            to_zarr(source.rename("embedding"), path, overwrite=True)
    xr.testing.assert_identical(open_zarr(path).compute(), embedding().compute())


def test_what_to_zarr_did_not_write_is_not_replaced(tmp_path):
    path = tmp_path / "scene.zarr"
    embedding().compute().to_dataset().to_zarr(path)
    before = files(path)
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(StoreExistsError, match="did not write"):
            to_zarr(embedding(), path, **options)
    assert files(path) == before


@pytest.mark.parametrize("left", [0.5, 0.0, -4])
def test_a_shard_that_is_cut_or_gone_is_written_again(tmp_path, left):
    path = tmp_path / "emb.zarr"
    to_zarr(embedding(), path)
    before = files(path)
    shard = path / "embedding/c/0/1/1"
    content = shard.read_bytes()
    shard.write_bytes(content[: int(len(content) * left) if left >= 0 else left])
    (path / "embedding/c/0/2/2").unlink()
    log = tmp_path / "log"
    to_zarr(embedding(log), path, resume=True)
    assert sorted(runs(log)) == [(0, 1, 1), (0, 2, 2)]
    assert files(path) == before


def test_trust_is_recorded(tmp_path):
    path = tmp_path / "emb.zarr"
    cut_off(path, tmp_path / "log")
    with pytest.raises(StoreError, match="other pixels"):
        to_zarr(embedding(seed=1), path, resume=True)
    to_zarr(embedding(seed=1), path, resume=True, verify=False)
    assert zarr.open_group(path).attrs["rsembed_unverified"] is True


def test_values_without_windows_are_compared_themselves(tmp_path):
    path, values = tmp_path / "emb.zarr", embedding().compute()
    to_zarr(values, path)
    to_zarr(values, path, resume=True)
    changed = values.copy(deep=True)
    changed[-1, -1, -1] += 1
    with pytest.raises(StoreError, match="other values behind embedding"):
        to_zarr(changed, path, resume=True)


def test_blocks_that_fail_are_tried_again_and_the_others_are_done(tmp_path, monkeypatch):
    tries: list[object] = []
    put = write._Writer.__call__

    def fails(self, index, values, digests):
        if index == (0, 1, 1):
            tries.append(index)
            if len(tries) < 3:
                raise RuntimeError("flaky")
        return put(self, index, values, digests)

    monkeypatch.setattr(write._Writer, "__call__", fails)
    with pytest.raises(StoreError, match=r"1 blocks failed(.|\n)*embedding 0\.1\.1"):
        to_zarr(embedding(), tmp_path / "emb.zarr", retries=0)
    assert len(list((tmp_path / "emb.zarr/embedding/c").rglob("*"))) > 11
    to_zarr(embedding(), tmp_path / "emb.zarr", resume=True, retries=1)
    xr.testing.assert_identical(open_zarr(tmp_path / "emb.zarr").compute(), embedding().compute())


# coords


def test_coords_as_catalogues_give_them(tmp_path):
    times = xr.date_range("2022-06-01", periods=94, tz="UTC")
    emb = embedding().assign_coords(
        when=("y", times),
        none=((), None),
        box=((), np.array({"a": [1, 2]}, dtype=object)),
        mixed=("x", np.array([1.5, None] * 37 + [2], dtype=object)),
    )
    stored = to_zarr(emb, tmp_path / "emb.zarr")
    assert stored.when.values[1] == np.datetime64("2022-06-02")
    assert stored.box.item() == '{"a": [1, 2]}'
    assert np.isnan(stored.mixed.values[1])
    bad = embedding().assign_coords(meta=((), np.array({1, 2}, dtype=object)))
    for overwrite in (False, True):
        with pytest.raises(StoreError, match=r"'meta'(.|\n)*drop_vars"):
            to_zarr(bad, tmp_path / "emb.zarr", overwrite=overwrite)
    assert stored.equals(open_zarr(tmp_path / "emb.zarr"))


# stores that are no folders


@pytest.mark.parametrize("kind", ["MemoryStore", "obstore", "url", "chained"])
def test_other_stores(tmp_path, kind):
    emb = embedding()
    if kind == "MemoryStore":
        store = zarr.storage.MemoryStore()
    elif kind == "obstore":
        store = zarr.storage.ObjectStore(pytest.importorskip("obstore.store").MemoryStore())
    else:
        store = {"url": "memory://", "chained": "dir::memory://"}[kind] + f"{tmp_path.name}/emb.zarr"
    options = {"storage_options": {}} if isinstance(store, str) else {}
    xr.testing.assert_identical(to_zarr(emb, store, **options).compute(), embedding().compute())
    with pytest.raises(StoreExistsError):
        to_zarr(emb, store, **options)
    to_zarr(emb, store, resume=True, **options)
    stored = to_zarr(embedding(seed=1), store, overwrite=True, **options)
    xr.testing.assert_identical(stored.compute(), embedding(seed=1).compute())
    xr.testing.assert_identical(xr_rsembed.open(store).compute(), embedding(seed=1).compute())


def test_icechunk_keeps_the_last_commit(tmp_path):
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    session = repository.writable_session("main")
    to_zarr(embedding(), session.store)
    session.commit("one")
    session = repository.writable_session("main")
    with pytest.raises(StoreError, match="this block fails"):
        to_zarr(embedding(seed=1, fails_at=(0, 2, 1)), session.store, overwrite=True)
    kept = open_zarr(repository.readonly_session("main").store)
    xr.testing.assert_identical(kept.compute(), embedding().compute())
    session = repository.writable_session("main")
    to_zarr(embedding(seed=1), session.store, overwrite=True)
    session.commit("two")
    new = open_zarr(repository.readonly_session("main").store)
    xr.testing.assert_identical(new.compute(), embedding(seed=1).compute())


def test_a_cluster_computes_for_a_store_that_only_this_process_has():
    distributed = pytest.importorskip("distributed")
    store = zarr.storage.MemoryStore()
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        stored = to_zarr(embedding(), store)
    xr.testing.assert_identical(stored.compute(), embedding().compute())


def test_a_cluster_that_never_has_a_worker_is_a_named_error(tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        distributed.Client(cluster),
        xr_rsembed.set_options(workers_wait=1),
        pytest.raises(StoreError, match="no worker"),
    ):
        to_zarr(embedding(), tmp_path / "emb.zarr")


def test_a_cluster_whose_last_worker_dies_is_a_named_error(tmp_path):
    distributed = pytest.importorskip("distributed")
    path, log = tmp_path / "emb.zarr", tmp_path / "log"
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as cluster,
        distributed.Client(cluster) as client,
        xr_rsembed.set_options(workers_wait=20),  # of which it has a fifth once it had a worker
    ):
        command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
        worker = subprocess.Popen(
            [*command, "--no-nanny", "--nthreads", "1", "--no-dashboard"], cwd=ROOT, stderr=-3
        )
        try:
            client.wait_for_workers(1)
            with killing(log, 2, worker.kill), pytest.raises(StoreError, match="no worker for 4 seconds"):
                to_zarr(embedding(log, seconds=0.3), path, progress=False)
        finally:
            worker.kill()
            worker.wait()
    xr.testing.assert_identical(to_zarr(embedding(), path, resume=True).compute(), embedding().compute())


def test_a_cluster_that_scales_up_from_nothing_is_waited_for(tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 0, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        starting = threading.Timer(3, cluster.scale, (1,))
        starting.start()
        stored = to_zarr(embedding(), tmp_path / "emb.zarr")
    xr.testing.assert_identical(stored.compute(), embedding().compute())


# requests


@pytest.mark.parametrize("flushed", [0, math.inf])
def test_requests_a_shard_on_an_object_store(monkeypatch, flushed):
    """A shard is one request; its digest one more, or less where several are written together."""
    monkeypatch.setattr("xr_rsembed.store.block_record.FLUSH_S", flushed - 1)
    monkeypatch.setattr(
        "xr_rsembed.store.block_record.TRUSTED_S", math.inf
    )  # the token: once a second in truth
    totals = {}
    for rows, columns in ((2, 3), (4, 5)):
        store = Counting(zarr.storage.MemoryStore())
        emb = embedding(chunks=((24,), (28,) * rows, (28,) * columns))
        with dask.config.set(scheduler="synchronous"):
            stored = to_zarr(emb, store)
        totals[rows, columns] = len(store.asked)
        kinds = Counter((verb, key.partition("/c/")[0]) for verb, key in store.asked)
        assert kinds["put", "embedding"] == rows * columns
        assert kinds["put", "rsembed_blocks/embedding"] == (rows * columns if flushed == 0 else rows)
        assert kinds["get", "embedding"] == kinds["get", "rsembed_blocks/embedding"] == 0
        assert kinds["get", TOKEN] == 1 + 1  # by who begins, and before the first shard
        xr.testing.assert_identical(stored.compute(), emb.compute())
    of_shards = (20 - 6) * 2 if flushed == 0 else (20 - 6) + (4 - 2)
    assert totals[4, 5] - totals[2, 3] == of_shards
    assert (
        totals[2, 3] <= 2 * 6 + 40
    )  # metadata, coords, the listing at the end, and opening what was written


def test_the_token_is_asked_for_again_after_a_while(monkeypatch):
    monkeypatch.setattr("xr_rsembed.store.block_record.TRUSTED_S", 0.0)
    store = Counting(zarr.storage.MemoryStore())
    emb = embedding()
    to_zarr(emb, store)
    assert store.asked.count(("get", TOKEN)) > emb.data.npartitions


def test_the_second_of_two_fresh_writers_is_refused(tmp_path):
    store = f"memory://{tmp_path.name}/emb.zarr"
    endings: list[object] = []

    def job(seed: int) -> None:
        try:
            to_zarr(embedding(seed=seed, seconds=0.05), store)
            endings.append(seed)
        except (StoreExistsError, StoreLockedError):
            endings.append(None)

    threads = [threading.Thread(target=job, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [seed for seed in endings if seed]
    xr.testing.assert_identical(open_zarr(store).compute(), embedding(seed=winner).compute())
