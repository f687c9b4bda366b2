"""Prithvi through terratorch and torchgeo's encoders: the protocol is wide enough for what others publish."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

import xr_rsembed
from tests.fake_weights import filled_like, load
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import OptionError, SceneError, WeightsError
from xr_rsembed.models import torchgeo as ours
from xr_rsembed.models.encoder import Context
from xr_rsembed.models.prithvi.family import FAMILY as PRITHVI
from xr_rsembed.models.registry import find_spec

TORCHGEO = {
    "torchgeo_resnet18_s2": "ResNet18_Weights.SENTINEL2_ALL_MOCO",
    "torchgeo_resnet50_s2": "ResNet50_Weights.SENTINEL2_ALL_MOCO",
    "torchgeo_resnet50_s1": "ResNet50_Weights.SENTINEL1_GRD_MOCO",
    "torchgeo_vit_small_s2": "ViTSmall16_Weights.SENTINEL2_ALL_MOCO",
    "torchgeo_vit_small_s1": "ViTSmall16_Weights.SENTINEL1_GRD_MAE",
}


def noise(spec, tiles=1):
    bands = len(spec.modalities[0].bands)
    return torch.randn(tiles, bands, 224, 224, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tiny_prithvi():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from terratorch.registry import BACKBONE_REGISTRY

        torch.manual_seed(1)
        return BACKBONE_REGISTRY.build("prithvi_eo_v2_tiny_tl", pretrained=False, num_frames=1).eval()


def test_prithvi_equals_terratorch(tiny_prithvi, tmp_path):
    """From a file as the hub has it: an encoder and a decoder, positions for four dates."""
    spec = find_spec("prithvi_eo_v2_tiny_tl")
    state = {f"encoder.{key}": value for key, value in tiny_prithvi.state_dict().items()}
    state["encoder.pos_embed"] = torch.zeros(1, 4 * 196 + 1, 192)
    state["decoder.decoder_embed.weight"] = torch.zeros(3, 3)
    torch.save(state, tmp_path / "prithvi.pt")
    image = noise(spec, tiles=2)
    with torch.inference_mode():
        found = load(spec, "S2L2A", tmp_path / "prithvi.pt")({"S2L2A": image}, (3, -1), {}).grid
        expected = tiny_prithvi(image)
    for number, layer in enumerate((3, -1)):
        torch.testing.assert_close(
            found[:, number].flatten(2).mT, expected[layer][:, 1:], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(("used", "given"), [("time", 0), ("place", 1), ("time place", 2)])
def test_prithvi_takes_date_and_place_as_terratorch_does(tiny_prithvi, tmp_path, used, given):
    spec = find_spec("prithvi_eo_v2_tiny_tl")
    torch.save(tiny_prithvi.state_dict(), tmp_path / "prithvi.pt")
    image = noise(spec, tiles=2)
    days = np.array(["2021-01-01", "2024-12-31T23:59"], "datetime64[s]")
    context = Context(days, np.array([45.2, -33.9]), np.array([9.1, 151.2]), np.nan)
    coords = {
        "temporal_coords": torch.tensor([[[2021.0, 1.0]], [[2024.0, 366.0]]]),
        "location_coords": torch.tensor([[45.2, 9.1], [-33.9, 151.2]]),
    }
    if given < 2:
        coords = dict([list(coords.items())[given]])
    options = {f"use_{name}": name in used for name in ("time", "place")}
    with torch.inference_mode():
        encoder = load(spec, "S2L2A", tmp_path / "prithvi.pt")
        found = encoder({"S2L2A": image}, (-1,), options, context).grid
        expected = tiny_prithvi(image, **coords)[-1]
        plain = encoder({"S2L2A": image}, (-1,), options).grid
    torch.testing.assert_close(found.flatten(2).mT, expected[:, 1:], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)


def test_prithvi_is_told_where_a_scene_lies():
    model = "prithvi_eo_v2_tiny_tl"
    scene = synthetic_scene(size=(224, 448)).sel(band=list(find_spec(model).modalities[0].bands))
    plain = xr_rsembed.embed(scene, model, weights="random").compute()
    assert not np.allclose(
        xr_rsembed.embed(scene, model, weights="random", use_place=True).compute(), plain, atol=1e-4
    )
    with pytest.raises(SceneError, match="takes the date"):
        xr_rsembed.embed(scene.drop_vars("time", errors="ignore"), model, weights="random", use_time=True)
    dated = scene.assign_coords(time=np.datetime64("2022-07-01"))
    emb = xr_rsembed.embed(dated, model, weights="random", use_time=True, precision="bfloat16").compute()
    assert bool(np.isfinite(emb).all())
    assert json.loads(emb.attrs["model_options"]) == {"use_place": False, "use_time": True}
    with pytest.raises(OptionError, match="no option"):
        xr_rsembed.embed(scene, "prithvi_eo_v2_300", weights="random", use_time=True)


def test_prithvi_lacks_nothing(tiny_prithvi, tmp_path):
    state = tiny_prithvi.state_dict()
    del state["blocks.3.attn.qkv.weight"]
    torch.save(state, tmp_path / "prithvi.pt")
    with pytest.raises(WeightsError, match=r"blocks\.3\.attn\.qkv\.weight"):
        load(find_spec("prithvi_eo_v2_tiny_tl"), "S2L2A", tmp_path / "prithvi.pt")


def test_prithvi_facts_are_terratorchs():
    from terratorch.models.backbones import prithvi_vit as theirs

    for spec in PRITHVI.specs:
        config, file = theirs.prithvi_cfgs[spec.key], theirs.pretrained_weights[spec.key]
        assert (spec.embed_dim, spec.depth) == (config["embed_dim"], config["depth"])
        assert config["patch_size"] == [1, spec.patch_size, spec.patch_size]
        how = spec.modalities[0].normalization
        assert (list(how.mean), list(how.std)) == (config["mean"], config["std"])
        assert (spec.weights.repo, spec.weights.filename) == (file["hf_hub_id"], file["hf_hub_filename"])


def theirs_of(key):
    import torchgeo.models

    enum, name = TORCHGEO[key].split(".")
    return getattr(getattr(torchgeo.models, enum), name)


@pytest.mark.parametrize("key", TORCHGEO)
def test_torchgeo_facts(key):
    spec, weights = find_spec(key), theirs_of(key)
    (modality,) = spec.modalities
    assert [band.upper() for band in weights.meta["bands"]] == list(modality.bands)
    file = spec.weights
    assert weights.url.endswith(f"/{file.repo}/resolve/{file.revision}/{file.filename}")
    assert weights.meta["model"] == ours._architecture(key)
    (step,) = (step for step in weights.transforms if type(step).__name__ == "Normalize")
    how = modality.normalization
    mean, std = (how.mean, how.std) if how.kind == "zscore" else ((0,), (how.divisor,))
    assert (list(step.mean), list(step.std)) == (list(mean), list(std))


@pytest.mark.parametrize("key", ["torchgeo_resnet18_s2", "torchgeo_resnet50_s1", "torchgeo_vit_small_s2"])
def test_torchgeo_equals_its_own_model(key, tmp_path):
    """From a file with the classification head that torchgeo's files have."""
    import torchgeo.models

    spec = find_spec(key)
    (modality,) = spec.modalities
    theirs = getattr(torchgeo.models, ours._architecture(key))(in_chans=len(modality.bands)).eval()
    theirs.load_state_dict({**theirs.state_dict(), **filled_like(theirs)})
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    image = noise(spec)
    with torch.inference_mode():
        found = load(spec, modality.name, tmp_path / "weights.pth")({modality.name: image}, (-1,), {})
        expected = theirs.forward_features(image)
    if expected.ndim == 4:
        torch.testing.assert_close(found.grid, expected)
        return
    torch.testing.assert_close(found.grid.flatten(2).mT, expected[:, 1:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.pooled, expected[:, 0], atol=1e-5, rtol=1e-5)


def test_vit_layers_come_in_the_order_asked_for():
    spec = find_spec("torchgeo_vit_small_s1")
    encoder, image = load(spec, "S1GRD"), {"S1GRD": noise(spec)}
    with torch.inference_mode():
        several = encoder(image, (5, 2, -1), {})
        for number, layer in enumerate((5, 2, -1)):
            one = encoder(image, (layer,), {})
            torch.testing.assert_close(several.grid[:, number], one.grid)
            torch.testing.assert_close(several.pooled[:, number], one.pooled)
        with pytest.raises(OptionError, match="has no layer"):
            encoder(image, (12,), {})


def test_statistics_of_batch_norms_are_weights(tmp_path):
    import torchgeo.models

    state = torchgeo.models.resnet18(in_chans=13).state_dict()
    del state["layer2.0.bn1.running_var"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"1 keys missing: layer2\.0\.bn1\.running_var"):
        load(find_spec("torchgeo_resnet18_s2"), "S2L1C", tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("model", "modality", "bands", "shape"),
    [
        ("prithvi_eo_v2_tiny_tl", "S2L2A", ["B2", "B3", "B4", "B8A", "B11", "B12"], (192, 19, 32)),
        ("torchgeo_resnet18_s2", "S2L1C", None, (512, 10, 16)),
        ("torchgeo_vit_small_s1", "S1GRD", None, (384, 19, 32)),
    ],
)
@pytest.mark.filterwarnings("ignore::xr_rsembed.errors.RsEmbedWarning")
def test_scenes_embed_by_name(model, modality, bands, shape):
    scene = synthetic_scene(size=(300, 500), modality=modality)
    embedding = xr_rsembed.embed(scene.sel(band=bands) if bands else scene, model, weights="random").compute()
    assert embedding.shape == shape
    assert bool(np.isfinite(embedding).all())
    assert abs(float(embedding.y.diff("y")[0])) == 10 * find_spec(model).patch_size


@pytest.mark.filterwarnings("ignore::xr_rsembed.errors.RsEmbedWarning")
def test_patches_of_another_size():
    """As Prithvi's largest has them: 16 patches of 14 pixels a side."""
    spec = find_spec("prithvi_eo_v2_600")
    assert (spec.patch_size, spec.image_size // spec.patch_size) == (14, 16)

    def mean_of_patches(inputs, layers, options):
        return inputs["S2L2A"].unfold(2, 14, 14).unfold(3, 14, 14).mean((-2, -1))

    class Patches:
        modalities, embed_dim, patch_size = spec.modalities[0].subset(["B4"]), 1, 14
        __call__ = staticmethod(mean_of_patches)

    scene = synthetic_scene(size=(280, 420)).sel(band=["B4"])
    embedding = xr_rsembed.embed(scene, Patches(), normalize="none", overlap=28).compute()
    pixels = scene.compute().values.reshape(20, 14, 30, 14).mean((1, 3))
    np.testing.assert_allclose(embedding[0], pixels, rtol=1e-4)
