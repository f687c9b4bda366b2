"""What the command line says of a file, where the command line's own tests do not look."""

from __future__ import annotations

import json

import geopandas
import numpy as np
import pytest

import xr_rsembed  # noqa: F401  (registers .rsembed)
from tests.embeddings import points, stripes
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import LabelError, StoreExistsError
from xr_rsembed.report import classify_file, describe_file, draw_file
from xr_rsembed.scenes import save_scene


@pytest.mark.parametrize(
    ("nodata", "told"), [(0, 0.0), ([0, 65535], [0.0, 65535.0]), (np.nan, None)], ids=["one", "two", "NaN"]
)
def test_nodata_is_told_as_json_can_hold_it(tmp_path, nodata, told):
    scene = synthetic_scene((64, 48)).drop_attrs(deep=False).assign_attrs(missing_value=nodata)
    save_scene(scene, tmp_path / "scene.zarr")
    found = describe_file(str(tmp_path / "scene.zarr"))
    assert found.get("nodata") == told
    json.dumps(found, allow_nan=False)


@pytest.fixture
def stored(tmp_path):
    stripes().rsembed.to_netcdf(tmp_path / "emb.nc")
    points().to_file(tmp_path / "labels.geojson")
    return tmp_path


@pytest.mark.parametrize("suffix", [".zarr", ".nc", ".tif"])
def test_a_map_of_classes_replaces_another_where_asked_to(stored, suffix):
    target = stored / f"classes{suffix}"
    for overwrite in (False, True):
        names = classify_file(
            str(stored / "emb.nc"), str(stored / "labels.geojson"), str(target),
            column="class", method="knn", overwrite=overwrite,
        )  # fmt: skip
    assert names == sorted(set(points()["class"]))
    with pytest.raises(StoreExistsError, match="there already"):
        classify_file(
            str(stored / "emb.nc"), str(stored / "labels.geojson"), str(target), column="class", method="knn"
        )


def test_a_picture_of_what_is_like_a_place_needs_a_crs(stored):
    at = geopandas.read_file(stored / "labels.geojson").geometry[0]
    draw_file(str(stored / "emb.nc"), stored / "like.png", like=(at.x, at.y))
    assert (stored / "like.png").stat().st_size > 5_000
    stripes().drop_vars("spatial_ref").drop_attrs().rsembed.to_netcdf(stored / "bare.nc")
    with pytest.raises(LabelError, match="without a CRS"):
        draw_file(str(stored / "bare.nc"), stored / "none.png", like=(at.x, at.y))
