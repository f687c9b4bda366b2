"""The real tiles of ../shared/data through both models, where they are there."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

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


def test_db_radar_is_refused_by_terrafm(shared):
    from xr_rsembed.errors import UnitsError

    with pytest.raises(UnitsError, match="10 \\*\\* \\(da / 10\\)"):
        open_scene(tile(shared, "s1rtc", TILES[0])).rsembed.embed("terrafm", weights="random").compute()
