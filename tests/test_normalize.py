"""Normalization against the formulas as the models' authors publish them, on numpy arrays and on tensors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xr_rsembed.normalize import Normalization, normalize

RNG = np.random.default_rng(0)


def as_numpy(pixels, how, **masks):
    return normalize(pixels, how, **masks)


def as_torch(pixels, how, **masks):
    import torch

    tensors = {name: torch.from_numpy(mask) for name, mask in masks.items()}
    return normalize(torch.from_numpy(pixels), how, **tensors).numpy()


libraries = pytest.mark.parametrize("run", [as_numpy, as_torch])


@libraries
def test_zscore_clips_raw_values_first(run):
    dn = RNG.integers(0, 20000, size=(3, 8, 8), dtype="uint16")
    mean, std = (1000.0, 2000.0, 3000.0), (500.0, 700.0, 900.0)
    expected = (np.clip(dn.astype("float64"), 0, 10000) - np.reshape(mean, (3, 1, 1))) / np.reshape(
        std, (3, 1, 1)
    )
    result = run(dn, Normalization("zscore", mean=mean, std=std, clip=(0.0, 10000.0)))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@libraries
def test_scale_clips_the_result(run):
    dn = np.array([[[0, 5000, 10000, 12000]]], dtype="uint16")
    how = Normalization("scale", divisor=10000.0, clip=(0.0, 1.0))
    np.testing.assert_allclose(run(dn, how), [[[0, 0.5, 1, 1]]])


@libraries
@settings(max_examples=30)
@given(st.floats(0.0, 0.99), st.integers(0, 1000))
def test_log_percentile_runs_over_valid_pixels_of_all_bands_of_a_tile(run, share, seed):
    rng = np.random.default_rng(seed)
    linear = rng.gamma(2.0, 0.1, size=(4, 2, 16, 16)).astype("float32") - 0.01
    valid = rng.random((4, 1, 16, 16)) >= share
    result = run(linear, Normalization("log_percentile", clip=(0.0, 1.0)), valid=valid)
    for tile in range(4):
        logged = np.log1p(np.maximum(linear[tile], 0))
        mask = np.broadcast_to(valid[tile], logged.shape)
        divisor = np.percentile(logged[mask], 99) if mask.any() else 1.0
        expected = np.where(mask, np.clip(logged / (divisor if divisor > 0 else 1.0), 0, 1), 0)
        np.testing.assert_allclose(result[tile], expected, rtol=2e-5, atol=1e-6)


@libraries
def test_fixed_scale_takes_the_place_of_the_percentile(run):
    linear = RNG.gamma(2.0, 0.1, size=(2, 8, 8)).astype("float32")
    how = Normalization("log_percentile", clip=(0.0, 1.0), divisor=0.35)
    np.testing.assert_allclose(run(linear, how), np.clip(np.log1p(linear) / 0.35, 0, 1), rtol=1e-5)


@libraries
def test_invalid_pixels_come_out_as_zero_even_where_they_are_nan(run):
    pixels = np.full((2, 4, 4), 3.0, dtype="float32")
    pixels[:, 0, 0] = np.nan
    valid = np.isfinite(pixels).all(axis=0, keepdims=True)
    result = run(pixels, Normalization("zscore", mean=(1.0, 1.0), std=(2.0, 2.0)), valid=valid)
    assert result[0, 0, 0] == 0.0
    assert (result[:, 1:] == 1.0).all()


def test_the_input_is_left_as_it_was():
    pixels = RNG.normal(size=(2, 4, 4)).astype("float32")
    before = pixels.copy()
    normalize(pixels, Normalization("zscore", mean=(1.0, 1.0), std=(2.0, 2.0), clip=(0.0, 1.0)))
    np.testing.assert_array_equal(pixels, before)


def test_none_is_the_raw_values_as_float32():
    result = normalize(np.array([[[7, 65535]]], dtype="uint16"), Normalization("none"))
    assert result.dtype == np.float32
    assert result.tolist() == [[[7.0, 65535.0]]]
