"""Without an optional package: our own error, with the line that installs it."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from packaging.requirements import Requirement

import xr_rsembed
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import MissingDependencyError
from xr_rsembed.extras import EXTRA_OF

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def hide(monkeypatch):
    def hidden(package: str) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    return hidden


def embedding() -> xr.DataArray:
    values = np.random.default_rng(0).normal(size=(4, 6, 6)).astype("float32")
    return xr.DataArray(values, dims=("D", "y", "x"), coords={"y": np.arange(6.0), "x": np.arange(6.0)})


def labels():
    geopandas = pytest.importorskip("geopandas")
    points = geopandas.points_from_xy([0, 3], [0, 3])
    return geopandas.GeoDataFrame({"class": ["a", "b"]}, geometry=points)


def region(folder):
    return xr_rsembed.region(folder / "r.zarr", str(folder / "area.gpkg"), ["2022-06"], "terramind_v1_tiny")


# For each package: what needs it, called with an embedding, labels and a folder.
NEEDS = {
    "geopandas": {
        "nearest": lambda emb, labels, folder: emb.rsembed.nearest(emb[:, 0, 0]),
        "classify": lambda emb, labels, folder: emb.rsembed.classify(labels),
        "sample": lambda emb, labels, folder: emb.rsembed.sample([(0, 0)]),
        "similarity to a file": lambda emb, labels, folder: emb.rsembed.similarity(folder / "a.geojson"),
        "places": lambda emb, labels, folder: xr_rsembed.get_embeddings_batch(
            "terramind", spatials=[(9, 45, 9.1, 45.1)]
        ),
        "region": lambda emb, labels, folder: region(folder),
    },
    "xvec": {
        "sample": lambda emb, labels, folder: emb.rsembed.sample([(0, 0)]),
        "places": lambda emb, labels, folder: xr_rsembed.get_embeddings_batch(
            "terramind", spatials=[(9, 45, 9.1, 45.1)]
        ),
    },
    "exactextract": {"zonal": lambda emb, labels, folder: emb.rsembed.zonal(labels.buffer(1))},
    "pyarrow": {"to_geoparquet": lambda emb, labels, folder: emb.rsembed.to_geoparquet(folder / "a.parquet")},
    "sklearn": {
        "cluster": lambda emb, labels, folder: emb.rsembed.cluster(2),
        "classify": lambda emb, labels, folder: emb.rsembed.classify(labels),
    },
    "panel": {"explore": lambda emb, labels, folder: emb.rsembed.explore()},
    "bokeh": {"explore": lambda emb, labels, folder: emb.rsembed.explore()},
    "matplotlib": {
        "plot_rgb": lambda emb, labels, folder: emb.rsembed.plot_rgb(),
        "plot_similarity": lambda emb, labels, folder: emb[0].rsembed.plot_similarity(),
        "plot_classes": lambda emb, labels, folder: emb[0].astype(int).rsembed.plot_classes(),
        "plot_scene": lambda emb, labels, folder: synthetic_scene((32, 32)).rsembed.plot_scene(),
        "explore": lambda emb, labels, folder: emb.rsembed.explore(synthetic_scene((32, 32))),
    },
    "ee": {
        "fetch": lambda emb, labels, folder: xr_rsembed.fetch("gee", bbox=(9, 45, 9.1, 45.1), time="2022")
    },
    "stac_geoparquet": {
        "a table of items": lambda emb, labels, folder: xr_rsembed.fetch(
            "stac", bbox=(9, 45, 9.1, 45.1), time="2022", catalog=str(folder / "items.parquet")
        )
    },
}


@pytest.mark.parametrize(("package", "what"), [(one, what) for one, calls in NEEDS.items() for what in calls])
def test_the_error_has_the_line_that_installs(hide, tmp_path, package, what):
    emb, given = embedding(), labels()
    for name in ("items.parquet", "a.geojson", "area.gpkg"):
        (tmp_path / name).touch()
    hide(package)
    extra = EXTRA_OF.get(package)
    line = f"pip install 'xr-rsembed\\[{extra}\\]'" if extra else f"pip install {package}"
    with pytest.raises(MissingDependencyError, match=line):
        NEEDS[package][what](emb, given, tmp_path)


def test_signing(hide):
    from xr_rsembed.providers.catalogs import _sign_planetary

    hide("planetary_computer")
    with pytest.raises(MissingDependencyError, match=r"pip install 'xr-rsembed\[stac\]'"):
        _sign_planetary("https://example.com/a.tif", False)


def stderr_of(code: str) -> str:
    """Of a process of its own, for packages that others may have loaded here already, and keep."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stderr


def test_an_address_whose_package_is_missing():
    stderr = stderr_of(
        "import sys; sys.modules['s3fs'] = None; import numpy, xarray, xr_rsembed;"
        "emb = xarray.DataArray(numpy.ones((4, 6, 6), 'float32'), dims=('D', 'y', 'x'));"
        "emb.rsembed.to_zarr('s3://bucket/emb.zarr')"
    )
    assert "xr_rsembed.errors.StoreError" in stderr
    assert "for s3:// pip install s3fs" in stderr


def test_a_cluster():
    stderr = stderr_of(
        "import sys; sys.modules['distributed'] = None; from xr_rsembed.distributed import warm"
    )
    assert stderr.rstrip().endswith("remedy:   pip install 'xr-rsembed[distributed]'")


def test_each_package_comes_with_its_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    holds = {extra: {Requirement(line).name for line in lines} for extra, lines in extras.items()}
    known = importlib.metadata.packages_distributions()
    for package, extra in EXTRA_OF.items():
        (name,) = known[package]
        assert holds[extra] & {name, name.replace("_", "-")}, f"{package} is not in [{extra}]"
    tested = {*NEEDS, "planetary_computer", "distributed"}
    assert set(EXTRA_OF) <= tested
