"""Stores on awkward disks, options that do not fit, additions of another make: a named error, or the right numbers."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.chaos.fake import embedding, files, runs
from tests.test_store_additions import dated
from tests.test_store_zarr import cut_off, stopping
from xr_rsembed.errors import OptionError, StoreError, StoreExistsError
from xr_rsembed.store import digests
from xr_rsembed.store.read import open_zarr
from xr_rsembed.store.zarr import to_zarr

# options and dtypes


@pytest.mark.parametrize(
    "encoding",
    [
        {"embedding": {"chunks": (24, 28)}},
        {"embedding": {"shards": (28, 28)}},
        {"embedding": {"chunks": 28}},
        {"embedding": {"dtype": "complex64"}},
        {"embedding": {"dtype": "int4"}},
        {"embedding": {"dtype": "str"}},
        {"embedding": {"compressors": None}},
        {"other": {}},
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_an_encoding_that_cannot_be_used(tmp_path, encoding, there):
    if there:
        cut_off(tmp_path / "emb.zarr", tmp_path / "log")
    before = files(tmp_path)
    with pytest.raises(OptionError, match="encoding cannot be used"):
        to_zarr(embedding(), tmp_path / "emb.zarr", encoding=encoding, resume=there)
    assert files(tmp_path) == before


def test_encoding_in_xarrays_words(tmp_path):
    encoding = {"embedding": {"dtype": np.float16, "chunks": (24, 14, 14), "shards": (24, 28, 28)}}
    stored = to_zarr(embedding(), tmp_path / "emb.zarr", encoding=encoding)
    assert (stored.dtype, stored.encoding["chunks"]) == ("float16", (24, 14, 14))
    to_zarr(embedding(), tmp_path / "emb.zarr", encoding=encoding, resume=True)


@pytest.mark.parametrize("dtype", ["complex64", "U8", "datetime64[ns]"])
@pytest.mark.parametrize("how", ["new", "resume", "append", "region"])
def test_a_dtype_that_no_embedding_has(tmp_path, dtype, how):
    path = tmp_path / "emb.zarr"
    if how != "new":
        to_zarr(dated("2022-06-01"), path)
    bad = dated("2022-06-02" if how == "append" else "2022-06-01").fillna(0).astype(dtype)
    options = {"append": {"append_dim": "time"}, "region": {"region": "auto"}, "resume": {"resume": True}}
    with pytest.raises(StoreError, match=re.escape(str(np.dtype(dtype)))):
        to_zarr(bad, path, **options.get(how, {}))
    if how != "new":
        xr.testing.assert_identical(open_zarr(path).compute(), dated("2022-06-01").compute())


def test_integers_are_not_squeezed_into_int8(tmp_path):
    classes = (embedding().fillna(0) * 300).astype("int16")
    with pytest.raises(OptionError, match="do not fit into int8"):
        to_zarr(classes, tmp_path / "emb.zarr", dtype="int8")
    stored = to_zarr(classes, tmp_path / "emb.zarr")
    np.testing.assert_array_equal(stored.values, classes.values)


# additions


def test_dates_in_memory_and_lazy_ones_share_a_store(tmp_path):
    path, days = tmp_path / "emb.zarr", ("2022-06-01", "2022-06-02", "2022-06-03")
    to_zarr(dated(days[0]), path)
    to_zarr(dated(days[1]).compute(), path, append_dim="time")
    stored = to_zarr(dated(days[2]), path, append_dim="time")
    xr.testing.assert_identical(stored.compute(), dated(*days).compute())
    attrs = zarr.open_group(path).attrs
    assert (attrs["rsembed_state"], attrs["rsembed_unverified"]) == ("complete", True)
    whole = dated(*days)
    with pytest.raises(
        StoreError, match="other data or settings"
    ):  # other blocks of dates: dask's chunks differ
        to_zarr(whole.chunk(time=3), path, resume=True)


def test_a_lazy_date_goes_behind_dates_that_were_in_memory(tmp_path):
    path = tmp_path / "emb.zarr"
    to_zarr(dated("2022-06-01").compute(), path)
    stored = to_zarr(dated("2022-06-02"), path, append_dim="time")
    xr.testing.assert_identical(stored.compute(), dated("2022-06-01", "2022-06-02").compute())
    assert "rsembed_unverified" not in zarr.open_group(path).attrs


def test_an_append_in_memory_that_was_cut_off_is_written_again(tmp_path):
    path = tmp_path / "emb.zarr"
    to_zarr(dated("2022-06-01"), path)
    with stopping():
        to_zarr(dated("2022-06-02").compute(), path, append_dim="time")
    stored = to_zarr(dated("2022-06-02").compute(), path, append_dim="time", resume=True)
    xr.testing.assert_identical(stored.compute(), dated("2022-06-01", "2022-06-02").compute())


@pytest.mark.parametrize("how", [{"append_dim": "time"}, {"region": {"time": slice(0, 1)}}])
def test_what_is_refused_is_not_told_to_replace_the_store(tmp_path, how):
    path = tmp_path / "emb.zarr"
    to_zarr(dated("2022-06-01"), path)
    other = dated("2022-06-02").assign_attrs(model_key="fake_v2")
    with pytest.raises(StoreError, match="model_key") as error:
        to_zarr(other, path, **how)
    assert "overwrite" not in str(error.value)
    to_zarr(other, tmp_path / "other.zarr", mode="a", append_dim="time")  # the remedy


# disks and stores


def test_a_store_that_takes_no_writes(tmp_path):
    memory = zarr.storage.MemoryStore()
    to_zarr(embedding(), tmp_path / "emb.zarr")
    local = zarr.storage.LocalStore(tmp_path / "emb.zarr", read_only=True)
    for store in (memory.with_read_only(True), local):
        for options in ({}, {"overwrite": True}, {"append_dim": "time"}):
            with pytest.raises(StoreError, match="opened read-only"):
                to_zarr(embedding(), store, **options)
    xr.testing.assert_identical(open_zarr(local).compute(), embedding().compute())


@pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc here")
@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"part": (0, 2)}])
def test_a_folder_that_takes_no_file_is_named_as_that(options):
    with pytest.raises(StoreError, match="/proc/emb.zarr cannot be written") as error:
        to_zarr(embedding(), "/proc/emb.zarr", **options)
    assert "writer" not in str(error.value)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_without_locks(tmp_path, monkeypatch, code):
    def no_lock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", no_lock)
    path = tmp_path / "emb.zarr"
    cut_off(path, tmp_path / "log")
    stored = to_zarr(embedding(), path, resume=True)
    xr.testing.assert_identical(stored.compute(), embedding().compute())
    assert {entry.name for entry in tmp_path.iterdir()} <= {"emb.zarr", "log", "log.started"}


def test_a_place_whose_objects_may_not_be_removed(tmp_path, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def denied(*_, **__):
        raise PermissionError("AccessDenied: no s3:DeleteObject")

    path = f"memory://{tmp_path.name}/emb.zarr"
    to_zarr(embedding(), path)
    for name in ("rm", "rm_file", "_rm"):
        monkeypatch.setattr(MemoryFileSystem, name, denied)
    for seed in (1, 2, 3):  # comes back to the names of chunks that an older store had, which are still there
        stored = to_zarr(embedding(seed=seed), path, overwrite=True)
        xr.testing.assert_identical(stored.compute(), embedding(seed=seed).compute())
    cut_off(path, tmp_path / "log", seed=4, overwrite=True)
    xr.testing.assert_identical(open_zarr(path).compute(), embedding(seed=3).compute())
    stored = to_zarr(embedding(seed=4), path, resume=True)
    xr.testing.assert_identical(stored.compute(), embedding(seed=4).compute())


def test_a_folder_whose_files_may_not_be_replaced(tmp_path, monkeypatch):
    def denied(self, *_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(self))

    for name in ("unlink", "replace"):
        monkeypatch.setattr(Path, name, denied)
    with pytest.raises(StoreError, match="no right to write"):
        to_zarr(embedding(), tmp_path / "emb.zarr")


def test_the_old_store_can_still_be_proved_while_a_new_one_is_written(tmp_path):
    path = tmp_path / "emb.zarr"
    to_zarr(embedding(), path)
    before = files(path)
    cut_off(path, tmp_path / "log", seed=1, overwrite=True)
    after = files(path)
    assert all(after.get(name) == content for name, content in before.items())


def test_a_link_to_a_store_is_the_store(tmp_path):
    path, link, log = tmp_path / "disk/emb.zarr", tmp_path / "emb.zarr", tmp_path / "log"
    path.parent.mkdir()
    link.symlink_to(path)
    cut_off(path, log)
    with pytest.raises(StoreExistsError):
        to_zarr(embedding(), link)
    to_zarr(embedding(), link, resume=True)
    for source, target in ((path, link), (link, path)):
        with pytest.raises(StoreError, match="read from"):
            to_zarr(open_zarr(source).rename("embedding"), target, overwrite=True)
    stored = to_zarr(embedding(seed=1), link, overwrite=True)
    assert link.is_symlink()
    xr.testing.assert_identical(stored.compute(), embedding(seed=1).compute())
    xr.testing.assert_identical(open_zarr(path).compute(), embedding(seed=1).compute())
    appended = tmp_path / "dates.zarr"
    appended.symlink_to(path.parent)
    to_zarr(dated("2022-06-01"), appended / "dates.zarr")
    assert to_zarr(dated("2022-06-02"), appended / "dates.zarr", append_dim="time").sizes["time"] == 2


# workers and commits


def test_workers_with_other_code_are_refused(tmp_path):
    distributed = pytest.importorskip("distributed")
    log = tmp_path / "log"
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}

    def as_if_older():
        from xr_rsembed.store import digests

        digests.code_digest.cache_clear()
        digests.Path = _Elsewhere

    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        client.run(as_if_older)
        with pytest.raises(StoreError, match="another xr_rsembed") as error:
            to_zarr(embedding(log), tmp_path / "emb.zarr", progress=False)
    assert digests.code_digest() in str(error.value)
    assert not runs(log)


class _Elsewhere:
    """Stands for pathlib's Path in a worker: a package of no files."""

    def __init__(self, *_):
        self.parents = (self, self)

    def resolve(self):
        return self

    def rglob(self, _):
        return []


