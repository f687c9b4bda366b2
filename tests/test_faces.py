"""The faces: every public name leads somewhere, and every accessor method to the function that it names."""

from __future__ import annotations

import builtins
import inspect
import pydoc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xr_rsembed
from xr_rsembed import accessor, explore, store
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import OptionError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("module", [xr_rsembed, explore, store], ids=lambda module: module.__name__)
def test_every_public_name_is_there_and_said_what(module):
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert name == "__version__" or inspect.getdoc(getattr(module, name)), name


@pytest.mark.parametrize("module", [xr_rsembed, explore])
def test_other_names_are_not(module):
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        _ = module.embedd


def test_a_star_import_leaves_the_builtins():
    namespace: dict = {}
    exec("from xr_rsembed import *", namespace)
    assert {"embed", "validate", "to_bands"} <= namespace.keys()
    assert not namespace.keys() & set(dir(builtins)) - {"__doc__", "__name__", "__package__", "__spec__"}
    assert xr_rsembed.open is store.open_embedding


METHODS = [
    (face, name, method._load())
    for face in (accessor.DataArrayRsEmbed, accessor.DatasetRsEmbed)
    for kind in face.__mro__
    for name, method in vars(kind).items()
    if isinstance(method, accessor.Method)
]


@pytest.mark.parametrize(
    ("face", "name", "function"), METHODS, ids=[f"{f.__name__}.{n}" for f, n, _ in METHODS]
)
def test_a_method_has_the_signature_of_its_function(face, name, function):
    theirs = list(inspect.signature(function).parameters.values())[1:]
    bound = getattr(face(xr.DataArray([0.0])), name)
    assert list(inspect.signature(bound).parameters.values()) == theirs
    assert inspect.getdoc(bound) == inspect.getdoc(function)
    assert bound.__name__ == name
    assert f"{name}(self" in pydoc.plain(pydoc.render_doc(face))


def test_completion_offers_every_setting():
    jedi = pytest.importorskip("jedi")
    scene = synthetic_scene((32, 32))
    offered = [c.name for c in jedi.Interpreter("da.rsembed.embed(o", [{"da": scene}]).complete()]
    assert {"overlap=", "output=", "out_dtype="} <= set(offered)


def test_scenes_and_embeddings_are_told_apart():
    scene = set(dir(synthetic_scene((32, 32)).rsembed))
    emb = set(dir(xr.DataArray(np.zeros((2, 1, 1)), dims=("D", "y", "x")).rsembed))
    assert {"embed", "to_bands", "plot_scene"} <= scene - emb
    assert {"pca", "classify", "to_zarr", "plot_rgb"} <= emb - scene


def test_types_reach_the_checker(tmp_path):
    (tmp_path / "user.py").write_text(
        "import xr_rsembed.accessor as a\n"
        "def f(face: a.DataArrayRsEmbed) -> None:\n"
        "    face.embed('terramind', overlap='much')\n"
        "    face.pca(3, seeds=1)\n"
    )
    command = [sys.executable, "-m", "mypy", tmp_path / "user.py"]  # with the cache of ``make lint``
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert 'Argument "overlap"' in said
    assert '"seeds"' in said


def test_places_and_scenes_are_asked_for_in_one_vocabulary():
    with pytest.raises(OptionError, match="cannot be read"):
        xr_rsembed.fetch(backend="stac", bbox=(9.0, 45.0, 9.1, 45.1), temporal="2022-13")
    with pytest.raises(OptionError, match="cannot be read"):
        xr_rsembed.get_embedding(bbox=(9.0, 45.0, 9.1, 45.1), time="2022-13", provider="stac")
    with pytest.raises(OptionError, match="one argument under two names"):
        xr_rsembed.get_embedding(bbox=(9, 45, 9.1, 45.1), spatial=(9, 45, 9.1, 45.1), time="2022")


@pytest.mark.parametrize(
    "settings",
    [{"input_prep": "resize", "overlap": 64}, {"input_prep": "resize", "blend": "mean"}, {"pooling": "max"}],
)
def test_settings_that_mean_nothing_together_are_refused(settings):
    with pytest.raises(OptionError, match="means nothing beside"):
        synthetic_scene((32, 32)).rsembed.embed("terramind_v1_tiny", weights="random", **settings)


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
