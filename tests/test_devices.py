"""Batches, memory that runs out, turns, and the state of the process that a forward leaves as it was."""

from __future__ import annotations

import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import xr_rsembed
from tests import fakes
from tests.test_engine import embed, expected, random_pixels, scene_of
from xr_rsembed.engine import devices
from xr_rsembed.engine.settings import Settings
from xr_rsembed.errors import DeviceError, RsEmbedWarning
from xr_rsembed.models.registry import find_spec


@pytest.fixture
def full_device(probe, monkeypatch):
    """A device whose memory holds so many tiles and no more; forgets the limits that were found on it."""
    monkeypatch.setattr(devices, "_batch_limits", {})

    def holds(number):
        call = fakes.Probe.__call__

        def forward(self, inputs, layers, options):
            if len(next(iter(inputs.values()))) > number:
                raise torch.OutOfMemoryError("CUDA out of memory (made up)")
            return call(self, inputs, layers, options)

        monkeypatch.setattr(fakes.Probe, "__call__", forward)

    return holds


def test_out_of_memory_halves_the_batch_says_so_once_and_goes_on(full_device):
    full_device(3)
    pixels = random_pixels(448, 896, seed=1)
    scene = scene_of(pixels, {})
    fakes.clear()
    with warnings.catch_warnings(record=True) as caught, xr_rsembed.set_options(block_tiles=2):
        warnings.simplefilter("always")
        result = xr_rsembed.embed(scene, "probe", weights="random", device="cpu", batch_size=16)
        values = result.compute(scheduler="synchronous").values
    said = [str(one.message) for one in caught if "ran out of memory" in str(one.message)]
    assert len(said) == 1
    assert "batch_size=2" in said[0]
    assert fakes.forwards == [2, 2, 2, 2], "the second block begins with the batch that fitted the first"
    np.testing.assert_allclose(values, expected(pixels), rtol=1e-5, atol=1e-5)


def test_a_single_tile_that_does_not_fit_is_an_error_with_a_remedy(full_device):
    full_device(0)
    with pytest.raises(DeviceError, match=r"batch_size=1(.|\n)*bfloat16(.|\n)*window:   y 0:224"):
        embed(scene_of(random_pixels(224, 224, seed=2)))


@pytest.mark.parametrize(
    ("key", "modalities", "size"),
    [
        ("terramind_v1_tiny", 1, 8),
        ("terramind_v1_large", 1, 8),
        ("terramind_v1_base", 2, 6),
        ("terramind_v1_large", 6, 1),
    ],
)
def test_a_cpu_batch_keeps_activations_below_the_allocators_threshold(key, modalities, size):
    spec = find_spec(key)
    assert devices.batch_size(None, spec, "cpu", modalities) == size
    assert devices.batch_size("auto", spec, "cpu", modalities) == size
    assert devices.batch_size(31, spec, "cpu", modalities) == 31
    assert modalities * size * 196 * 16 * spec.embed_dim <= 2**25 or size == 1


def test_terrafm_takes_the_users_batch_size():
    with xr_rsembed.set_options(terrafm__batch_size=5):
        assert devices.batch_size(None, find_spec("terrafm"), "cpu") == 5
        assert devices.batch_size(None, find_spec("terramind_v1_tiny"), "cpu") == 8


def test_numbers_of_numpy_are_settings_like_any_other():
    given = {
        "batch_size": np.int64(4),
        "overlap": np.int32(32),
        "density": np.int64(2),
        "layer": np.int64(-2),
    }
    settings = Settings(**given, min_valid=np.float32(0.5))
    assert {name: getattr(settings, name) for name in given} == given
    assert {type(getattr(settings, name)) for name in given} == {int}
    assert settings.min_valid == 0.5
    assert devices.batch_size(settings.batch_size, find_spec("terramind_v1_tiny"), "cpu") == 4


def test_products_of_float32_stay_float32_and_the_users_setting_comes_back(probe, monkeypatch):
    seen = []
    call = fakes.Probe.__call__
    monkeypatch.setattr(
        fakes.Probe,
        "__call__",
        lambda self, *args: (seen.append(torch.get_float32_matmul_precision()), call(self, *args))[1],
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        embed(scene_of(random_pixels(224, 224, seed=3)))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["highest"]


def test_no_more_than_three_blocks_are_in_flight(probe, monkeypatch):
    from xr_rsembed.engine import embed as module

    running, most = 0, 0
    lock, run = threading.Lock(), module.run_block

    def counted(*args):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return run(*args)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(module, "run_block", counted)
    scene = scene_of(random_pixels(896, 896, seed=4), {"y": 224, "x": 224})
    with xr_rsembed.set_options(block_tiles=1):
        embed(scene).compute(scheduler="threads", num_workers=8)
    assert 1 <= most <= 3


@pytest.mark.parametrize(
    ("device", "gpu", "expected"),
    [("cpu", False, 3), ("cpu", True, 3), ("auto", False, 3), ("auto", True, 12), ("cuda:1", True, 12)],
)
def test_a_gpu_is_fed_by_more_threads_than_a_cpu(monkeypatch, device, gpu, expected):
    from xr_rsembed.engine import devices

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    leave, inside = threading.Event(), []
    full = threading.Semaphore(0)

    def fly(number):
        with devices.in_flight(device):
            inside.append(number)
            full.release()
            leave.wait(60)

    threads = [threading.Thread(target=fly, args=(number,)) for number in range(expected + 2)]
    for thread in threads:
        thread.start()
    try:
        assert all(full.acquire(timeout=60) for _ in range(expected))
        assert not full.acquire(timeout=0.2)  # nobody else got in
    finally:
        leave.set()
        for thread in threads:
            thread.join()
    assert len(inside) == expected + 2


def test_pixels_of_the_scene_are_never_written_on(probe):
    pixels = random_pixels(300, 300, seed=5).astype("float32")
    before = pixels.copy()
    embed(scene_of(pixels))
    embed(scene_of(pixels), input_prep="resize")
    scene_of(pixels).rsembed.normalize("probe")
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.gpu
def test_a_gpu_gives_the_cpus_numbers():
    scene = scene_of(random_pixels(500, 700, seed=6), {"y": 256})
    numbers = [
        xr_rsembed.embed(scene, "terramind_v1_tiny", weights="random", device=device, overlap=64).compute()
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_an_automatic_batch_fits_the_gpu():
    spec = replace(find_spec("terramind_v1_base"))
    assert 1 <= devices.batch_size("auto", spec, "cuda") <= 256


def test_a_warning_is_of_our_class(full_device):
    full_device(1)
    with pytest.warns(RsEmbedWarning, match="ran out of memory"), xr_rsembed.set_options(block_tiles=2):
        xr_rsembed.embed(
            scene_of(random_pixels(224, 448, seed=7)), "probe", weights="random", device="cpu", batch_size=2
        )