def test_icechunk_write_append_killed_resumed(tmp_path):
    icechunk = pytest.importorskip("icechunk")
    storage = icechunk.local_filesystem_storage(str(tmp_path / "ice"))
    repository = icechunk.Repository.create(storage)
    days = ("2022-06-01", "2022-06-02", "2022-06-03")

    def committed(words, emb, **options):
        session = icechunk.Repository.open(storage).writable_session("main")
        to_zarr(emb, session.store, **options)
        session.commit(words)

    def kept():
        return open_zarr(icechunk.Repository.open(storage).readonly_session("main").store).compute()

    committed("one", dated(days[0]))
    committed("two", dated(days[1]), append_dim="time")
    killed = repository.writable_session("main")
    with pytest.raises(StoreError, match="this block fails"):
        to_zarr(dated(days[2], fails_at=(0, 2, 1)), killed.store, append_dim="time")
    xr.testing.assert_identical(kept(), dated(*days[:2]).compute())
    # In the same session the append goes on; what another session never saw is begun anew there.
    to_zarr(dated(days[2]), killed.store, append_dim="time", resume=True)
    killed.commit("three")
    xr.testing.assert_identical(kept(), dated(*days).compute())
    with pytest.raises(StoreError, match="already"):
        committed("four", dated(days[2]), append_dim="time")
    with pytest.raises(StoreError, match="opened read-only"):
        to_zarr(dated(days[2]), repository.readonly_session("main").store, append_dim="time")
