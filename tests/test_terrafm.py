"""TerraFM against the published code's outputs, and against a plain reference written here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.fake_weights import filled, load, small_terrafm, small_terrafm_shapes
from tests.fakes import modality_of
from xr_rsembed.errors import OptionError
from xr_rsembed.models.registry import find_spec
from xr_rsembed.normalize import normalize

SHARED = Path(__file__).parents[2] / "shared"
GOLDEN = {"terrafm_b": ("TerraFM-B", "base"), "terrafm_l": ("TerraFM-L", "large")}
BRANCHES = [
    ("s2", "S2L2A", "s2l2a", "L1C"),
    ("s2_l2a", "S2L2A", "s2l2a", "L2A"),
    ("s1", "S1RTC", "s1rtc", "L1C"),
]
TILES = ("38D_378R_2_3", "637U_59R_1_3")


@pytest.fixture(scope="module", params=["terrafm_b", pytest.param("terrafm_l", marks=pytest.mark.slow)])
def published(request, tmp_path_factory):
    """A spec, a file with weights by the golden outputs' rule, and those outputs."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the checkout")
    name, size = GOLDEN[request.param]
    shapes = json.loads((SHARED / "reference" / "terrafm_state_dict.json").read_text())[name]
    file = tmp_path_factory.mktemp("terrafm") / f"{name}.pth"
    torch.save(filled(shapes), file)
    yield find_spec(request.param), file, np.load(SHARED / "reference" / f"terrafm_{size}_golden.npz")
    file.unlink()


def real_tile(folder: str, tile: str) -> np.ndarray:
    import rasterio

    with rasterio.open(SHARED / "data" / folder / f"{tile}.tif") as source:
        pixels = source.read()
    return np.float32(10) ** (pixels.astype("float32") / 10) if folder.startswith("s1") else pixels


@pytest.mark.shared
@pytest.mark.parametrize(("branch", "modality", "folder", "product"), BRANCHES)
def test_published_outputs(published, branch, modality, folder, product):
    spec, file, golden = published
    encoder = load(spec, modality, file, product=product)
    how = modality_of(spec, modality).normalization
    tiles = [tile for tile in TILES if f"{tile}/{branch}/grid" in golden]
    assert tiles
    images = np.stack([normalize(real_tile(folder, tile), how) for tile in tiles])
    with torch.inference_mode():
        tokens = encoder({modality: torch.from_numpy(images)}, (-1,), {})
    for number, tile in enumerate(tiles):
        np.testing.assert_allclose(tokens.grid[number], golden[f"{tile}/{branch}/grid"], atol=1e-4)
        np.testing.assert_allclose(tokens.pooled[number], golden[f"{tile}/{branch}/cls"], atol=1e-4)


