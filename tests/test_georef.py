"""Where cells lie: against rasterio's own transform, for every orientation, and for cuts of a scene."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.transform
import rioxarray  # noqa: F401  the .rio accessor
import xarray as xr
from affine import Affine

import xr_rsembed
from tests import fakes
from xr_rsembed.errors import GridError, RsEmbedWarning

pytestmark = pytest.mark.usefixtures("probe")


def scene_of(height, width, transform, crs="EPSG:32632"):
    """A scene whose coords are pixel centres by rasterio's transform."""
    y = [rasterio.transform.xy(transform, row, 0)[1] for row in range(height)]
    x = [rasterio.transform.xy(transform, 0, column)[0] for column in range(width)]
    scene = xr.DataArray(
        np.full((12, height, width), 1000, dtype="uint16"),
        dims=("band", "y", "x"),
        coords={"y": y, "x": x},
        attrs={"units": "DN", "long_name": fakes.S2},
    ).chunk({"y": 100})
    return scene if crs is None else scene.rio.write_crs(crs)


def embed(scene, **options):
    return xr_rsembed.embed(scene, "probe", weights="random", **options)


@pytest.mark.parametrize(
    ("north", "east"),
    [(-10.0, 10.0), (10.0, 10.0), (-10.0, -10.0)],
    ids=["north-up", "south-up", "x-descending"],
)
def test_cell_centres_follow_rasterio(north, east):
    transform = Affine(east, 0, 500_000, 0, north, 5_000_000)
    result = embed(scene_of(470, 300, transform))
    # Patches count from the north and the west: what they reach beyond the scene lies in the south and the east.
    beyond = (300 - 304 if east < 0 else 0, 470 - 480 if north > 0 else 0)
    cells = transform * Affine.translation(*beyond) * Affine.scale(16)
    np.testing.assert_allclose(
        result.y, [rasterio.transform.xy(cells, row, 0)[1] for row in range(30)], rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(
        result.x, [rasterio.transform.xy(cells, 0, column)[0] for column in range(19)], rtol=0, atol=1e-6
    )
    assert result.rio.crs.to_epsg() == 32632
    assert result.rio.transform().almost_equals(cells)
    assert result.odc.geobox.shape == (30, 19)


def test_a_cut_at_a_multiple_of_16_pixels_keeps_the_grid():
    scene = scene_of(900, 800, Affine(10, 0, 500_000, 0, -10, 5_000_000))
    whole, part = embed(scene), embed(scene[:, 32:700, 160:])
    np.testing.assert_array_equal(part.y, whole.y[2 : 2 + part.sizes["y"]])
    np.testing.assert_array_equal(part.x, whole.x[10:])


def test_without_crs_plain_coords_and_a_warning():
    scene = scene_of(300, 300, Affine(10, 0, 0, 0, -10, 3000), crs=None)
    with pytest.warns(RsEmbedWarning, match="CRS"):
        result = embed(scene)
    assert "spatial_ref" not in result.coords
    np.testing.assert_allclose(result.y[:2], [2920, 2760])


def test_geographic_crs_warns():
    scene = scene_of(300, 300, Affine(1e-4, 0, 9, 0, -1e-4, 45), crs="EPSG:4326")
    with pytest.warns(RsEmbedWarning, match="geographic"):
        result = embed(scene)
    assert result.dims == ("D", "y", "x")
    assert result.rio.crs.to_epsg() == 4326


def test_resolution_far_from_ten_metres_warns():
    scene = scene_of(300, 300, Affine(30, 0, 500_000, 0, -30, 5_000_000))
    with pytest.warns(RsEmbedWarning, match="30"):
        embed(scene)


def test_irregular_and_rotated_grids_are_refused():
    scene = scene_of(300, 300, Affine(10, 0, 500_000, 0, -10, 5_000_000))
    bent = scene.assign_coords(y=scene.y.values + np.r_[np.zeros(150), np.full(150, 7.0)])
    with pytest.raises(GridError, match="regular"):
        embed(bent)
    rotated = scene.drop_vars(["x", "y"]).rio.write_transform(
        Affine.translation(500_000, 5_000_000) * Affine.rotation(20) * Affine.scale(10, -10)
    )
    with pytest.raises(GridError, match="rotated"):
        embed(rotated)
