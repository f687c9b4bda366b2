"""The made scenes: the same whatever the chunks, lazy at any size, and labelled like a real one."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import rioxarray  # noqa: F401  the .rio accessor

from xr_rsembed.datasets import synthetic_scene

MODALITIES = ["S2L2A", "S2L1C", "S1GRD", "S1RTC", "DEM", "LULC"]


@pytest.mark.parametrize("modality", MODALITIES)
def test_chunks_and_windows_do_not_change_a_pixel(modality):
    options = {"modality": modality, "seed": 3, "clouds": 0.4, "nodata_share": 0.2}
    whole = synthetic_scene((300, 530), chunks=None, **options)
    for chunks in (97, (300, 150), 2048):
        np.testing.assert_array_equal(
            synthetic_scene((300, 530), chunks=chunks, **options).values, whole.values
        )
    window = synthetic_scene((300, 530), chunks=128, **options)[:, 250:290, 101:400:3]
    np.testing.assert_array_equal(window.values, whole[:, 250:290, 101:400:3].values)


def test_a_larger_scene_holds_the_smaller_one():
    small = synthetic_scene((64, 64), chunks=None)
    large = synthetic_scene((400, 300), chunks=100)[:, :64, :64]
    np.testing.assert_array_equal(large.values, small.values)
    np.testing.assert_array_equal(large.x.values, small.x.values)


def test_any_size_builds_at_once_with_one_task_a_chunk():
    scene = synthetic_scene((100_000, 100_000), chunks=10_000)
    assert scene.sizes == {"band": 12, "y": 100_000, "x": 100_000}
    corner = scene[3, -2:, -2:]
    (graph,) = dask.optimize(corner.data)
    assert len(dict(graph.__dask_graph__())) <= 2
    assert corner.values.min() > 0


@pytest.mark.parametrize("modality", MODALITIES)
def test_labels_are_those_of_a_real_scene(modality):
    scene = synthetic_scene((40, 30), modality)
    assert scene.rio.crs.to_epsg() == 32632
    assert scene.odc.geobox.resolution.x == 10
    assert scene.rio.transform()[2] == scene.x.values[0] - 5
    assert scene.attrs["modality"] == modality
    nodata = scene.rio.nodata
    assert np.isnan(nodata) if scene.dtype.kind == "f" else nodata == 0
    expected = {"S2L2A": 12, "S2L1C": 13, "S1GRD": 2, "S1RTC": 2, "DEM": 1, "LULC": 1}
    assert scene.sizes["band"] == expected[modality]
