"""Several things at once: two models, a writer and a reader, options in threads, child processes, Ctrl-C."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

import xr_rsembed
from tests import fakes
from tests.chaos.fake import OVERLAPPED, REGULAR, files, runs
from tests.chaos.fake import embedding as fake_embedding
from tests.test_engine import embed, expected, random_pixels, scene_of
from xr_rsembed.errors import OptionError, RsEmbedWarning, StoreExistsError, StoreLockedError
from xr_rsembed.models import registry
from xr_rsembed.models.spec import ModelFamily, Tokens
from xr_rsembed.store.read import open_zarr
from xr_rsembed.store.zarr import to_zarr

pytestmark = pytest.mark.usefixtures("probe")
forks = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")


# two embeds at once


def minus(spec: Any, request: Any) -> Any:
    """The probe with its sign turned."""
    encoder = fakes.Probe()

    def call(inputs: Any, layers: Any, options: Any) -> Tokens:
        return Tokens(-encoder(inputs, layers, options).grid)

    return call


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_two_models_in_two_threads_do_not_meet(scheduler):
    registry.register(ModelFamily("minus", (replace(fakes.SPEC, key="minus", family="minus", load=minus),)))
    pixels = random_pixels(500, 300, seed=1, nodata_share=0.1)
    right = expected(pixels, nodata=0, overlap=64)
    together = threading.Barrier(2)

    def work(model: str) -> list[xr.DataArray]:
        together.wait()
        options = {"weights": "random", "device": "cpu", "overlap": 64, "batch_size": 2}
        scene = scene_of(pixels, {"y": 130, "x": 90}, nodata=0)
        lazy = [xr_rsembed.embed(scene, model, **options) for _ in range(3)]
        return [one.compute(scheduler=scheduler) for one in lazy]

    with xr_rsembed.set_options(block_tiles=1), ThreadPoolExecutor(2) as pool:
        for sign, found in zip((1, -1), pool.map(work, ("probe", "minus")), strict=True):
            for one in found:
                np.testing.assert_allclose(one.values, sign * right, rtol=1e-5, atol=1e-5)


# one store, several hands


@pytest.mark.filterwarnings("ignore:.*is not finished:xr_rsembed.errors.RsEmbedWarning")
def test_a_store_is_read_while_it_is_written(tmp_path):
    store = tmp_path / "emb.zarr"
    right = fake_embedding().compute().values
    at_rest, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def rest(*_: Any) -> None:
        if threading.current_thread() is not threading.main_thread():  # not while the reader computes
            at_rest.release()
            go_on.acquire(timeout=60)

    def read() -> int:
        values = open_zarr(store).compute(scheduler="synchronous").values
        there = ~np.isnan(values)
        np.testing.assert_array_equal(values[there], right[there])
        return int(there.sum())

    emb = fake_embedding()
    seen = []
    with ThreadPoolExecutor(1) as pool, dask.callbacks.Callback(posttask=rest):
        writing = pool.submit(to_zarr, emb, store, progress=False)
        try:
            while not writing.done():
                if at_rest.acquire(timeout=0.1):
                    seen.append(read())
                    go_on.release()
        finally:
            go_on.release(emb.data.npartitions)
        writing.result()
    assert len(seen) >= emb.data.npartitions
    assert seen == sorted(seen), "what was read once stays"
    assert len(set(seen)) > 3
    np.testing.assert_array_equal(open_zarr(store).values, right)


def test_of_two_writers_one_is_refused(tmp_path):
    store = tmp_path / "emb.zarr"
    together = threading.Barrier(4)

    def work(seed: int) -> str:
        together.wait()
        try:
            to_zarr(fake_embedding(seed=seed, seconds=0.02), store, progress=False)
        except (StoreLockedError, StoreExistsError) as error:
            return type(error).__name__
        return str(seed)

    with ThreadPoolExecutor(4) as pool:
        endings = list(pool.map(work, range(4)))
    (winner,) = [ending for ending in endings if ending.isdigit()]
    to_zarr(fake_embedding(seed=int(winner)), tmp_path / "ref.zarr")
    assert files(store) == files(tmp_path / "ref.zarr")


# options


def test_options_in_threads_hold_what_somebody_set_and_come_back():
    done = threading.Event()
    strange: list[Any] = []

    def look() -> None:
        while not done.is_set():
            value = xr_rsembed.get_option("block_tiles")
            if value not in (2, 3, 8):
                strange.append(value)

    def work(number: int) -> None:
        for _ in range(200):
            xr_rsembed.set_options(block_tiles=number)
            with pytest.raises(OptionError):
                xr_rsembed.set_options(block_tiles=-number)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with xr_rsembed.set_options(block_tiles=8), ThreadPoolExecutor(2) as pool:
            list(pool.map(work, (2, 3)))
    finally:
        done.set()
        looking.join()
    assert strange == []
    assert xr_rsembed.get_option("block_tiles") == 8


def test_an_option_set_after_the_graph_was_built_does_not_reach_into_it():
    pixels = random_pixels(500, 300, seed=2)
    with xr_rsembed.set_options(block_tiles=1):
        lazy = embed(scene_of(pixels, {}))
    with xr_rsembed.set_options(block_tiles=2), ThreadPoolExecutor(1) as pool:
        found = pool.submit(lazy.compute).result()
    assert lazy.data.numblocks == (1, 3, 1), "300 px are one tile and the one moved inward"
    np.testing.assert_allclose(found, expected(pixels), rtol=1e-5, atol=1e-5)


# child processes


def power_of_an_embedding(model: str, lazy: bool = True) -> float:
    """What a child process does; an import path of its own, so that a spawned one finds it."""
    fakes.register()
    warnings.simplefilter("ignore")
    scene = scene_of(random_pixels(448, 300, seed=3), {"y": 224})
    if not lazy:
        scene = scene.compute(scheduler="synchronous")
    embedding = xr_rsembed.embed(scene, model, weights="random", device="cpu")
    return float((embedding**2).mean())  # the plain mean of normed tokens is zero


def in_child(method: str, model: str, lazy: bool = True) -> float:
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.apply_async(power_of_an_embedding, (model, lazy)).get(timeout=100)


def test_a_spawned_process_embeds_as_its_parent_does():
    assert in_child("spawn", "probe") == power_of_an_embedding("probe")


@forks
@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("model", ["probe", "terramind_v1_tiny"])
def test_a_process_forked_after_its_parent_embedded_embeds_too(model, lazy):
    """The parent has used torch's threads and an encoder's locks, which a fork leaves behind.

    So it does dask's own: a lazy embedding is computed there with ``scheduler="synchronous"``, as any dask array.
    """
    import torch

    torch.set_num_threads(2)
    with dask.config.set(scheduler="synchronous") if lazy else nullcontext():
        right = power_of_an_embedding(model, lazy)
        assert in_child("fork", model, lazy) == pytest.approx(right, rel=1e-4)
    assert torch.get_num_threads() == 2


@forks
def test_a_fork_while_another_thread_computes_does_not_wait_for_it():
    from xr_rsembed.engine import devices

    right = power_of_an_embedding("probe")
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with devices.one_at_a_time("cpu"):
            held.set()
            let_go.wait(timeout=300)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        with dask.config.set(scheduler="synchronous"):
            assert in_child("fork", "probe") == right
    finally:
        let_go.set()
        thread.join()


# Ctrl-C


@pytest.mark.parametrize("chunks", [REGULAR, OVERLAPPED])
@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_ctrl_c_in_the_middle_leaves_a_store_that_resume_finishes(tmp_path, scheduler, chunks):
    store, log = tmp_path / "emb.zarr", tmp_path / "log"
    emb = fake_embedding(log, chunks=chunks, seconds=0.02)
    count = 0

    def interrupt(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == 4:
            signal.raise_signal(signal.SIGINT)

    with (
        dask.config.set(scheduler=scheduler),
        dask.callbacks.Callback(posttask=interrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        to_zarr(emb, store, progress=False)
    before = len(runs(log))
    assert 0 < before < emb.data.npartitions
    with pytest.warns(RsEmbedWarning, match="not finished"):
        assert np.isnan(open_zarr(store)).any()
    to_zarr(emb, store, resume=True, progress=False)
    to_zarr(fake_embedding(chunks=chunks), tmp_path / "ref.zarr")
    assert files(store) == files(tmp_path / "ref.zarr")


def test_ctrl_c_in_the_middle_of_an_embedding_leaves_an_engine_that_works():
    pixels = random_pixels(500, 300, seed=4)
    with xr_rsembed.set_options(block_tiles=1):
        lazy = embed(scene_of(pixels, {}))

    def interrupt(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    with dask.callbacks.Callback(posttask=interrupt), pytest.raises(KeyboardInterrupt):
        lazy.compute(scheduler="threads")
    np.testing.assert_allclose(lazy.compute(), expected(pixels), rtol=1e-5, atol=1e-5)
