"""The real tiles of ../shared/data through both models, where they are there."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio

from xr_rsembed.errors import RsEmbedWarning
from xr_rsembed.scenes import open_scene

TILES = ["38D_378R_2_3", "637U_59R_1_3"]


def tile(shared, kind, name):
    return shared / "data" / kind / f"{name}.tif"


@pytest.mark.filterwarnings("ignore::xr_rsembed.RsEmbedWarning")
@pytest.mark.parametrize("name", TILES)
@pytest.mark.parametrize(
    ("kind", "model", "options"),
    [
        ("s2l2a", "terramind_v1_tiny", {}),
        ("s2l1c", "terramind_v1_tiny", {}),
        ("s1rtc", "terramind_v1_tiny", {"modality": "S1RTC"}),
        ("dem", "terramind_v1_tiny", {"modality": "DEM"}),
        ("s2l2a", "terrafm", {}),
        ("s2l2a", "terrafm", {"product": "L2A"}),
    ],
)
def test_embeds_where_it_lies(shared, name, kind, model, options):
    path = tile(shared, kind, name)
    result = open_scene(path).rsembed.embed(model, weights="random", **options).compute()
    assert result.shape[1:] == (14, 14)
    assert np.isfinite(result.values).all()
    assert np.ptp(result.values, axis=(1, 2)).max() > 0.1, "cells differ"
    with rasterio.open(path) as source:
        assert result.rio.crs == source.crs
        np.testing.assert_allclose(result.rio.bounds(), source.bounds)


@pytest.mark.filterwarnings("ignore::xr_rsembed.RsEmbedWarning")
@pytest.mark.parametrize("name", TILES)
def test_nothing_is_said_of_the_numbers(shared, name):
    """No alarm on what is there, nor on coarser, darker or harmonized pixels of it."""
    s2 = open_scene(tile(shared, "s2l2a", name)).load()
    s1 = open_scene(tile(shared, "s1rtc", name)).load().assign_attrs(units="dB")
    optical = [s2, s2 // 2, (s2 - 300).clip(0), s2.where(s2 > 1, 0), s2.coarsen(y=2, x=2).mean()]
    optical.append((s2 / 10_000).assign_attrs(units="reflectance"))
    radar = [s1, s1.coarsen(y=2, x=2).mean(), (10 ** (s1 / 10)).assign_attrs(units="linear")]
    said = ".*the (numbers|bands) may be|.*same pixels|.*every pixel of a block|No pixel of a block"
    for modality, scenes in (("S2L2A", optical), ("S1RTC", radar)):
        for scene in scenes:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", said)
                scene.rsembed.normalize("terramind_v1_tiny", modality=modality).compute()


@pytest.mark.filterwarnings("ignore::xr_rsembed.RsEmbedWarning")
@pytest.mark.parametrize("name", TILES)
def test_amplitude_is_told_from_power(shared, name):
    s1 = open_scene(tile(shared, "s1rtc", name)).load()
    amplitude = (10 ** (s1 / 20)).assign_attrs(units="linear")
    with pytest.warns(RsEmbedWarning, match="amplitude"):
        amplitude.rsembed.normalize("terramind_v1_tiny", modality="S1RTC").compute()


def test_db_radar_is_refused_by_terrafm(shared):
    from xr_rsembed.errors import UnitsError

    with pytest.raises(UnitsError, match="10 \\*\\* \\(da / 10\\)"):
        open_scene(tile(shared, "s1rtc", TILES[0])).rsembed.embed("terrafm", weights="random").compute()
