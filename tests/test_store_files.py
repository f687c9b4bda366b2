"""NetCDF and GeoTIFF: what comes back, and that a file is whole or not there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
from rasterio.enums import Resampling

from tests.chaos.fake import OVERLAPPED, embedding, runs
from xr_rsembed.errors import (
    OptionError,
    StoreError,
    StoreExistsError,
    StoreLockedError,
    StoreNotFoundError,
)
from xr_rsembed.store.disk import locked
from xr_rsembed.store.export import open_file, save

SUFFIXES = (".zarr", ".nc", ".tif")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(params=SUFFIXES)
def suffix(request):
    return request.param


@pytest.mark.parametrize("lazy", [True, False])
def test_round_trip(tmp_path, suffix, lazy):
    path = tmp_path / "out" / f"emb{suffix}"
    path.parent.mkdir()
    emb = embedding(tmp_path / "log", chunks=OVERLAPPED, layer=[2, -1], bands=["B2"], note="für Zoë")
    stored = save(emb if lazy else emb.compute(), path)
    assert len(runs(tmp_path / "log")) == emb.data.npartitions
    assert stored.chunks is not None
    assert stored.rio.crs == "EPSG:32632"
    assert stored.rio.transform() == emb.rio.transform()
    assert stored.attrs == emb.attrs
    xr.testing.assert_equal(stored.compute(), emb.compute())
    xr.testing.assert_equal(open_file(str(path)).compute(), emb.compute())
    assert list(path.parent.iterdir()) == [path]


def test_existing(tmp_path, suffix):
    path = tmp_path / f"emb{suffix}"
    save(embedding(), path)
    with pytest.raises(StoreExistsError, match="overwrite=True"):
        save(embedding(seed=1), path)
    xr.testing.assert_equal(open_file(path).compute(), embedding().compute())
    save(embedding(seed=1), path, overwrite=True)
    xr.testing.assert_equal(open_file(path).compute(), embedding(seed=1).compute())


@pytest.mark.parametrize("suffix", [".nc", ".tif"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, suffix):
    path = tmp_path / f"emb{suffix}"
    save(embedding(), path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="this block fails"):
        save(embedding(fails_at=(0, 2, 1)), path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_writer_is_refused(tmp_path, suffix):
    path = tmp_path / f"emb{suffix}"
    with locked(path), pytest.raises(StoreLockedError):
        save(embedding(), path)


def test_a_folder_is_never_replaced_by_a_file(tmp_path):
    (tmp_path / "emb.tif").mkdir()
    with pytest.raises(StoreExistsError, match="a folder"):
        save(embedding(), tmp_path / "emb.tif", overwrite=True)


def test_bad_paths(tmp_path):
    with pytest.raises(OptionError, match=r"\.zarr, \.nc or \.tif"):
        save(embedding(), tmp_path / "emb.png")
    with pytest.raises(OptionError, match="resume"):
        save(embedding(), tmp_path / "emb.nc", resume=True)
    with pytest.raises(StoreError, match="local disk"):
        save(embedding(), "memory://emb.nc")
    for suffix in SUFFIXES:
        with pytest.raises(StoreNotFoundError, match=f"none{suffix}"):
            open_file(tmp_path / f"none{suffix}")
        (tmp_path / f"text{suffix}").write_text("no embedding")
        with pytest.raises(StoreError):
            open_file(tmp_path / f"text{suffix}")


@pytest.mark.parametrize(
    "said", [{"coordinates": "lon lat"}, {"_FillValue": -9999.0}, {"grid_mapping": "crs"}]
)
def test_attrs_that_formats_use_themselves(tmp_path, suffix, said):
    emb = embedding()
    stored = save(emb.assign_attrs(said), tmp_path / f"emb{suffix}")
    xr.testing.assert_equal(stored.compute(), emb.compute())
    assert set(emb.attrs) <= set(stored.attrs)


# NetCDF


def test_netcdf_of_any_dims(tmp_path):
    dates = np.array(["2022-06-01", "2022-07-01"], dtype="datetime64[ns]")
    both = xr.concat([embedding(), embedding(seed=1)], "time", coords="minimal", compat="override")
    both = both.assign_coords(time=dates)
    xr.testing.assert_equal(save(both, tmp_path / "time.nc").compute(), both.compute())
    vector = embedding().mean(("y", "x"), keep_attrs=True).rename("embedding")
    xr.testing.assert_equal(save(vector, tmp_path / "vector.nc").compute(), vector.compute())


# GeoTIFF


def large(**attrs) -> xr.DataArray:
    """More cells than one TIFF tile, so that there are overviews."""
    return embedding(chunks=((5,), (112, 112, 100), (112, 112, 80)), **attrs)


def test_cog_is_valid(tmp_path):
    from rio_cogeo.cogeo import cog_validate

    save(large(), tmp_path / "emb.tif")
    valid, problems, remarks = cog_validate(tmp_path / "emb.tif", strict=True, quiet=True)
    assert valid, (problems, remarks)


def test_cog_bands_tags_and_nodata(tmp_path):
    save(large(), tmp_path / "emb.tif")
    with rasterio.open(tmp_path / "emb.tif") as file:
        assert file.descriptions == ("D0", "D1", "D2", "D3", "D4")
        assert np.isnan(file.nodata)
        assert file.crs == "EPSG:32632"
        assert file.tags()["model_key"] == "fake_v1"
        assert file.tags()["bands"] == '["B2", "B3"]'
        assert file.overviews(1) == [2]
        assert file.interleaving.name == "band"


def test_cog_overview_means_valid_cells_only(tmp_path):
    save(large(), tmp_path / "emb.tif")
    values = large().values
    with rasterio.open(tmp_path / "emb.tif") as file:
        small = file.read(1, out_shape=(162, 152), resampling=Resampling.nearest)
    blocks = values[0].reshape(162, 2, 152, 2).transpose(0, 2, 1, 3).reshape(162, 152, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(small, np.nanmean(blocks, axis=-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_cog_of_a_map(tmp_path, dtype):
    labels = (embedding()[0].fillna(0) * 3 + 4).astype(dtype).rename("classes")
    stored = save(labels, tmp_path / "map.tif")
    assert stored.name == "classes"
    xr.testing.assert_equal(stored.compute().drop_vars("D", errors="ignore"), labels.compute().drop_vars("D"))


def test_cog_of_named_bands(tmp_path):
    parts = embedding()[:3].rename(D="component").assign_coords(component=["red", "green", "blue"])
    stored = save(parts, tmp_path / "pca.tif")
    xr.testing.assert_equal(stored.compute(), parts.compute())
    with rasterio.open(tmp_path / "pca.tif") as file:
        assert file.descriptions == ("red", "green", "blue")


def test_cog_without_a_crs(tmp_path):
    bare = embedding().drop_vars("spatial_ref")
    for dim in ("y", "x"):
        bare[dim].attrs.clear()
    stored = save(bare, tmp_path / "emb.tif")
    assert stored.rio.crs is None
    np.testing.assert_array_equal(stored.values, bare.values)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.expand_dims("time"),
        lambda e: e.mean("y"),
        lambda e: e.astype("float16"),
        lambda e: e.to_dataset(),
    ],
)
def test_what_is_no_map(tmp_path, change):
    with pytest.raises(StoreError, match=r"dims \(y, x\) or \(D, y, x\)"):
        save(change(embedding()), tmp_path / "emb.tif")


def test_files_of_others(tmp_path):
    other = embedding()[:2].compute()
    other.rio.to_raster(tmp_path / "other.tif")
    xr.testing.assert_equal(open_file(tmp_path / "other.tif").compute(), other)
    other.drop_attrs().to_netcdf(Path(tmp_path / "other.nc"), engine="h5netcdf")
    xr.testing.assert_equal(open_file(tmp_path / "other.nc").compute(), other)


FULL = """
import resource, signal, sys
from tests.chaos.fake import embedding
from xr_rsembed.errors import StoreError
from xr_rsembed.store.export import save

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    save(embedding(seed=1), sys.argv[1], overwrite=True)
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files there")
@pytest.mark.parametrize("room", [2_000, 300_000])
@pytest.mark.parametrize("suffix", [".nc", ".tif"])
def test_a_file_that_cannot_grow_is_a_named_error_and_the_old_one_stays(tmp_path, suffix, room):
    path = tmp_path / f"emb{suffix}"
    save(embedding(), path)
    before = path.read_bytes()
    command = [sys.executable, "-W", "ignore", "-c", FULL, path, str(room)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "cannot be written" in ended.stdout
    assert "resume=True" not in ended.stdout
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_no_block_reaches_a_file_after_another_has_failed(tmp_path):
    """The other blocks end in dask's threads while the file is being closed."""
    from xr_rsembed.store import files

    calls, late, ended = [], [], []

    def put(place, block):
        (late if ended else calls).append(place)
        time.sleep(0.05)
        raise OSError("no room")

    with pytest.raises(StoreError, match="cannot be written"):
        files.fill(embedding(seconds=0.02), tmp_path / "emb.nc", put, False)
    ended.append(True)
    time.sleep(0.5)
    assert calls
    assert not late


def test_a_disk_without_room_is_told_before_the_work(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    log = tmp_path / "log"
    with pytest.raises(StoreError, match="too little room"):
        save(embedding(log), tmp_path / "emb.nc")
    assert not log.exists()
