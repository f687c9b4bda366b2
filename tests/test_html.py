"""What Jupyter shows of an embedding."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from tests.test_engine import embed, raise_if_dask_computes, random_pixels, scene_of


@pytest.fixture
def lazy(probe):
    return embed(scene_of(random_pixels(300, 500, seed=1), {"y": 100}), overlap=64)


def test_a_lazy_embedding_is_not_computed(lazy):
    with dask.config.set(scheduler=raise_if_dask_computes):
        shown = lazy.rsembed._repr_html_()
    for word in ("probe (S2L2A)", "overlap 64", "cells of 160 m, EPSG:32632", "lazy in 1 chunks", "random"):
        assert word in shown
    assert "<img" not in shown


def test_one_in_memory_has_a_small_picture(lazy):
    shown = lazy.compute().rsembed._repr_html_()
    assert "in memory" in shown
    assert "data:image/png;base64," in shown


def test_one_without_a_picture_shows_the_rest(lazy):
    for emb in (lazy.compute() * np.nan, lazy.compute().isel(y=[0], x=[0])):
        shown = emb.rsembed._repr_html_()
        assert "in memory" in shown
        assert "<img" not in shown


def test_text_of_others_is_escaped(lazy):
    lazy.attrs["weights"] = "<script>alert(1)</script>"
    assert "<script>" not in lazy.rsembed._repr_html_()


def test_any_array_has_one():
    shown = xr.DataArray(np.zeros((2, 3)), dims=("a", "b")).rsembed._repr_html_()
    assert "no embedding of xr-rsembed" in shown
