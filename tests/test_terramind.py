"""TerraMind against terratorch's own forward, for every key, layer and option."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest
import torch

import xr_rsembed
from tests.fake_weights import RANDOM, filled_like, load, quick_init
from tests.fakes import modality_of
from xr_rsembed import doctor
from xr_rsembed.bands import terramind_name
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import DeviceError, OptionError
from xr_rsembed.models import checkpoint
from xr_rsembed.models.encoder import freeze
from xr_rsembed.models.registry import find_spec
from xr_rsembed.models.terramind import terratorch_encoder

TINY = "terramind_v1_tiny"
KEYS = [
    TINY,
    "terramind_v1_small",
    *(
        pytest.param(key, marks=pytest.mark.slow)
        for key in ("terramind_v1_base", "terramind_v01_base", "terramind_v1_large")
    ),
]
THREE = ("S2L2A", "S1GRD", "DEM")


def official(key, modalities, **options):
    """terratorch's model, as a user of terratorch builds it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from terratorch.registry import BACKBONE_REGISTRY

        with quick_init():
            return BACKBONE_REGISTRY.build(
                key, pretrained=False, modalities=list(modalities), **options
            ).eval()


def noise(modalities, tiles=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    counts = {name: len(modality_of(find_spec(TINY), name).bands) for name in modalities}
    return {name: torch.randn(tiles, bands, 224, 224, generator=generator) for name, bands in counts.items()}


def assert_close(found, expected):
    """Within 1e-5, of the largest value where that exceeds 1 (unnormed layers grow)."""
    assert found.shape == expected.shape
    scale = max(1.0, float(expected.abs().max()))
    assert float((found - expected).abs().max()) <= 1e-5 * scale


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    """A file as terratorch would write it, with every modality of the model, from its own initial values."""
    torch.manual_seed(7)
    file = tmp_path_factory.mktemp("terramind") / "tiny.pt"
    torch.save(official(TINY, ("S2L2A", "S2L1C", "S1GRD", "S1RTC", "DEM", "RGB")).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def run(tiny_file):
    """Tokens of terratorch and of ours for the same tiles and the same file."""

    def run(images, layers=(-1,), built=None, merge="mean", **options):
        built = built or tuple(images)
        spec = find_spec(TINY)
        encoder = load(spec, built, tiny_file, **{name: freeze(value) for name, value in options.items()})
        names = {
            name: [terramind_name(band) for band in chosen]
            for name, chosen in options.get("bands", {}).items()
        }
        theirs = official(
            TINY, built, merge_method=merge, ckpt_path=str(tiny_file), **({"bands": names} if names else {})
        )
        with torch.inference_mode():
            return encoder(images, layers, {"merge": merge}).grid, theirs(dict(images))

    return run


def as_grid(tokens):
    """terratorch's (B, N, D) as (B, D, h, w)."""
    return tokens.mT.unflatten(-1, (14, 14))


@pytest.mark.parametrize("key", KEYS)
def test_every_key_and_layer(key):
    spec = find_spec(key)
    theirs = official(key, ["S2L2A"])
    checkpoint.randomize(theirs)
    state = torch.random.get_rng_state()
    images = noise(["S2L2A"])
    with torch.inference_mode():
        expected = theirs(dict(images))
        del theirs
        found = load(spec, "S2L2A", RANDOM)(images, tuple(range(spec.depth)), {}).grid
    assert torch.equal(torch.random.get_rng_state(), state), "torch's own random state was moved"
    assert found.shape == (1, spec.depth, spec.embed_dim, 14, 14)
    assert len(expected) == spec.depth
    for layer, state in enumerate(expected):
        assert_close(found[:, layer], as_grid(state))


@pytest.mark.parametrize("name", ["S2L2A", "S2L1C", "S1GRD", "S1RTC", "DEM", "RGB"])
def test_every_modality(run, name):
    found, expected = run(noise([name], tiles=2))
    assert_close(found, as_grid(expected[-1]))


@pytest.mark.parametrize("merge", ["mean", "max", "concat"])
def test_merges(run, merge):
    found, expected = run(noise(THREE), layers=(3, -1), merge=merge)
    assert_close(found[:, 0], as_grid(expected[3]))
    assert_close(found[:, 1], as_grid(expected[-1]))


def test_merge_dict_and_none_keep_modalities_apart(run):
    images = noise(THREE)
    by_name, expected = run(images, merge="dict")
    assert by_name.shape == (1, 3, 192, 14, 14)
    for number, name in enumerate(THREE):
        assert_close(by_name[:, number], as_grid(expected[-1][name]))
    plain, expected = run(images, merge=None)
    for number, state in enumerate(expected[-1].chunk(3, dim=1)):
        assert_close(plain[:, number], as_grid(state))


@pytest.mark.parametrize("merge", ["mean", "max"])
@pytest.mark.parametrize("present", [("S2L2A",), ("S1GRD", "DEM")])
def test_a_modality_that_tiles_lack(run, merge, present):
    found, expected = run(noise(present), built=THREE, merge=merge)
    assert_close(found, as_grid(expected[-1]))


def test_a_missing_modality_keeps_its_place(run, tiny_file):
    encoder = load(find_spec(TINY), THREE, tiny_file)
    images = noise(("S2L2A", "DEM"))
    with torch.inference_mode():
        apart = encoder(images, (-1,), {"merge": "dict"}).grid
        joined = encoder(images, (-1,), {"merge": "concat"}).grid
    assert torch.isnan(apart[:, 1]).all()
    assert torch.isfinite(apart[:, [0, 2]]).all()
    torch.testing.assert_close(joined, apart.flatten(1, 2), equal_nan=True)


def test_subset_of_bands(run):
    bands = {"S2L2A": ["B8A", "B2", "B12"]}
    images = {"S2L2A": noise(["S2L2A"])["S2L2A"][:, :3]}
    found, expected = run(images, bands=bands)
    assert_close(found, as_grid(expected[-1]))
    modality = modality_of(find_spec(TINY), "S2L2A", {"bands": bands["S2L2A"]})
    assert modality.bands == ("B8A", "B2", "B12")
    assert modality.normalization.mean == (3132.22, 1503.317, 1857.648)


def test_statistics_are_those_of_the_key():
    from terratorch.models.backbones.terramind.model import terramind_register as register

    ours = {
        "S2L2A": "untok_sen2l2a@224",
        "S2L1C": "untok_sen2l1c@224",
        "S1GRD": "untok_sen1grd@224",
        "S1RTC": "untok_sen1rtc@224",
        "DEM": "untok_dem@224",
        "RGB": "untok_sen2rgb@224",
    }
    for key in ("terramind_v1_tiny", "terramind_v1_base_tim", "terramind_v01_base"):
        version = key.split("_")[1]
        means = getattr(register, f"{version}_pretraining_mean")
        stds = getattr(register, f"{version}_pretraining_std")
        for modality in find_spec(key).modalities:
            how = modality.normalization
            assert list(how.mean) == means[ours[modality.name]]
            assert list(how.std) == stds[ours[modality.name]]
            names = register.PRETRAINED_BANDS[ours[modality.name]]
            if modality.name.startswith("S2"):
                # terratorch lists the bands of L1C under slightly other words.
                assert len(names) == len(modality.bands)
            if modality.name == "S2L2A":
                assert [terramind_name(band) for band in modality.bands] == names


def test_a_tile_does_not_depend_on_its_batch(tiny_file):
    encoder, images = load(find_spec(TINY), "S2L2A", tiny_file), noise(["S2L2A"], tiles=3)["S2L2A"]
    with torch.inference_mode():
        together = encoder({"S2L2A": images}, (-1,), {}).grid
        alone = torch.cat([encoder({"S2L2A": image[None]}, (-1,), {}).grid for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_other_image_sizes(tiny_file):
    """Positions are resized as terratorch resizes them for a model that was built for 224 pixels."""
    image = torch.randn(2, 12, 256, 160, generator=torch.Generator().manual_seed(3))
    theirs = official(TINY, ["S2L2A"], merge_method=None, ckpt_path=str(tiny_file))
    with torch.inference_mode():
        found = load(find_spec(TINY), "S2L2A", tiny_file)({"S2L2A": image}, (-1,), {}).grid
        assert_close(found, theirs({"S2L2A": image})[-1].mT.unflatten(-1, (16, 10)))


@pytest.mark.parametrize("bands", [None, ("B8A", "B2", "B12")])
def test_terratorch_as_the_engine(tiny_file, bands):
    images = noise(["S2L2A"])
    if bands:
        images = {"S2L2A": images["S2L2A"][:, :3]}
    ours, theirs = (
        load(find_spec(TINY), "S2L2A", tiny_file, engine=engine, bands=bands)
        for engine in ("own", "terratorch")
    )
    with torch.inference_mode():
        expected = theirs(images, (2, -1), {}).grid
        assert_close(ours(images, (2, -1), {}).grid, expected)


@pytest.mark.parametrize("how", ["argument", "option"])
def test_the_engine_is_an_option_that_the_attrs_keep(how):
    scene = synthetic_scene((224, 224))
    plain = scene.rsembed.embed(TINY, weights="random", device="cpu")
    given = {"engine": "terratorch"} if how == "argument" else {}
    with xr_rsembed.set_options({"terramind.engine": "terratorch" if how == "option" else "own"}):
        found = scene.rsembed.embed(TINY, weights="random", device="cpu", **given)
    assert json.loads(found.attrs["model_options"])["engine"] == "terratorch"
    assert json.loads(plain.attrs["model_options"])["engine"] == "own"
    assert 0 < float(abs(found - plain).max()) < 1e-5 * float(abs(plain).max())


def test_doctor_verifies():
    finding = doctor.verify(TINY, "random")
    assert finding.state == "ok"
    assert "S2L2A, S2L1C, S1GRD, S1RTC, DEM, RGB" in finding.says
    with pytest.raises(OptionError, match="no second engine"):
        doctor.verify("terrafm", "random")


def test_the_engine_never_imports_terratorch():
    """Nor what comes with it, seven thousand modules in ten seconds."""
    code = """
import sys, xr_rsembed
from xr_rsembed.datasets import synthetic_scene
synthetic_scene((224, 224)).rsembed.embed("terramind_v1_tiny", weights="random", device="cpu")
print([name for name in ("terratorch", "torchgeo", "lightning", "torchvision", "timm") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_precisions(tiny_file):
    images = noise(["S2L2A"])
    with torch.inference_mode():
        full, half = (
            load(find_spec(TINY), "S2L2A", tiny_file, precision=p)(images, (-1,), {}).grid
            for p in ("float32", "bfloat16")
        )
    assert half.dtype == torch.float32
    assert float(torch.nn.functional.cosine_similarity(full, half, dim=1).min()) > 0.999
    with pytest.raises(DeviceError, match="float16 needs a GPU"):
        load(find_spec(TINY), "S2L2A", tiny_file, precision="float16")


@pytest.mark.slow
def test_compiled_equals_plain(tiny_file):
    images = noise(["S2L2A"], tiles=2)
    with torch.inference_mode():
        plain, compiled = (
            load(find_spec(TINY), "S2L2A", tiny_file, compile=choice)(images, (-1,), {}).grid
            for choice in (False, True)
        )
    torch.testing.assert_close(compiled, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("modalities", "options", "said"),
    [
        (("S2L2A",), {"merge": "sum"}, "merge="),
        (("S2L2A",), {"bands": ["B2", "B2"]}, "bands= for S2L2A"),
        (("S2L2A",), {"bands": []}, "no band"),
        (("S2L2A",), {"bands": ["VV"]}, "bands= for S2L2A"),
        (("S2L2A", "DEM"), {"bands": ["B2"]}, "must say which modality"),
        (("S2L2A",), {"bands": {"DEM": ["DEM"]}}, "not embedded"),
    ],
)
def test_options_that_cannot_be_used(modalities, options, said):
    spec = find_spec(TINY)
    with pytest.raises(OptionError, match=said):
        spec.check_options(modalities, {**spec.options, **options})


def test_thinking_in_modalities(tmp_path, monkeypatch):
    """Equal to terratorch's TiM forward for one tile with the same seed; and every tile thinks by itself."""
    from terratorch.models.backbones.terramind.model import terramind_register, terramind_tim

    key, images = f"{TINY}_tim", noise(["S2L2A"], tiles=2)
    theirs = official(key, ["S2L2A"], tim_modalities=["LULC"], merge_method="dict")
    # A published file holds one encoder and one decoder, without the prefix of the model that imagines.
    whole = {**theirs.state_dict(), **filled_like(theirs)}
    whole = {name.removeprefix("sampler.model."): value for name, value in whole.items()}
    file = tmp_path / "tim.pt"
    torch.save({name: value for name, value in whole.items() if not name.startswith("tokenizer")}, file)
    state = terramind_register.checkpoint_filter_fn_tim(torch.load(file), theirs)
    theirs.load_state_dict(state)
    monkeypatch.setattr(terramind_tim.random, "randint", lambda low, high: terratorch_encoder.TIM_SEED)
    encoder = load(find_spec(key), "S2L2A", file, tim_modalities=("LULC",))
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        found = encoder(images, (5, -1), {"merge": "dict"}).grid
        assert torch.equal(torch.random.get_rng_state(), state), "torch's own random state was moved"
        assert found.shape == (2, 2, 2, 192, 14, 14)
        for tile in range(2):
            expected = theirs({"S2L2A": images["S2L2A"][tile : tile + 1]})
            for number, layer in enumerate((5, -1)):
                assert_close(found[tile : tile + 1, number, 0], as_grid(expected[layer]["S2L2A"]))
        theirs.merge_method = "mean"
        expected = theirs({"S2L2A": images["S2L2A"][:1]})
        assert_close(encoder(images, (-1,), {"merge": "mean"}).grid[:1], as_grid(expected[-1]))


@pytest.mark.parametrize("imagined", [(), "LULC", ("S2L2A",), ("LULC", "LULC"), ("clouds",)])
def test_tim_modalities_that_cannot_be_used(imagined):
    spec = find_spec(f"{TINY}_tim")
    with pytest.raises(OptionError, match="tim_modalities="):
        spec.check(spec, ("S2L2A",), {**spec.options, "tim_modalities": imagined})
