"""The command line, run as a user would, in this process."""

from __future__ import annotations

import numpy as np
import pytest
import rioxarray
import xarray as xr

from xr_rsembed.cli import main
from xr_rsembed.datasets import synthetic_scene

pytestmark = pytest.mark.filterwarnings("ignore::xr_rsembed.RsEmbedWarning")


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "scene.tif"
    synthetic_scene((470, 300)).rio.to_raster(path)
    return path


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("suffix", [".zarr", ".nc", ".tif"])
def test_embed_writes_by_suffix(scene, tmp_path, suffix, capsys):
    output = tmp_path / f"emb{suffix}"
    assert run("embed", scene, "-m", "terramind_v1_tiny", "--weights", "random", "-o", output) == 0
    assert str(output) in capsys.readouterr().out
    expected = rioxarray.open_rasterio(scene).rsembed.embed("terramind_v1_tiny", weights="random")
    if suffix == ".zarr":
        read = xr.open_zarr(output, decode_coords="all")["embedding"]
    elif suffix == ".nc":
        read = xr.open_dataset(output, engine="h5netcdf", decode_coords="all")["embedding"]
    else:
        read = rioxarray.open_rasterio(output).rename(band="D")
    np.testing.assert_array_equal(read.values, expected.values)
    np.testing.assert_allclose(read.y, expected.y)
    assert read.rio.crs == expected.rio.crs


def test_embed_passes_its_options_on(scene, tmp_path):
    output = tmp_path / "emb.zarr"
    options = "--overlap 64 --blend mean --edge pad --layer 2 --layer -1 --batch-size 3 --min-valid 0.5"
    assert (
        run("embed", scene, "-m", "terramind_v1_tiny", "--weights", "random", "-o", output, *options.split())
        == 0
    )
    read = xr.open_zarr(output)["embedding"]
    assert read.dims == ("layer", "D", "y", "x")
    assert read.attrs["overlap"] == 64
    assert (read.attrs["blend"], read.attrs["edge"], read.attrs["min_valid"]) == ("mean", "pad", 0.5)


def test_model_options(scene, tmp_path):
    output = tmp_path / "emb.zarr"
    assert run("embed", scene, "-m", "terrafm", "--weights", "random", "-o", output, "-O", "product=L2A") == 0
    assert '"product": "L2A"' in xr.open_zarr(output)["embedding"].attrs["model_options"]


def test_an_output_that_exists_is_kept_unless_told_otherwise(scene, tmp_path, capsys):
    output = tmp_path / "emb.zarr"
    command = ["embed", scene, "-m", "terramind_v1_tiny", "--weights", "random", "-o", output]
    assert run(*command) == 0
    assert run(*command) == 1
    message = capsys.readouterr().err
    assert "overwrite" in message
    assert "Traceback" not in message
    assert run(*command, "--overwrite") == 0
    assert run(*command, "--resume") == 0


def test_models_and_describe(capsys):
    assert run("models") == 0
    listed = capsys.readouterr().out
    assert "terramind_v1_small" in listed
    assert "terrafm_b" in listed
    assert run("describe", "terrafm") == 0
    assert "768" in capsys.readouterr().out


def test_validate_says_yes_or_what_is_wrong(scene, tmp_path, capsys):
    assert run("validate", scene, "-m", "terramind") == 0
    five = tmp_path / "five.tif"
    synthetic_scene((64, 64)).isel(band=slice(0, 5)).rio.to_raster(five)
    assert run("validate", five) == 1
    assert "B12" in capsys.readouterr().err


def test_errors_are_words_not_frames(tmp_path, capsys):
    assert run("embed", tmp_path / "none.tif") == 1
    assert run("embed") == 1
    assert run("embed", "a.tif", "-O", "product") == 1
    assert run("describe", "teramind") == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "check the path" in said
    assert "did you mean 'terramind'" in said
    assert run("embed", "--no-such-option") == 2


def test_doctor(capsys):
    assert run("doctor") == 0
    said = capsys.readouterr().out
    assert "terratorch" in said
    assert "hub cache" in said


def test_demo_leaves_a_store_and_a_picture(tmp_path, capsys):
    folder = tmp_path / "demo"
    assert run("demo", "--folder", folder, "--size", "448", "--weights", "random") == 0
    said = capsys.readouterr().out
    assert "tiles/s" in said
    tree = xr.open_datatree(folder / "embeddings.zarr", engine="zarr")
    for model, width in (("terramind", 384), ("terrafm", 768)):
        embedding = tree[model]["embedding"]
        assert embedding.shape == (width, 28, 28)
        assert np.isfinite(embedding.values).all()
        assert embedding.attrs["weights"].startswith("random")
    assert (folder / "embeddings.png").stat().st_size > 20_000
    assert run("demo", "--folder", folder, "--size", "448", "--weights", "random") == 0, (
        "a second demo replaces"
    )


def test_demo_says_when_the_hub_cannot_be_reached(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert run("demo", "--folder", tmp_path, "--size", "224") == 0
    said = capsys.readouterr().out
    assert said.count("Going on with random weights.") == 1
