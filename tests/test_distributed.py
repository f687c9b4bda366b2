"""Two worker processes give the numbers of one, load an encoder once each, and may be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

import xr_rsembed
from tests import fakes
from tests.test_engine import embed, expected, random_pixels, scene_of
from xr_rsembed.errors import DeviceError, OptionError
from xr_rsembed.models import registry
from xr_rsembed.models.spec import ModelFamily

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.usefixtures("probe")


@pytest.fixture(scope="module")
def cluster():
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 10}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=None, resources={"GPU": 1}
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    """Of workers that hold no encoder."""
    with distributed.Client(cluster) as client:
        client.run(forget)
        yield client


def forget() -> None:
    from tests import fakes
    from xr_rsembed.engine import devices

    fakes.loads = 0
    devices.clear_encoders()


def loads() -> int:
    from tests import fakes

    return fakes.loads


def lazy(pixels, **options) -> xr.DataArray:
    with xr_rsembed.set_options(block_tiles=1):
        return embed(scene_of(pixels, {"y": 300, "x": 200}), **options)


def test_the_same_numbers_as_local_schedulers_and_one_load_a_process(client):
    pixels = random_pixels(900, 700, seed=1)
    embedding = lazy(pixels, overlap=64)
    values = embedding.compute()
    assert sorted(client.run(loads).values()) == [1, 1]
    np.testing.assert_array_equal(values, embedding.compute(scheduler="threads"))
    np.testing.assert_array_equal(values, embedding.compute(scheduler="synchronous"))
    np.testing.assert_allclose(values, expected(pixels, overlap=64), rtol=1e-5, atol=1e-5)


def test_warm_loads_once_everywhere_before_any_block_and_on_workers_that_join(cluster, client):
    from xr_rsembed.distributed import warm

    embedding = lazy(random_pixels(500, 500, seed=2))
    warm(client, embedding)
    assert sorted(client.run(loads).values()) == [1, 1]
    warm(client, embedding, embedding)
    cluster.scale(3)
    try:
        client.wait_for_workers(3)
        assert sorted(client.run(loads).values()) == [1, 1, 1]
        embedding.compute()
        assert sorted(client.run(loads).values()) == [1, 1, 1]
    finally:
        cluster.scale(2)


def test_warm_refuses_what_holds_no_encoder(client):
    from xr_rsembed.distributed import warm

    with pytest.raises(OptionError, match="no encoder to load"):
        warm(client, lazy(random_pixels(224, 224, seed=3)).compute())


def test_torch_uses_the_threads_of_its_worker(client, monkeypatch):
    registry.register(ModelFamily("threads", (replace(fakes.SPEC, key="threads", load=load_thread_counter),)))
    scene = scene_of(random_pixels(224, 224, seed=4), {"y": 112})
    counted = xr_rsembed.embed(scene, "threads", weights="random", device="cpu").compute()
    assert set(np.unique(counted)) == {2.0}
    assert set(client.run(torch_threads).values()) == {1}, "and gives them back"


def load_thread_counter(spec, request):
    return count_threads


def count_threads(inputs, layers, options):
    import torch

    from xr_rsembed.models.spec import Tokens

    (tiles,) = inputs.values()
    return Tokens(torch.full((len(tiles), fakes.EMBED_DIM, 14, 14), float(torch.get_num_threads())))


def torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def test_a_device_is_settled_by_the_worker_that_runs_the_block(client):
    embedding = xr_rsembed.embed(
        scene_of(random_pixels(224, 300, seed=5), {}), "probe", weights="random", device="cuda:7"
    )
    with pytest.raises(DeviceError, match=r"cuda:7(.|\n)*window:   y 0:224"):
        embedding.compute()


def test_resources_keep_blocks_to_the_workers_that_have_them(client):
    with dask.annotate(resources={"GPU": 1}):
        embedding = lazy(random_pixels(500, 500, seed=6))
    # Without dask's own optimization, which forgets annotations.
    future = client.compute(embedding.data, optimize_graph=False)
    assert np.isfinite(future.result()).all()
    restricted = client.run_on_scheduler(
        lambda dask_scheduler: {
            str(task.key): dict(task.resource_restrictions or {})
            for task in dask_scheduler.tasks.values()
            if isinstance(task.key, tuple) and str(task.key[0]).startswith("rsembed-")
        }
    )
    assert restricted
    assert all(needs == {"GPU": 1} for needs in restricted.values())


def test_a_store_is_written_by_the_workers_that_have_the_resource(tmp_path):
    # Both write to one disk; only one of them may embed.
    workers = {
        "with": {"cls": distributed.Nanny, "options": {"nthreads": 2, "resources": {"GPU": 1}}},
        "without": {"cls": distributed.Nanny, "options": {"nthreads": 2}},
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False}}
    embedding = lazy(random_pixels(500, 700, seed=7))
    with (
        distributed.SpecCluster(workers, scheduler=scheduler) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(2)
        with dask.annotate(resources={"GPU": 1}):
            embedding.rsembed.to_zarr(tmp_path / "emb.zarr", progress=False)
        workers = client.scheduler_info()["workers"]
        loaded = {workers[address]["name"]: number for address, number in client.run(loads).items()}
    assert loaded == {"with": 1, "without": 0}
    stored = xr_rsembed.open(tmp_path / "emb.zarr").compute()
    np.testing.assert_array_equal(stored, embedding.compute(scheduler="threads"))


def load_killer(spec, request):
    """A worker that dies in its first block, once for all workers."""
    return kill_once


def kill_once(inputs, layers, options):
    try:
        os.close(os.open(os.environ["RSEMBED_TEST_KILLED"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return fakes.Probe()(inputs, layers, options)
    os.kill(os.getpid(), 9)
    return None


def test_a_worker_killed_during_a_block_costs_no_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("RSEMBED_TEST_KILLED", str(tmp_path / "killed"))
    registry.register(ModelFamily("killer", (replace(fakes.SPEC, key="killer", load=load_killer),)))
    pixels = random_pixels(500, 700, seed=7)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 10}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        xr_rsembed.set_options(block_tiles=1),
    ):
        embedding = xr_rsembed.embed(scene_of(pixels, {"y": 200}), "killer", weights="random", device="cpu")
        values = embedding.compute()
    assert (tmp_path / "killed").exists()
    np.testing.assert_allclose(values, expected(pixels), rtol=1e-5, atol=1e-5)


def test_local_use_does_without_distributed():
    code = """
        import sys
        sys.modules["distributed"] = None  # importing it fails, as where it is not installed
        from tests import fakes
        fakes.register()
        import xr_rsembed
        from xr_rsembed.datasets import synthetic_scene
        for chunks in (None, 300):
            scene = synthetic_scene((300, 400), chunks=chunks)
            assert xr_rsembed.embed(scene, "probe", weights="random", device="cpu").compute().notnull().all()
    """
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=root, timeout=300)


@pytest.mark.slow
def test_terramind_gives_the_same_numbers_in_two_processes(client):
    scene = scene_of(random_pixels(300, 700, seed=8), {"y": 256, "x": 256})
    with xr_rsembed.set_options(block_tiles=1):
        embedding = xr_rsembed.embed(scene, "terramind_v1_tiny", weights="random", device="cpu", overlap=32)
    np.testing.assert_allclose(
        embedding.compute(), embedding.compute(scheduler="threads"), rtol=1e-4, atol=1e-5
    )