def plain_forward(state, image, sensor, heads):
    """TerraFM as it is described: every matrix of its own, attention written out. All blocks' normed tokens."""
    p = {key: value.double() for key, value in state.items()}

    def linear(x, name):
        return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0)

    def norm(x, name, eps):
        x = x - x.mean(-1, keepdim=True)
        return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]

    stem = f"patch_embed.conv2d_{sensor}"
    x = F.conv2d(image.double(), p[f"{stem}.weight"], p[f"{stem}.bias"], stride=16).flatten(2).mT
    x = linear(x + p[f"patch_embed.{sensor}_embed"], "patch_embed.projection.proj1")
    x = norm(x, "patch_embed.projection.norm_input", 1e-5)
    x = linear(linear(x, "patch_embed.projection.proj2"), "patch_embed.projection.proj3")
    x = torch.cat([p["cls_token"].expand(len(x), -1, -1), x], dim=1) + p["pos_embed"]
    states = []
    for block in range(sum(key.endswith("attn.qkv.weight") for key in p)):
        name = f"blocks.{block}"
        q, k, v = linear(norm(x, f"{name}.norm1", 1e-6), f"{name}.attn.qkv").chunk(3, dim=-1)
        mixed = []
        for a, b, c in zip(*(part.chunk(heads, dim=-1) for part in (q, k, v)), strict=True):
            mixed.append(torch.softmax(a @ b.mT / a.shape[-1] ** 0.5, dim=-1) @ c)
        x = x + linear(torch.cat(mixed, dim=-1), f"{name}.attn.proj")
        hidden = linear(norm(x, f"{name}.norm2", 1e-6), f"{name}.mlp.fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        x = x + linear(hidden, f"{name}.mlp.fc2")
        states.append(norm(x, "norm", 1e-6))
    return states


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    # Ten times the usual scale: attention and GELU then leave their nearly linear range.
    state = {
        key: value if "norm" in key else value * 10 for key, value in filled(small_terrafm_shapes()).items()
    }
    file = tmp_path_factory.mktemp("terrafm") / "small.pth"
    torch.save(state, file)
    return small_terrafm(), state, file


@pytest.mark.parametrize(
    ("modality", "product", "sensor"),
    [
        ("S2L2A", "L1C", "s2_l1c"),
        ("S2L2A", "L2A", "s2_l2a"),
        ("S2L1C", "L1C", "s2_l1c"),
        ("S1GRD", "L1C", "s1"),
        ("S1RTC", "L2A", "s1"),
    ],
)
def test_equals_the_plain_forward(small, modality, product, sensor):
    spec, state, file = small
    bands = len(modality_of(spec, modality).bands)
    image = torch.rand(2, bands, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        tokens = load(spec, modality, file, product=product)({modality: image}, (-1,), {})
    expected = plain_forward(state, image, sensor, heads=2)[-1].float()
    torch.testing.assert_close(tokens.grid.flatten(2).mT, expected[:, 1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(tokens.pooled, expected[:, 0], atol=1e-4, rtol=0)


def test_every_layer_from_one_pass(small):
    spec, state, file = small
    image = torch.rand(1, 2, 224, 224, generator=torch.Generator().manual_seed(2))
    encoder = load(spec, "S1GRD", file)
    with torch.inference_mode():
        tokens = encoder({"S1GRD": image}, (2, 0, -2), {})
    expected = plain_forward(state, image, "s1", heads=2)
    assert tokens.grid.shape == (1, 3, spec.embed_dim, 14, 14)
    for number, layer in enumerate((2, 0, 1)):
        torch.testing.assert_close(tokens.pooled[:, number], expected[layer][:, 0].float(), atol=1e-4, rtol=0)
        torch.testing.assert_close(
            tokens.grid[:, number].flatten(2).mT, expected[layer][:, 1:].float(), atol=1e-4, rtol=0
        )
    with pytest.raises(OptionError, match="has no layer"):
        encoder({"S1GRD": image}, (3,), {})


def test_tiles_do_not_depend_on_their_batch(small):
    spec, _, file = small
    encoder = load(spec, "S2L2A", file)
    images = torch.rand(3, 12, 224, 224, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        together = encoder({"S2L2A": images}, (-1,), {}).grid
        alone = torch.cat([encoder({"S2L2A": image[None]}, (-1,), {}).grid for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_random_weights_are_the_same_every_time(small):
    image = {"S2L2A": torch.rand(1, 12, 224, 224)}
    state = torch.random.get_rng_state()
    first, second = (load(small[0], "S2L2A") for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state), "torch's own random state was moved"
    with torch.inference_mode():
        torch.testing.assert_close(
            first(image, (-1,), {}).grid, second(image, (-1,), {}).grid, atol=0, rtol=0
        )


def test_bfloat16_points_the_same_way(small):
    spec, _, file = small
    image = {"S2L2A": torch.rand(1, 12, 224, 224, generator=torch.Generator().manual_seed(4))}
    with torch.inference_mode():
        full, half = (
            load(spec, "S2L2A", file, precision=p)(image, (-1,), {}) for p in ("float32", "bfloat16")
        )
    assert half.grid.dtype == torch.float32
    assert float(F.cosine_similarity(full.grid, half.grid, dim=1).min()) > 0.999


@pytest.mark.slow
def test_compiled_equals_plain(small):
    spec, _, file = small
    image = {"S2L2A": torch.rand(2, 12, 224, 224, generator=torch.Generator().manual_seed(5))}
    with torch.inference_mode():
        plain, compiled = (
            load(spec, "S2L2A", file, compile=choice)(image, (-1,), {}) for choice in (False, True)
        )
    torch.testing.assert_close(plain.grid, compiled.grid, atol=1e-4, rtol=1e-4)


def test_options():
    spec = find_spec("terrafm")
    assert modality_of(spec, "S1GRD", {"s1_scale": 0.3}).normalization.divisor == 0.3
    assert modality_of(spec, "S2L2A", {"s1_scale": 0.3}).normalization.divisor == 10000.0
    for options in ({"product": "L3"}, {"s1_scale": 0.0}, {"s1_scale": "big"}):
        with pytest.raises(OptionError):
            spec.check_options(("S1GRD",), {**spec.options, **options})
    with pytest.raises(OptionError, match="one modality"):
        spec.check(spec, ("S1GRD", "S2L2A"), spec.options)
