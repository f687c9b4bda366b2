"""The command line, run as a user would, in this process."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import warnings

import geopandas
import numpy as np
import pytest
import rioxarray
import xarray as xr

import xr_rsembed
from tests import fakes
from xr_rsembed import RsEmbedError, api
from xr_rsembed.cli import main
from xr_rsembed.cli.options import SETTINGS
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.engine import devices

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


def test_what_a_user_meets_is_told_in_words_of_the_shell(scene, tmp_path, capsys):
    fakes.register()
    store, bad = tmp_path / "emb.zarr", tmp_path / "bad.tif"
    bad.write_text("no raster")
    assert run("embed", scene, *QUICK, "-o", store) == 0
    assert run("plot", store, "-o", tmp_path / "new" / "picture.png") == 0
    assert run("plot", store, "-o", tmp_path / "picture.foo") == 1
    assert "png" in capsys.readouterr().err
    assert run("convert", store, tmp_path / "x.foo") == 1
    assert run("stac", tmp_path / "emb.zarr") in (0, 1)
    assert "in Python" not in capsys.readouterr().err
    assert run("validate", bad, scene, *QUICK) == 1
    said = capsys.readouterr()
    assert "scene.tif is an input" in said.out, "one bad file does not stop the others"
    assert "bad.tif" in said.err
    assert run("info", scene) == 0
    assert "EPSG:32632" in capsys.readouterr().out
    groups = tmp_path / "groups.zarr"
    for group in ("one", "two"):
        xr_rsembed.open(store).rsembed.to_zarr(groups, group=group)
    assert run("info", groups, "--json") == 0
    (line,) = lines(capsys.readouterr().out)
    assert set(line["groups"]) == {"one", "two"}
    assert run("plot", groups) == 1
    assert "groups.zarr/one" in capsys.readouterr().err
    assert run("classify", store, tmp_path / "none.geojson") == 1
    for part in ("4/4", "x"):
        command = ["region", tmp_path / "r.zarr", "--bbox", 9, 45, 9.1, 45.1, "--time", "2022-06"]
        assert run(*command, "--part", part) == 1
    said = capsys.readouterr().err
    assert "check the path" in said
    assert "--part 0/4" in said
    assert "part=" not in said


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
    assert "These weights are random" in said
    following = said.split("Next:")[1].split("xr-rsembed ")[1:]
    assert [line.split()[0] for line in following] == ["info", "explore", "convert"]
    assert run(*" ".join(following[0].split()).split()) == 0
    assert run(*" ".join(following[2].split()).split()) == 0
    assert (folder / "scene.tif").is_file()
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


# --- many scenes ------------------------------------------------------------------------------------------

QUICK = ["-m", "probe", "--weights", "random"]


@pytest.fixture
def scenes(tmp_path):
    fakes.register()
    folder = tmp_path / "scenes"
    folder.mkdir()
    for name in "abc":
        synthetic_scene((470, 300), seed=ord(name)).rio.to_raster(folder / f"{name}.tif")
    return folder


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_many_scenes_load_the_model_once_and_skip_what_is_finished(scenes, tmp_path, capsys):
    devices.clear_encoders()
    fakes.loads = 0
    out = tmp_path / "out"
    command = ["embed", scenes / "a.tif", scenes / "*.tif", "-o", f"{out}/", *QUICK]
    assert run(*command, "--jobs", "2") == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.zarr", "b.zarr", "c.zarr"]
    assert fakes.loads == 1
    assert "3 written" in capsys.readouterr().out
    expected = rioxarray.open_rasterio(scenes / "b.tif").rsembed.embed("probe", weights="random")
    np.testing.assert_array_equal(xr.open_zarr(out / "b.zarr")["embedding"].values, expected.values)
    assert run(*command, "--json") == 0
    assert [line["state"] for line in lines(capsys.readouterr().out)] == ["finished"] * 3
    assert run(*command, "--overlap", "64") == 3, "finished outputs of other settings are not taken for these"
    assert "overlap 0" in capsys.readouterr().err


def test_failures_are_listed_and_tried_again(scenes, tmp_path, capsys):
    (scenes / "b.tif").rename(scenes / "b.whole")
    synthetic_scene((64, 64)).isel(band=slice(0, 5)).rio.to_raster(scenes / "b.tif")
    command = ["embed", scenes / "*.tif", "-o", f"{tmp_path}/out/{{stem}}.nc", *QUICK]
    assert run(*command) == 1
    said = capsys.readouterr()
    assert "2 written, 1 failed" in said.out
    assert "b.tif" in said.err
    (failure,) = lines((tmp_path / "out" / "failures.jsonl").read_text())
    assert failure["source"].endswith("b.tif")
    assert failure["error"] == "BandOrderError"
    (scenes / "b.whole").rename(scenes / "b.tif")
    assert run(*command, "--quiet") == 0
    assert not capsys.readouterr().out
    assert not (tmp_path / "out" / "failures.jsonl").exists()
    for path in scenes.iterdir():
        path.write_bytes(b"no raster")
    assert run(*command, "--overwrite") == 3


def test_limit_and_dry_run(scenes, tmp_path, capsys):
    command = ["embed", scenes / "*.tif", "-o", f"{tmp_path}/out/", *QUICK, "--json"]
    fakes.clear()
    assert run(*command, "--dry-run") == 0
    planned = lines(capsys.readouterr().out)
    assert [line["state"] for line in planned] == ["planned"] * 3
    assert planned[0]["tiles"] == 6
    assert planned[0]["sizes"] == {"D": 5, "y": 30, "x": 19}
    assert not fakes.forwards
    assert not (tmp_path / "out").exists()
    assert run(*command, "--limit", "2") == 0
    assert len(lines(capsys.readouterr().out)) == 2
    assert run(*command, "--limit", "2") == 0
    assert sorted(line["state"] for line in lines(capsys.readouterr().out)) == [
        "finished",
        "finished",
        "written",
    ]


def test_outputs_must_be_told_apart(scenes, tmp_path, capsys):
    assert run("embed", scenes / "*.tif", "-o", tmp_path / "one.zarr", *QUICK) == 1
    assert "--output out/" in capsys.readouterr().err
    twin = tmp_path / "twin"
    twin.mkdir()
    (scenes / "a.tif").rename(twin / "b.tif")
    both = ["embed", scenes / "b.tif", twin / "b.tif", *QUICK]
    assert run(*both, "-o", f"{tmp_path}/out/") == 1
    assert "{parent}_{stem}" in capsys.readouterr().err
    assert run(*both, "-o", f"{tmp_path}/out/{{parent}}_{{stem}}.tif") == 0
    assert run("embed", scenes / "*.jp2", *QUICK) == 1


def test_every_setting_of_embed_has_its_flag():
    taken = {"scene", "model", "modalities", "model_options"}
    assert set(SETTINGS) == {*inspect.signature(api.embed).parameters} - taken


def test_settings_bands_and_companions_reach_the_model(tmp_path, capsys):
    fakes.register()
    scene = synthetic_scene((470, 300))
    scene.rio.to_raster(tmp_path / "scene.tif")
    out = tmp_path / "emb.zarr"
    command = ["embed", tmp_path / "scene.tif", "-o", out, "--overwrite"]
    assert run(*command, *QUICK, "--density", "2", "--units", "DN") == 0
    assert xr.open_zarr(out)["embedding"].shape == (5, 59, 38)
    names = [str(name) for name in scene.band.values]
    turned = scene.isel(band=slice(None, None, -1))
    del turned.attrs["long_name"]
    turned.rio.to_raster(tmp_path / "scene.tif")
    assert run(*command, *QUICK, "--bands", ",".join(names[::-1])) == 1, "named, they are in the wrong order"
    capsys.readouterr()
    assert run("validate", tmp_path / "scene.tif", *QUICK, "--bands", ",".join(names[::-1])) == 1
    assert f"remedy:   --bands {','.join(names)}\n" in capsys.readouterr().err
    synthetic_scene((470, 300), modality="S1GRD").rio.to_raster(tmp_path / "s1_scene.tif")
    scene.rio.to_raster(tmp_path / "scene.tif")
    with_radar = [
        "--with",
        f"S1GRD={tmp_path}/s1_{{stem}}.tif",
        "-m",
        "terramind_v1_tiny",
        "--weights",
        "random",
    ]
    assert run(*command, *with_radar) == 0
    assert list(xr.open_zarr(out)["embedding"].attrs["modality"]) == ["S2L2A", "S1GRD"]


def test_remedies_are_flags(scenes, tmp_path, capsys):
    out = tmp_path / "emb.zarr"
    assert run("embed", scenes / "a.tif", "-o", out, *QUICK) == 0
    assert run("embed", scenes / "a.tif", "-o", out, *QUICK) == 1
    said = capsys.readouterr().err
    assert "--overwrite" in said
    assert "overwrite=True" not in said
    assert run("embed", scenes / "a.tif", "-o", out, *QUICK, "--kind", "gird") == 1
    assert "--kind grid" in capsys.readouterr().err


def test_warnings_speak_in_flags_too(tmp_path, capsys):
    scene = synthetic_scene((224, 224)).drop_vars("band")
    scene.attrs = {}
    scene.rio.to_raster(tmp_path / "bare.tif")
    warnings.simplefilter("always")
    assert run("validate", tmp_path / "bare.tif", "-m", "probe") == 0
    assert (said := capsys.readouterr().err).count("--bands") == 1, "checked twice, it is said once"
    assert "assign_coords" not in said


def test_config_file(scenes, tmp_path, capsys):
    config = tmp_path / "run.toml"
    text = f'inputs = ["{scenes}/*.tif"]\noutput = "{tmp_path}/out/"\noverlap = 64\njson = true\n'
    text += 'model = "probe"\nweights = "random"\n'
    config.write_text(text + "overlaps = 1\n")
    assert run("embed", "--config", config) == 1
    assert "'overlaps'" in capsys.readouterr().err
    config.write_text(text)
    assert run("embed", "--config", config, "--overlap", "32", "--limit", "1") == 0
    (line,) = lines(capsys.readouterr().out)
    assert xr.open_zarr(line["output"])["embedding"].attrs["overlap"] == 32, "a flag goes before the file"
    config.write_text('[fetch.provider-option]\ncatalog = "nowhere"\nreader = "odc"\n')
    there = ["--bbox", "9", "45", "9.1", "45.1", "--time", "2022"]
    assert run("fetch", *there, "--config", config, "-P", "reader=other") == 1
    assert "found:    'other'" in capsys.readouterr().err, "a pair goes before the file's of its name"
    assert run("fetch", *there, "--config", config, "-P", "resampling=nearest") == 1
    assert "nowhere" in capsys.readouterr().err, "and the others stand"
    config.write_text('[validate]\nmodel = "probe"\ninputs = ["' + str(scenes / "a.tif") + '"]\n')
    assert run("validate", "--config", config) == 0


def test_version_and_help(capsys):
    assert run("--version") == 0
    assert xr_rsembed.__version__ in capsys.readouterr().out
    assert run("embed", "-h") == 0
    assert "--density" in capsys.readouterr().out
    assert run("--help") == 0
    assert "--install-completion" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("embed x.tif -m terrafm", ["terrafm", "terrafm_b", "terrafm_l"]),
        ("region alps.zarr --precision b", ["bfloat16"]),
        ("embed --kind ", ["grid", "pooled", "tiles"]),
        ("validate --modality S1", ["S1GRD", "S1RTC"]),
    ],
)
def test_completion_offers_models_and_choices(words, offered, capsys, monkeypatch):
    monkeypatch.setenv("_XR_RSEMBED_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"xr-rsembed {words}")
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ") + 1))
    main()
    assert set(offered) <= set(found := capsys.readouterr().out.split())
    assert all(word.startswith(words.split(" ")[-1]) for word in found)


def test_an_interrupt_says_how_to_go_on(scenes, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("xr_rsembed.batch.run.run_job", interrupted)  # in this thread: no other is waited for
    assert run("embed", scenes / "*.tif", "-o", f"{tmp_path}/out/", *QUICK) == 130
    assert "goes on from here" in capsys.readouterr().err


def test_validate_reads_what_embed_would_read(tmp_path, capsys):
    fakes.register()
    wrong = synthetic_scene((300, 300)).astype("float32") / 10000
    wrong.attrs.pop("units", None)
    wrong.rio.to_raster(tmp_path / "wrong.tif")
    with pytest.raises(RsEmbedError):
        rioxarray.open_rasterio(tmp_path / "wrong.tif").rsembed.embed("terramind_v1_tiny", weights="random")
    assert run("validate", tmp_path / "wrong.tif", "-m", "terramind_v1_tiny") == 1
    assert "reflectance" in capsys.readouterr().err


def test_the_command_line_starts_light():
    heavy = "torch, dask, matplotlib, sklearn, distributed, rasterio, pystac"
    code = (
        f"import sys, xr_rsembed.cli\nprint([name for name in '{heavy}'.split(', ') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


# --- what comes next --------------------------------------------------------------------------------------


def test_info_plot_convert_classify_stac(scenes, tmp_path, capsys):
    store = tmp_path / "emb.zarr"
    assert run("embed", scenes / "a.tif", "-o", store, *QUICK, "--overlap", "64") == 0
    capsys.readouterr()
    assert run("info", store, "--json") == 0
    (said,) = lines(capsys.readouterr().out)
    assert (said["kind"], said["overlap"], said["model_key"]) == ("embedding", 64, "probe")
    assert run("info", scenes / "a.tif", "--json") == 0
    (said,) = lines(capsys.readouterr().out)
    assert (said["kind"], said["resolution"], len(said["bands"])) == ("scene", 10.0, 12)
    for source in (store, scenes / "a.tif"):
        assert run("plot", source, "-o", tmp_path / "picture.png") == 0
        assert (tmp_path / "picture.png").stat().st_size > 5_000
    assert run("convert", store, tmp_path / "emb.tif") == 0
    stored = xr.open_zarr(store, decode_coords="all")["embedding"]
    np.testing.assert_array_equal(rioxarray.open_rasterio(tmp_path / "emb.tif").values, stored.values)
    assert run("convert", store, tmp_path / "emb.parquet") == 0
    assert run("convert", store, tmp_path / "emb.tif") == 1
    points = geopandas.GeoDataFrame(
        {"class": ["west", "east"] * 8},
        geometry=geopandas.points_from_xy(
            [float(stored.x[i % 2 * 12 + i // 4]) for i in range(16)],
            [float(stored.y[3 * (i % 4) + i // 8]) for i in range(16)],
        ),
        crs=stored.rio.crs,
    )
    points.to_file(tmp_path / "labels.geojson")
    assert run("classify", store, tmp_path / "labels.geojson", "-o", tmp_path / "classes.tif") == 0
    assert rioxarray.open_rasterio(tmp_path / "classes.tif").shape == (1, 30, 19)
    assert run("classify", store, tmp_path / "labels.geojson", "-o", tmp_path / "classes.nc") == 0
    capsys.readouterr()
    assert run("info", tmp_path / "classes.nc", "--json") == 0
    assert lines(capsys.readouterr().out)[0]["variables"] == ["class", "confidence"]
    lon, lat = points.to_crs(4326).geometry[0].coords[0]
    alone = [  # where nothing else has imported rioxarray
        ["classify", store, tmp_path / "labels.geojson", "-o", tmp_path / "alone.tif"],
        ["plot", store, "--like", lon, lat],
    ]
    code = f"from xr_rsembed.cli import main\nassert not any(map(main, {[list(map(str, one)) for one in alone]}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert rioxarray.open_rasterio(tmp_path / "alone.tif").rio.crs == stored.rio.crs
    assert (tmp_path / "emb.png").exists(), "a picture goes beside its input"
    capsys.readouterr()
    for words in (["convert", tmp_path / "out.nc"], ["stac"], ["classify", tmp_path / "labels.geojson"]):
        assert run(words[0], scenes / "a.tif", *words[1:]) == 1
        assert "xr-rsembed embed" in capsys.readouterr().err, "a scene is no embedding"
    assert run("classify", store, tmp_path / "labels.geojson", "-o", tmp_path / "classes.tif") == 1
    assert run("stac", store, "--time", "2022-06-01") == 0
    assert json.loads((tmp_path / "emb.json").read_text())["assets"]["embeddings"]["href"] == "./emb.zarr"
