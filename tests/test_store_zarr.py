"""Zarr stores: what comes back is what went in, whatever dies on the way."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
import zarr

from tests.chaos.fake import OVERLAPPED, REGULAR, embedding, files, runs
from xr_rsembed.errors import (
    OptionError,
    RsEmbedWarning,
    StoreError,
    StoreExistsError,
    StoreLockedError,
    StoreNotFoundError,
)
from xr_rsembed.store import write
from xr_rsembed.store.disk import DurableStore, locked
from xr_rsembed.store.read import open_zarr
from xr_rsembed.store.target import FOLDER, Target
from xr_rsembed.store.zarr import to_zarr

ROOT = Path(__file__).resolve().parents[1]
CHUNKS = {"regular": REGULAR, "overlapped": OVERLAPPED}


@pytest.fixture(params=CHUNKS)
def chunks(request):
    return CHUNKS[request.param]


@contextmanager
def killing(log: Path, blocks: int, kill: Callable[[], object]) -> Iterator[None]:
    """Call ``kill`` in a thread beside what is done here, once so many blocks of ``log`` have been run."""

    def wait() -> None:
        while len(runs(log)) < blocks:
            time.sleep(0.01)
        kill()

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


@contextmanager
def stopping(after: int = 3) -> Iterator[None]:
    """Writing that stops after some blocks."""
    put, count = write._Writer.__call__, []

    def until(self, index, values, digests):
        count.append(index)
        if len(count) > after:
            raise KeyboardInterrupt
        return put(self, index, values, digests)

    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(write._Writer, "__call__", until)
        with pytest.raises(KeyboardInterrupt):
            yield


def cut_off(path: Path, log: Path, after: int = 3, **how) -> xr.DataArray:
    """A store whose writing failed after some blocks."""
    options = {name: how.pop(name) for name in ("dtype", "scale", "overwrite") if name in how}
    emb = embedding(log, **how)
    with stopping(after):
        to_zarr(emb, path, **options)
    return emb


# what is written


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_round_trip(tmp_path, chunks, scheduler):
    emb = embedding(tmp_path / "log", chunks=chunks)
    with dask.config.set(scheduler=scheduler):
        stored = to_zarr(emb, tmp_path / "emb.zarr")
    assert len(runs(tmp_path / "log")) == len(set(runs(tmp_path / "log"))) == emb.data.npartitions
    xr.testing.assert_identical(stored.compute(), embedding(chunks=chunks).compute())
    assert stored.rio.crs == "EPSG:32632"
    assert stored.rio.transform() == emb.rio.transform()
    assert stored.chunks[0] == (24,)


def test_xarray_alone_reads_it(tmp_path):
    to_zarr(embedding(), tmp_path / "emb.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = xr.open_zarr(tmp_path / "emb.zarr", decode_coords="all")
    xr.testing.assert_identical(plain["embedding"].compute(), embedding().compute())
    assert plain.rio.crs == "EPSG:32632"


def test_shards_are_the_bytes_that_zarr_writes(tmp_path, chunks):
    stored = to_zarr(embedding(chunks=chunks), tmp_path / "ours.zarr")
    names = ("chunks", "shards", "compressors", "_FillValue")
    same = {name: stored.encoding[name] for name in names} | {"write_empty_chunks": True}
    values = embedding(chunks=chunks).compute().drop_encoding().to_dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values.to_zarr(tmp_path / "zarrs.zarr", zarr_format=3, encoding={"embedding": same})
    ours, theirs = files(tmp_path / "ours.zarr"), files(tmp_path / "zarrs.zarr")
    written = [name for name in ours if name.startswith("embedding/c/")]
    assert written
    assert written == [name for name in theirs if name.startswith("embedding/c/")]
    assert all(ours[name] == theirs[name] for name in written)


@pytest.mark.parametrize("shape", ["pooled", "tiles", "time", "dates of vectors", "in memory", "D in chunks"])
def test_every_output_of_the_engine(tmp_path, shape):
    grid = embedding()
    emb = {
        "pooled": grid.mean(("y", "x"), keep_attrs=True),
        "tiles": grid.rename(y="tile_y", x="tile_x"),
        "time": xr.concat([grid, grid + 1], "time", coords="minimal", compat="override").assign_coords(
            time=np.array(["2022-06-01", "2022-07-01"], dtype="datetime64[ns]")
        ),
        "dates of vectors": xr.concat([grid.mean(("y", "x"))] * 3, "time"),
        "in memory": grid.compute(),
        "D in chunks": grid.chunk(D=10),
    }[shape].rename("embedding")
    stored = to_zarr(emb, tmp_path / "emb.zarr")
    xr.testing.assert_identical(stored.compute(), emb.compute())


def test_variables_of_a_dataset_share_a_store(tmp_path):
    both = xr.Dataset({"S2L2A": embedding(seed=1), "S1RTC": embedding(seed=2)})
    stored = to_zarr(both, tmp_path / "both.zarr")
    xr.testing.assert_equal(stored.compute(), both.compute())
    assert stored["S1RTC"].rio.crs == "EPSG:32632"


def test_lengths_of_shards_and_chunks(tmp_path):
    stored = to_zarr(
        embedding(), tmp_path / "emb.zarr", shards={"y": 40, "x": 60}, chunks={"D": 6, "y": 20, "x": 20}
    )
    assert stored.encoding["shards"] == (24, 40, 60)
    assert stored.encoding["chunks"] == (6, 20, 20)
    xr.testing.assert_identical(stored.compute(), embedding().compute())


def test_group_attributes_follow_the_convention(tmp_path):
    source = "https://user:secret@example.org/scene?sig=signature"
    to_zarr(embedding(), tmp_path / "emb.zarr", model_url="https://example.org/model", source_data=[source])
    attrs = zarr.open_group(tmp_path / "emb.zarr").attrs
    assert attrs["zarr_conventions"][0]["name"] == "geoemb:"
    assert len(attrs["zarr_conventions"]) == 3
    expected = {
        "geoemb:type": "chip",
        "geoemb:dimensions": 24,
        "geoemb:model": "https://example.org/model",
        "geoemb:source_data": ["https://example.org/scene"],
        "geoemb:data_type": "float32",
        "geoemb:chip_layout": {"layout_type": "regular_grid", "chip_size": [16, 16], "stride": [16, 16]},
        "geoemb:gsd": 10.0,
        "proj:code": "EPSG:32632",
        "spatial:shape": [94, 75],
        "spatial:transform": [160.0, 0.0, 600000.0, 0.0, -160.0, 5000000.0],
    }
    assert {name: attrs[name] for name in expected} == expected


def test_no_credentials_anywhere_in_the_store(tmp_path):
    emb = embedding(
        scenes=["https://account.blob.example/a.tif?sv=1&sig=SECRET"], note="s3://key:SECRET@bucket/a"
    )
    emb = emb.assign_coords(href=("y", np.array(["https://example.org/b?token=SECRET"] * 94)))
    emb["x"].attrs["source"] = "https://SECRET:x@example.org/c"
    stored = to_zarr(emb, tmp_path / "emb.zarr")
    assert stored.attrs["scenes"] == ["https://account.blob.example/a.tif"]
    assert stored["href"].values[0] == "https://example.org/b"
    for name, content in files(tmp_path / "emb.zarr").items():
        assert b"SECRET" not in content, name


def test_writing_on_this_machine_loads_no_cluster(tmp_path):
    code = (
        "import sys; from tests.chaos.fake import embedding; from xr_rsembed.store.zarr import to_zarr\n"
        "to_zarr(embedding(), sys.argv[1], dtype='int8', scale='dimension')\n"
        "assert 'distributed' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, tmp_path / "emb.zarr"], cwd=ROOT, check=True)


# int8


@pytest.mark.parametrize("scale", [None, "dimension", 0.01])
def test_int8(tmp_path, chunks, scale):
    emb = embedding(tmp_path / "log", chunks=chunks)
    stored = to_zarr(emb, tmp_path / "emb.zarr", dtype="int8", scale=scale)
    assert len(runs(tmp_path / "log")) == emb.data.npartitions
    original = embedding(chunks=chunks).compute()
    assert stored.dtype == "float32"
    np.testing.assert_array_equal(np.isnan(stored), np.isnan(original))
    half_a_step = 1.25 / 127 / 2 if scale is None or scale == "dimension" else 0.005
    assert float(abs(stored - original).max()) <= half_a_step * 1.001
    assert zarr.open_array(tmp_path / "emb.zarr/embedding").dtype == "int8"


def test_xarray_decodes_int8_by_itself(tmp_path):
    stored = to_zarr(embedding(), tmp_path / "emb.zarr", dtype="int8")
    plain = xr.open_zarr(tmp_path / "emb.zarr", decode_coords="all")["embedding"]
    np.testing.assert_allclose(plain, stored, rtol=1e-6)


def test_scale_for_each_dimension_keeps_small_dimensions(tmp_path):
    ranges = xr.DataArray(np.logspace(-3, 0, 24).astype("float32"), dims="D")
    emb = embedding() * ranges
    one = to_zarr(emb, tmp_path / "one.zarr", dtype="int8").compute()
    each = to_zarr(emb, tmp_path / "each.zarr", dtype="int8", scale="dimension").compute()
    lost = [float(abs(stored[0] - emb[0]).max() / ranges[0]) for stored in (one, each)]
    assert lost[0] > 0.9
    assert lost[1] < 0.01


def test_int8_of_nothing_but_nan(tmp_path):
    with pytest.raises(StoreError, match="NaN everywhere"):
        to_zarr(embedding().where(False), tmp_path / "emb.zarr", dtype="int8")


def test_int8_resumes_with_the_scale_that_it_began_with(tmp_path):
    emb = cut_off(tmp_path / "emb.zarr", tmp_path / "log", dtype="int8", scale="dimension")
    resumed = to_zarr(emb, tmp_path / "emb.zarr", dtype="int8", scale="dimension", resume=True)
    to_zarr(emb, tmp_path / "ref.zarr", dtype="int8", scale="dimension")
    assert files(tmp_path / "emb.zarr") == files(tmp_path / "ref.zarr")
    assert float(resumed.max()) > 0.9


# crashes


def test_resume_runs_what_is_missing_and_gives_the_same_bytes(tmp_path):
    to_zarr(embedding(), tmp_path / "ref.zarr")
    emb = cut_off(tmp_path / "emb.zarr", tmp_path / "log")
    before = runs(tmp_path / "log")
    to_zarr(emb, tmp_path / "emb.zarr", resume=True)
    again = runs(tmp_path / "log")[len(before) :]
    # The block whose writing failed is the only one to be run a second time.
    assert set(before) & set(again) == {before[-1]}
    assert len(again) == emb.data.npartitions - 3
    assert files(tmp_path / "emb.zarr") == files(tmp_path / "ref.zarr")


def test_resume_of_a_finished_store_runs_nothing(tmp_path):
    emb = embedding(tmp_path / "log")
    to_zarr(emb, tmp_path / "emb.zarr")
    before = files(tmp_path / "emb.zarr")
    to_zarr(emb, tmp_path / "emb.zarr", resume=True)
    assert len(runs(tmp_path / "log")) == emb.data.npartitions
    assert files(tmp_path / "emb.zarr") == before


WRITER = """
import dask, sys
from pathlib import Path
from tests.chaos.fake import embedding
from xr_rsembed.store.zarr import to_zarr
if __name__ == "__main__":
    log, store = map(Path, sys.argv[1:])
    to_zarr(embedding(log, seconds=0.1), store, progress=False)
