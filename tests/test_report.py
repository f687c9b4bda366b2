"""What the command line says of a file, where the command line's own tests do not look."""

from __future__ import annotations

import json

import numpy as np
import pytest

from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.report import describe_file
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
