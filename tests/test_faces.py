"""The faces: every public name leads somewhere, and every accessor method to the function that it names."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

import numpy as np
import pytest
import xarray as xr

import xr_rsembed
from xr_rsembed import accessor, api
from xr_rsembed.datasets import synthetic_scene


@pytest.mark.parametrize("module", [xr_rsembed, api, xr_rsembed.explore], ids=lambda module: module.__name__)
def test_every_public_name_is_there_and_said_what(module):
    for name in module.__all__:
        thing = getattr(module, name)
        assert name == "__version__" or inspect.getdoc(thing), name
    assert set(module.__all__) <= {*dir(module), *api.__all__, *xr_rsembed.explore.__all__}


@pytest.mark.parametrize("module", [xr_rsembed, api])
def test_other_names_are_not(module):
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        _ = module.embedd


METHODS = [
    (face, name, method)
    for face in (accessor.DataArrayRsEmbed, accessor.DatasetRsEmbed)
    for name, method in inspect.getmembers(face, inspect.isfunction)
    if not name.startswith("_")
]


@pytest.mark.parametrize(
    ("face", "name", "method"), METHODS, ids=lambda value: getattr(value, "__name__", value)
)
def test_methods_name_their_function(face, name, method):
    (target,) = re.findall(r":func:`(xr_rsembed\S*)`", inspect.getdoc(method))
    module, _, function = target.rpartition(".")
    theirs = inspect.signature(getattr(import_module(module), function)).parameters
    ours = inspect.signature(method).parameters
    assert function == name
    assert len(inspect.getsource(method).split('"""')[-1].strip().splitlines()) == 1, "a face has no logic"
    for parameter in list(ours.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        assert parameter.name in theirs or name == "change"
        if parameter.default is not parameter.empty:
            assert theirs[parameter.name].default == parameter.default, "one default, in one place"


def test_a_walk_through_the_accessor(tmp_path, probe):
    scene = synthetic_scene((460, 470), chunks=224)
    scene.rsembed.validate("terramind_v1_tiny")
    assert scene[::-1].rsembed.to_bands("probe").band.values[0] == "B1"
    assert float(scene.rsembed.normalize("terrafm").max()) <= 1.0
    emb = scene.rsembed.embed("probe", weights="random", device="cpu")
    stored = emb.rsembed.to_zarr(tmp_path / "emb.zarr")
    np.testing.assert_array_equal(stored, emb)
    for suffix in ("nc", "tif"):
        saved = emb.rsembed.save(tmp_path / f"emb.{suffix}")
        np.testing.assert_array_equal(saved, emb)
        assert xr_rsembed.open(tmp_path / f"emb.{suffix}").dims == emb.dims
    point = (float(emb.x[3]), float(emb.y[4]))
    assert emb.rsembed.similarity(point).compute().argmax(...)["y"] == 4
    assert emb.rsembed.pca(2).sizes["component"] == 2
    assert emb.rsembed.cluster(3).dims == ("y", "x")
    assert float(emb.rsembed.change(emb).max()) < 1e-5
    assert emb.rsembed.plot_rgb().get_title() is not None
    assert scene.rsembed.plot_scene() is not None


def test_datasets_have_a_face_too():
    ds = xr.Dataset({"S2L2A": synthetic_scene((64, 64)), "DEM": synthetic_scene((64, 64), modality="DEM")})
    ds.rsembed.validate("terramind_v1_tiny")
    assert ds.rsembed.align()["DEM"].dims == ("band_DEM", "y", "x")