"""


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT])
def test_process_killed(tmp_path, with_signal):
    log, store = tmp_path / "log", tmp_path / "emb.zarr"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, log, store], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    while len(runs(log)) < 5 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(with_signal)
    assert process.wait() != 0
    before = len(runs(log))
    with pytest.raises(StoreExistsError, match="cut off"):
        to_zarr(embedding(), store)
    to_zarr(embedding(log), store, resume=True)
    to_zarr(embedding(), tmp_path / "ref.zarr")
    assert files(store) == files(tmp_path / "ref.zarr")
    # Blocks under way, and those whose digests were not on the disk yet (a second's worth), are run twice.
    assert len(runs(log)) - len(set(runs(log))) <= dask.system.CPU_COUNT * 11
    assert 5 <= before < 12


def test_two_stores_of_one_embedding_on_one_cluster(tmp_path, chunks):
    distributed = pytest.importorskip("distributed")
    emb = embedding(tmp_path / "log", chunks=chunks, seconds=0.02)
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        to_zarr(emb, tmp_path / "one.zarr", progress=False)
        assert len(runs(tmp_path / "log")) == emb.data.npartitions
        names = ("two.zarr", "three.zarr")
        threads = [threading.Thread(target=to_zarr, args=(emb, tmp_path / name)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in names:
        assert files(tmp_path / name) == files(tmp_path / "one.zarr")


def test_worker_killed(tmp_path):
    distributed = pytest.importorskip("distributed")
    log, store = tmp_path / "log", tmp_path / "emb.zarr"
    to_zarr(embedding(), tmp_path / "ref.zarr")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        victim = next(iter(client.run(os.getpid).values()))
        with killing(log, 9, lambda: os.kill(victim, signal.SIGKILL)):
            to_zarr(embedding(log, seconds=0.2), store, progress=False)
    # Of the four or five blocks that the worker had run, only the one under way, and the one whose end the scheduler
    # had not heard of, may be run again.
    assert len(runs(log)) - 12 <= 2
    assert files(store) == files(tmp_path / "ref.zarr")


def test_scheduler_killed(tmp_path):
    distributed = pytest.importorskip("distributed")
    log, store = tmp_path / "log", tmp_path / "emb.zarr"
    to_zarr(embedding(), tmp_path / "ref.zarr")
    quiet = {"cwd": ROOT, "stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    file = tmp_path / "scheduler.json"
    where = ["--scheduler-file", file, "--no-dashboard"]
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        *where,
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    scheduler = subprocess.Popen(command, **quiet)
    command = [sys.executable, "-m", "distributed.cli.dask_worker", *where, "--nthreads", "1", "--no-nanny"]
    worker = subprocess.Popen(command, **quiet)
    try:
        while not file.exists():
            time.sleep(0.05)
        with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
            client = distributed.Client(scheduler_file=str(file))
            client.wait_for_workers(1)
            with killing(log, 3, scheduler.kill), pytest.raises(StoreError, match="resume=True"):
                to_zarr(embedding(log, seconds=0.1), store, progress=False)
    finally:
        scheduler.kill()
        worker.kill()
        scheduler.wait()
        worker.wait()
        client.close(timeout=1)
    to_zarr(embedding(log), store, resume=True)
    assert files(store) == files(tmp_path / "ref.zarr")
    # As above: the block under way, and the one whose end nobody had heard of.
    assert len(runs(log)) - len(set(runs(log))) <= 2


def test_disk_full(tmp_path, monkeypatch):
    emb = embedding(tmp_path / "log")
    put = DurableStore.set

    async def full(self, key, value):
        if "embedding/c/0/1/1" in key:
            raise OSError(errno.ENOSPC, "No space left on device")
        await put(self, key, value)

    monkeypatch.setattr(DurableStore, "set", full)
    with pytest.raises(StoreError, match=r"disk is full(.|\n)*resume=True"):
        to_zarr(emb, tmp_path / "emb.zarr")
    monkeypatch.undo()
    to_zarr(emb, tmp_path / "emb.zarr", resume=True)
    to_zarr(embedding(), tmp_path / "ref.zarr")
    assert files(tmp_path / "emb.zarr") == files(tmp_path / "ref.zarr")


def test_a_block_that_fails(tmp_path):
    with pytest.raises(StoreError, match=r"this block fails; in embedding 0\.2\.1"):
        to_zarr(embedding(fails_at=(0, 2, 1)), tmp_path / "emb.zarr")
    to_zarr(embedding(), tmp_path / "emb.zarr", resume=True)
    to_zarr(embedding(), tmp_path / "ref.zarr")
    assert files(tmp_path / "emb.zarr") == files(tmp_path / "ref.zarr")


@pytest.mark.parametrize("stage", ["blocks", "replacing", "removing"])
def test_the_old_store_stays_until_the_new_one_is_complete(tmp_path, monkeypatch, stage):
    path = tmp_path / "emb.zarr"
    to_zarr(embedding(), path)

    def dies(*_, **__):
        raise KeyboardInterrupt

    if stage == "blocks":
        cut_off(path, tmp_path / "log", seed=1, overwrite=True)
    else:
        what = (
            "xr_rsembed.store.zarr.promote"
            if stage == "replacing"
            else "xr_rsembed.store.target.Target.remove"
        )
        monkeypatch.setattr(what, dies)
        with pytest.raises(KeyboardInterrupt):
            to_zarr(embedding(seed=1), path, overwrite=True)
        monkeypatch.undo()
    expected = embedding(seed=int(stage == "removing")).compute()
    xr.testing.assert_identical(open_zarr(path).compute(), expected)
    xr.testing.assert_identical(xr.open_zarr(path, decode_coords="all").embedding.compute(), expected)
    to_zarr(embedding(seed=1), path, resume=True)
    to_zarr(embedding(), tmp_path / "ref.zarr")
    to_zarr(embedding(seed=1), tmp_path / "ref.zarr", overwrite=True)
    assert files(path) == files(tmp_path / "ref.zarr")


def test_scalars_of_the_old_store_stay_while_runs_that_replace_it_are_cut_off(tmp_path):
    def made_on(day):
        return embedding(seed=day).assign_coords(day=day)

    path = tmp_path / "emb.zarr"
    before = to_zarr(made_on(0), path).compute()
    for day in (1, 2):  # the second finds what the first has left
        with stopping():
            to_zarr(made_on(day), path, overwrite=True)
        xr.testing.assert_identical(open_zarr(path).compute(), before)


def test_the_old_store_stays_where_the_new_one_was_killed_at_its_beginning(tmp_path, monkeypatch):
    def dies(*_, **__):
        raise KeyboardInterrupt

    path = tmp_path / "emb.zarr"
    before = to_zarr(embedding(), path).compute()
    monkeypatch.setattr("xr_rsembed.store.begin.metadata_objects", dies)
    with pytest.raises(KeyboardInterrupt):
        to_zarr(embedding(seed=1), path, overwrite=True)
    monkeypatch.undo()
    with stopping():
        to_zarr(embedding(seed=1), path, resume=True)
    xr.testing.assert_identical(open_zarr(path).compute(), before)
    stored = to_zarr(embedding(seed=1), path, resume=True)
    xr.testing.assert_identical(stored.compute(), embedding(seed=1).compute())


def test_a_straggler_of_an_older_run_cannot_write_into_the_new_store(tmp_path, monkeypatch):
    """A block that began before the store was replaced, and ends after it."""
    path, stragglers = tmp_path / "emb.zarr", []
    put = write._Writer.__call__

    def late(self, index, values, digests):
        stragglers.append((self, index, values, digests))
        raise KeyboardInterrupt

    monkeypatch.setattr(write._Writer, "__call__", late)
    with dask.config.set(scheduler="synchronous"), pytest.raises(KeyboardInterrupt):
        to_zarr(embedding(seed=1), path)
    monkeypatch.undo()
    to_zarr(embedding(), path, overwrite=True)
    before = files(path)
    with pytest.raises(StoreLockedError, match="no longer"):
        put(*stragglers[0])
    assert files(path) == before


def test_a_writer_that_is_overtaken_stops(tmp_path):
    path, log, errors = f"memory://{tmp_path.name}/emb.zarr", tmp_path / "log", []

    def first():
        try:
            to_zarr(embedding(log, seconds=0.5), path, progress=False)
        except StoreError as error:
            errors.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    while not runs(log) and thread.is_alive():
        time.sleep(0.01)
    stored = to_zarr(embedding(), path, resume=True)
    thread.join()
    assert [type(error) for error in errors] == [StoreLockedError]
    xr.testing.assert_identical(stored.compute(), embedding().compute())


def test_reading_while_it_is_written(tmp_path):
    path = tmp_path / "emb.zarr"
    cut_off(path, tmp_path / "log")
    with pytest.warns(RsEmbedWarning, match="not finished"):
        half = open_zarr(path)
    there = np.isfinite(half.values)
    assert 0 < there.mean() < 0.5
    np.testing.assert_array_equal(half.values[there], embedding().values[there])


def test_a_reader_beside_the_writer_sees_whole_blocks_only(tmp_path):
    path, truth = tmp_path / "emb.zarr", embedding().values
    writer = threading.Thread(target=to_zarr, args=(embedding(seconds=0.05), path))
    writer.start()
    looks = 0
    while writer.is_alive():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RsEmbedWarning)
            try:
                seen = open_zarr(path).values
            except StoreNotFoundError:  # not begun yet
                continue
        there = np.isfinite(seen)
        np.testing.assert_array_equal(seen[there], truth[there])
        looks += 1
    writer.join()
    assert looks > 0
    np.testing.assert_array_equal(open_zarr(path).values, truth)


def test_progress(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("xr_rsembed.progress.SHOWN_AFTER", 0.0)
    to_zarr(embedding(seconds=0.05), tmp_path / "emb.zarr", progress=True)
    assert "writing embedding" in capsys.readouterr().err
    to_zarr(embedding(), tmp_path / "quiet.zarr", progress=False)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("output", ["grid", "tiles", "pooled"])
def test_a_model_from_scene_to_store_and_back(tmp_path, output):
    import xr_rsembed
    from xr_rsembed.datasets import synthetic_scene

    scene = synthetic_scene(size=(400, 240)).chunk(y=200, x=240)
    with xr_rsembed.set_options(block_tiles=1):
        emb = xr_rsembed.embed(scene, "terramind_v1_tiny", weights="random", overlap=32, output=output)
        stored = to_zarr(emb, tmp_path / "emb.zarr", progress=False)
        again = xr_rsembed.reproduce(stored, scene)
    assert stored.attrs == emb.attrs
    assert stored.dims == emb.dims
    assert stored.dtype == "float32"
    assert bool(np.isfinite(stored).any())
    xr.testing.assert_allclose(again.compute(), stored.compute(), rtol=1e-5, atol=1e-5)


# refusals


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: embedding(model_key="fake_v2"), ["model_key", "fake_v1", "fake_v2"]),
        (lambda: embedding(weights_sha256="1" * 64), ["weights_sha256"]),
        (lambda: embedding(overlap=32), ["overlap", "0 there", "32 now"]),
        (lambda: embedding(chunks=OVERLAPPED), ["blocks"]),
        (lambda: embedding().assign_coords(x=np.arange(75) * 160.0), ["coords.x"]),
        (lambda: embedding(seed=1), ["other pixels"]),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_resume_with_another_run_is_refused(tmp_path, change, words, finished):
    path = tmp_path / "emb.zarr"
    if finished:
        to_zarr(embedding(), path)
    else:
        cut_off(path, tmp_path / "log")
    before = files(path)
    with pytest.raises(StoreError, match="other data or settings") as error:
        to_zarr(change(), path, resume=True)
    assert all(word in str(error.value) for word in words), error.value
    assert files(path) == before


def test_the_same_data_under_another_name_resumes(tmp_path):
    path = tmp_path / "emb.zarr"
    emb = cut_off(path, tmp_path / "log")
    renamed = emb.copy(data=emb.data.map_blocks(np.positive))
    assert renamed.data.name != emb.data.name
    xr.testing.assert_identical(to_zarr(renamed, path, resume=True).compute(), embedding().compute())


def test_existing_store(tmp_path):
    path = tmp_path / "emb.zarr"
    to_zarr(embedding(), path)
    with pytest.raises(StoreExistsError, match="overwrite=True"):
        to_zarr(embedding(seed=1), path)
    xr.testing.assert_identical(open_zarr(path).compute(), embedding().compute())
    to_zarr(embedding(seed=1), path, overwrite=True)
    xr.testing.assert_identical(open_zarr(path).compute(), embedding(seed=1).compute())


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_what_is_no_store_is_left_alone(tmp_path, options):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    with pytest.raises(StoreExistsError, match="no Zarr store"):
        to_zarr(embedding(), tmp_path / "thesis", **options)
    with pytest.raises(StoreExistsError, match="no Zarr store"):
        to_zarr(embedding(), tmp_path / "thesis/chapter.txt", **options)
    assert (tmp_path / "thesis/chapter.txt").read_text() == "years of work"


def test_a_second_writer_is_refused(tmp_path):
    with (
        locked(tmp_path / "emb.zarr"),
        pytest.raises(StoreLockedError, match=f"process {os.getpid()} on"),
    ):
        to_zarr(embedding(), tmp_path / "emb.zarr")
    to_zarr(embedding(), tmp_path / "emb.zarr")
    assert [entry.name for entry in tmp_path.iterdir()] == ["emb.zarr"]


def test_the_lock_of_a_dead_process_holds_nobody_up(tmp_path):
    script = (
        "import os, sys, pathlib\nfrom xr_rsembed.store.disk import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "emb.zarr"
    assert subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, check=False).returncode == -9
    assert (tmp_path / ".emb.zarr.lock").exists()
    to_zarr(embedding(), path)


def test_a_store_of_another_version(tmp_path):
    path = tmp_path / "emb.zarr"
    to_zarr(embedding(), path)
    file = path / "zarr.json"
    file.write_text(file.read_text().replace('"format": 2', '"format": 0'))
    assert json.loads(file.read_text())["attributes"]["xr_rsembed:fingerprint"]["format"] == 0
    with pytest.raises(StoreError, match="format 0"):
        to_zarr(embedding(), path, resume=True)
    xr.testing.assert_identical(open_zarr(path).compute(), embedding().compute())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overwrite": True, "resume": True}, "exclude each other"),
        ({"dtype": "int4"}, "int4"),
        ({"scale": 0.1}, "int8 only"),
        ({"dtype": "int8", "scale": -1}, "above 0"),
        ({"shards": {"z": 4}}, "'z'"),
        ({"shards": {"y": 30}, "chunks": {"y": 20}}, "multiple"),
    ],
)
def test_bad_options(tmp_path, options, words):
    with pytest.raises(OptionError, match=words):
        to_zarr(embedding(), tmp_path / "emb.zarr", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../escape", "a/b", ".rsembed", "__private", "rsembed_blocks", 3])
def test_names_that_would_leave_the_store_or_meet_what_it_keeps(tmp_path, name):
    with pytest.raises(StoreError, match="name of a folder"):
        to_zarr(embedding().rename(name), tmp_path / "emb.zarr")
    if name not in ("a/b", 3):
        with pytest.raises(StoreError, match="name of a folder"):
            to_zarr(embedding(), tmp_path / "emb.zarr", group=f"zones/{name}")
    assert not list(tmp_path.iterdir())


def test_nothing_to_store(tmp_path):
    no_dim = xr.DataArray(1.0, name="mean")
    for bad in (xr.Dataset(), embedding()[:, :0], embedding().astype(str).compute(), np.zeros(3), no_dim):
        with pytest.raises(StoreError):
            to_zarr(bad, tmp_path / "emb.zarr")


def test_object_store(tmp_path):
    path = f"memory://{tmp_path.name}/emb.zarr"
    emb = embedding(chunks=OVERLAPPED)
    xr.testing.assert_identical(to_zarr(emb, path).compute(), emb.compute())
    to_zarr(emb, path, resume=True)
    assert not [name for name in Target.at(path).objects() if name.startswith(FOLDER)]
