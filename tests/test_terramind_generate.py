"""TerraMind's generation against terratorch's own, for the same tile and the same noise."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.fake_weights import RANDOM, quick_init
from xr_rsembed.engine.generate import generator_spec, resolve_tokenizers
from xr_rsembed.errors import OptionError, WeightsError, WeightsNotFoundError
from xr_rsembed.models.registry import find_spec
from xr_rsembed.models.spec import EncoderRequest, WeightsRef
from xr_rsembed.models.terramind.outputs import OUTPUTS
from xr_rsembed.models.weights import resolve

TINY = find_spec("terramind_v1_tiny")
ASKED = ("LULC", "NDVI")


@pytest.fixture(scope="module")
def theirs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from terratorch.registry import FULL_MODEL_REGISTRY

        with quick_init():
            return FULL_MODEL_REGISTRY.build(
                "terramind_v1_tiny_generate",
                pretrained=False,
                modalities=["S2L2A"],
                output_modalities=list(ASKED),
                timesteps=1,
                standardize=True,
            ).eval()


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory):
    """The same weights, in the files that the hub has: one of the model, one of each tokenizer."""
    folder = tmp_path_factory.mktemp("generate")
    torch.save(theirs.sampler.model.state_dict(), folder / "model.pt")
    tokenizers = {}
    for name in ASKED:
        tokenizers[name] = folder / f"{name}.pt"
        torch.save(theirs.tokenizer[f"tok_{name.lower()}@224"].state_dict(), tokenizers[name])
    spec = generator_spec(TINY, ASKED, timesteps=1)
    weights = resolve(folder / "model.pt", spec)
    options = (("timesteps", 1), ("tokenizers", resolve_tokenizers(tokenizers, ASKED, weights, TINY)))
    generator = TINY.generation.load(spec, EncoderRequest(spec.key, ("S2L2A",), weights, options=options))
    for file in folder.iterdir():
        file.unlink()
    return generator


def raw_and_normalized(tiles=1):
    how = TINY.modalities[0].normalization
    mean, std = (torch.tensor(values)[:, None, None] for values in (how.mean, how.std))
    raw = torch.rand(tiles, 12, 224, 224, generator=torch.Generator().manual_seed(1)) * 5000
    return raw, (raw - mean) / std


@pytest.mark.slow
def test_equals_terratorch_for_the_same_noise(theirs, ours, monkeypatch):
    from terratorch.models.backbones.terramind.model import terramind_generation

    raw, normalized = raw_and_normalized(tiles=2)
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        found = ours({"S2L2A": normalized}, seeds=(11, 12))
    assert torch.equal(torch.random.get_rng_state(), state), "torch's own random state was moved"
    assert list(found) == list(ASKED)
    for number, seed in enumerate((11, 12)):
        monkeypatch.setattr(terramind_generation.random, "randint", lambda low, high, seed=seed: seed)
        with torch.inference_mode():
            expected = theirs({"S2L2A": raw[number : number + 1].clone()})
        torch.testing.assert_close(found["NDVI"][number], expected["NDVI"][0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            found["LULC"][number], expected["LULC"][0].softmax(0), atol=1e-5, rtol=1e-5
        )


@pytest.mark.slow
def test_noise_follows_the_seed_not_the_batch(ours):
    _, tile = raw_and_normalized()
    with torch.inference_mode():
        together = ours({"S2L2A": tile.repeat(2, 1, 1, 1)}, seeds=(3, 4))
        alone = ours({"S2L2A": tile}, seeds=(4,))
    for name in ASKED:
        assert torch.equal(together[name][1:], alone[name])
    assert not torch.equal(together["LULC"][0], together["LULC"][1])


@pytest.mark.slow
def test_a_tokenizer_lacks_nothing(theirs, tmp_path):
    """terratorch reads these files strictly; so do we, and nothing is drawn with a random layer."""
    state = theirs.tokenizer["tok_lulc@224"].state_dict()
    del state["decoder.blocks.3.attn.qkv.weight"]
    torch.save(state, tmp_path / "lulc.pt")
    spec = generator_spec(TINY, ["LULC"], timesteps=1)
    tokenizers = resolve_tokenizers({"LULC": tmp_path / "lulc.pt"}, ["LULC"], RANDOM, TINY)
    options = (("timesteps", 1), ("tokenizers", tokenizers))
    with pytest.raises(
        WeightsError, match=r"lulc\.pt does not fit(.|\n)*decoder\.blocks\.3\.attn\.qkv\.weight"
    ):
        spec.load(spec, EncoderRequest(spec.key, ("S2L2A",), RANDOM, options=options))


def test_units_are_those_of_the_statistics():
    from terratorch.models.backbones.terramind.model import terramind_register as register
    from terratorch.models.backbones.terramind.tokenizer.tokenizer_register import pretrained_weights

    names = {
        "S2L2A": "sen2l2a",
        "S1GRD": "sen1grd",
        "S1RTC": "sen1rtc",
        "DEM": "dem",
        "NDVI": "ndvi",
        "LULC": "lulc",
    }
    for name, theirs in names.items():
        output = OUTPUTS[name]
        assert list(output.mean or (0,)) == register.v1_pretraining_mean[f"tok_{theirs}@224"]
        assert list(output.std or (1,)) == register.v1_pretraining_std[f"tok_{theirs}@224"]
        file = pretrained_weights[f"terramind_v1_tokenizer_{name.lower()}"]
        assert (output.weights.repo, output.weights.filename) == (file["hf_hub_id"], file["hf_hub_filename"])


@pytest.mark.parametrize("outputs", ["LULC", [], ["LULC", "LULC"], ["clouds"], ["S2L1C"]])
def test_outputs_that_cannot_be_generated(outputs):
    with pytest.raises(OptionError, match="cannot be generated"):
        generator_spec(TINY, outputs, timesteps=10)


@pytest.mark.parametrize("key", ["terrafm", "terramind_v01_base", "terramind_v1_tiny_tim"])
def test_models_that_generate_nothing(key):
    with pytest.raises(OptionError, match="generates no modalities"):
        generator_spec(find_spec(key), ["LULC"], timesteps=10)


@pytest.mark.parametrize("timesteps", [0, 1001, 2.5, True])
def test_timesteps_that_cannot_be_used(timesteps):
    with pytest.raises(OptionError, match="timesteps"):
        generator_spec(TINY, ["LULC"], timesteps)


def test_choice_of_tokenizers(tmp_path):
    random = WeightsRef("random", "random (seed 0)")
    assert resolve_tokenizers(None, ASKED, random, TINY) == (("LULC", random), ("NDVI", random))
    file = tmp_path / "lulc.pt"
    file.write_bytes(b"any")
    chosen = dict(resolve_tokenizers({"LULC": file, "NDVI": "random"}, ASKED, random, TINY))
    assert chosen["LULC"].source == str(file)
    with pytest.raises(OptionError, match="not generated"):
        resolve_tokenizers({"DEM": "random"}, ASKED, random, TINY)
    with pytest.raises(WeightsNotFoundError):
        resolve_tokenizers({"LULC": tmp_path / "none.pt", "NDVI": "random"}, ASKED, random, TINY)
