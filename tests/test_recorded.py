"""What was asked before counts, not what is asked today; a divisor of radar is made of measured power alone."""

from __future__ import annotations

import numpy as np
import pytest
import rioxarray  # noqa: F401  the .rio accessor
import xarray as xr

import xr_rsembed
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import SceneError, UnitsError

KEY = "terramind_v1_tiny"


@pytest.mark.parametrize(
    "today",
    [
        {"terramind.normalize": "none"},
        {"terramind.layer_index": 2},
        {"terramind.modality": "S2L1C"},
        {"block_tiles": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("asked", [{}, {"normalize": "none"}, {"layer": [1, 3]}], ids=str)
def test_reproduce_follows_the_record(asked, today):
    scene = synthetic_scene((224, 224)).compute()
    emb = xr_rsembed.embed(scene, KEY, weights="random", device="cpu", **asked)
    with xr_rsembed.set_options(today):
        again = xr_rsembed.reproduce(emb, scene)
    np.testing.assert_allclose(again, emb, atol=1e-5)


@pytest.mark.parametrize("option", [{"terramind.normalize": "none"}, {"terramind.layer_index": 2}], ids=str)
def test_reproduce_follows_an_option_of_that_day(option):
    scene = synthetic_scene((224, 224)).compute()
    with xr_rsembed.set_options(option):
        emb = xr_rsembed.embed(scene, KEY, weights="random", device="cpu")
    np.testing.assert_allclose(xr_rsembed.reproduce(emb, scene), emb, atol=1e-5)


def power(size: int = 40) -> xr.DataArray:
    values = np.random.default_rng(0).gamma(2, 0.1, (2, size, size)).astype("float32")
    return xr.DataArray(
        values, dims=("band", "y", "x"), coords={"band": ["VV", "VH"]}, attrs={"units": "linear"}
    )


@pytest.mark.parametrize(
    ("nodata", "attrs"),
    [
        (np.nan, {}),
        (0.0, {}),
        (0.0, {"_FillValue": 0}),
        (-9999.0, {"nodata": -9999.0}),
        (7e5, {"missing_value": 7e5}),
    ],
)
def test_a_divisor_is_of_measured_pixels(nodata, attrs):
    whole = power()
    part = whole.assign_attrs(attrs).copy()
    part[:, :, 20:] = nodata
    measured = np.log1p(whole.values[:, :, :20].astype("float64"))
    assert xr_rsembed.s1_scale(part) == pytest.approx(np.percentile(measured, 99))


@pytest.mark.parametrize("attrs", [{"units": "dB"}, {"units": "db"}, {}])
def test_a_divisor_of_decibels_is_refused_and_the_remedy_gives_it(attrs):
    decibels = (10 * np.log10(power())).assign_attrs(attrs)
    decibels = decibels if attrs else decibels.drop_attrs()
    decibels[:, :, 30:] = -9999.0
    decibels = decibels.rio.write_nodata(-9999.0)
    with pytest.raises(UnitsError) as caught:
        xr_rsembed.s1_scale(decibels)
    line = str(caught.value).partition("remedy:")[2].strip()
    found = eval(line, {"s1_scale": xr_rsembed.s1_scale, "da": decibels})  # the line as it was printed
    assert found == pytest.approx(xr_rsembed.s1_scale(power()[:, :, :30]), rel=1e-5)


def test_a_divisor_of_nothing_is_named():
    with pytest.raises(SceneError, match="no valid pixel"):
        xr_rsembed.s1_scale(power() * np.nan)
