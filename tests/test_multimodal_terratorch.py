"""TerraMind over whole scenes, against terratorch's own forward on the same tiles, normalized by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr

import xr_rsembed
from tests.fake_weights import quick_init
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import OptionError, RsEmbedError, SceneError

TINY = "terramind_v1_tiny"
SIZE = (448, 448)  # two by two tiles
NAMES = ("S2L2A", "S1GRD", "DEM")
KEYS = {
    "S2L2A": "untok_sen2l2a@224",
    "S2L1C": "untok_sen2l1c@224",
    "S1GRD": "untok_sen1grd@224",
    "S1RTC": "untok_sen1rtc@224",
    "DEM": "untok_dem@224",
    "RGB": "untok_sen2rgb@224",
}
SUBSET = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
CANONICAL = ["B2", "B3", "B4", "B8A", "B11", "B12"]


def terratorch_model(modalities, file=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from terratorch.registry import BACKBONE_REGISTRY

        options |= {"ckpt_path": str(file)} if file else {}
        with quick_init():
            return BACKBONE_REGISTRY.build(
                TINY, pretrained=False, modalities=list(modalities), **options
            ).eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights of every modality, from terratorch's own initial values."""
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("terramind") / "tiny.pt"
    torch.save(terratorch_model(tuple(KEYS)).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def theirs(file):
    """terratorch's model of all three, which merges as it is told."""
    model = terratorch_model(NAMES, file)

    def merging(merge):
        model.merge_method = merge
        return model

    return merging


@pytest.fixture(scope="module")
def scenes() -> dict[str, xr.DataArray]:
    """Radar is missing in the right column of tiles, height in the lower left tile."""
    made = {name: synthetic_scene(SIZE, modality=name, chunks=200, seed=3) for name in NAMES}
    right = np.arange(448) >= 224
    made["S1GRD"] = made["S1GRD"].where(xr.DataArray(~right, dims="x"))
    corner = xr.DataArray(right[:, None] & ~right, dims=("y", "x"))
    made["DEM"] = made["DEM"].where(~corner)
    return made


def normalized(name: str, scene: xr.DataArray, bands=None) -> torch.Tensor:
    """z-scores with terratorch's statistics, (C, y, x); zero where a pixel is NaN."""
    from terratorch.models.backbones.terramind.model import terramind_register

    mean, std = (
        np.array(getattr(terramind_register, f"v1_pretraining_{what}")[KEYS[name]], dtype="float32")[
            :, None, None
        ]
        for what in ("mean", "std")
    )
    pixels = scene.values.astype("float32")
    seen = np.nan_to_num((np.clip(pixels, 0, 10000) if name.startswith("S2") else pixels) - mean) / std
    if bands:
        seen = seen[[list(scene.band.values).index(band) for band in bands]]
    return torch.from_numpy(np.where(np.isnan(pixels).any(axis=0), 0, seen).astype("float32"))


def tiles(scenes, bands=None):
    """For each of the four tiles: its corner, and the modalities that it has, (1, C, 224, 224) each."""
    seen = {name: normalized(name, scene, bands) for name, scene in scenes.items()}
    valid = {name: ~np.isnan(scene.values.astype("float32")).any(axis=0) for name, scene in scenes.items()}
    for y in (0, 224):
        for x in (0, 224):
            where = (slice(y, y + 224), slice(x, x + 224))
            yield y // 16, x // 16, {n: seen[n][None, :, *where] for n in scenes if valid[n][where].any()}


@torch.inference_mode()
def expected(model, scenes, pick, bands=None) -> np.ndarray:
    """``pick(output, present)`` to (..., N, D), for each tile, put side by side as (..., D, 28, 28)."""
    whole = None
    for row, column, inputs in tiles(scenes, bands):
        grid = pick(model(inputs), list(inputs)).mT.unflatten(-1, (14, 14)).numpy()
        whole = np.full((*grid.shape[:-2], 28, 28), np.nan, dtype="float32") if whole is None else whole
        whole[..., row : row + 14, column : column + 14] = grid
    return whole


def embed(scenes, file, **options):
    return xr_rsembed.embed(scenes, TINY, weights=file, device="cpu", **options)


def assert_close(found, wanted):
    assert found.shape == wanted.shape
    assert np.isnan(wanted).sum() < wanted.size
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    scale = max(1.0, float(np.nanmax(np.abs(wanted))))  # unnormed layers grow
    assert float(np.nanmax(np.abs(np.asarray(found) - wanted))) <= 1e-5 * scale


@pytest.fixture(scope="module")
def of_all(file):
    return terratorch_model(tuple(KEYS), file)


@pytest.mark.parametrize("name", KEYS)
def test_every_modality_as_a_scene(file, of_all, name):
    if name == "RGB":
        s2 = synthetic_scene((224, 224), seed=5).sel(band=["B4", "B3", "B2"])
        scene = (
            (s2 / 20)
            .clip(0, 255)
            .astype("uint8")
            .assign_coords(band=["R", "G", "B"])
            .assign_attrs(units="8-bit")
        )
    else:
        scene = synthetic_scene((224, 224), modality=name, seed=5)
    wanted = {"scene": scene}
    with torch.inference_mode():
        tokens = of_all({name: normalized(name, scene)[None]})[-1][0]
    found = xr_rsembed.embed(wanted, TINY, weights=file, device="cpu", modalities={name: "scene"})
    assert_close(found.values, tokens.mT.unflatten(-1, (14, 14)).numpy())
    assert found.attrs["modality"] == name


@pytest.mark.parametrize("merge", ["mean", "max"])
def test_merged_with_missing_modalities(scenes, file, theirs, merge):
    wanted = expected(theirs(merge), scenes, lambda states, _: states[-1][0])
    assert_close(embed(scenes, file, merge=merge).values, wanted)


@pytest.mark.parametrize("merge", ["dict", None, "concat"])
def test_apart_with_missing_modalities(scenes, file, theirs, merge):
    def pick(states, present):
        nothing = torch.full((196, 192), torch.nan)
        return torch.stack([states[-1][name][0] if name in present else nothing for name in NAMES])

    wanted = expected(theirs("dict"), scenes, pick)
    found = embed(scenes, file, merge=merge)
    if merge == "dict":
        assert list(found) == list(NAMES)
        found = found.to_dataarray("modality")
    elif merge == "concat":
        wanted = wanted.reshape(3 * 192, 28, 28)
    else:
        assert list(found.modality.values) == list(NAMES)
    assert_close(found.values, wanted)


def test_none_and_concat_are_terratorch_s_where_nothing_is_missing(scenes, file, theirs):
    whole = {name: scenes[name].isel(x=slice(0, 224), y=slice(0, 224)) for name in NAMES[::-1]}
    inputs = {name: normalized(name, scene)[None] for name, scene in whole.items()}
    with torch.inference_mode():
        joined = theirs("concat")(dict(inputs))[-1][0]
        plain = theirs(None)(dict(inputs))[-1][0]
    assert_close(embed(whole, file, merge="concat").values, joined.mT.unflatten(-1, (14, 14)).numpy())
    # terratorch leaves the tokens of one modality after those of the other: here that is a dim
    unmerged = plain.unflatten(0, (3, 196)).mT.unflatten(-1, (14, 14)).numpy()
    assert_close(embed(whole, file, merge=None).values, unmerged)


def test_a_list_of_layers_of_several_modalities(scenes, file, theirs):
    layers = [2, 5, 8, 11]
    wanted = expected(
        theirs("mean"), scenes, lambda states, _: torch.stack([states[layer][0] for layer in layers])
    )
    found = embed(scenes, file, layer=layers)
    assert found.dims == ("layer", "D", "y", "x")
    assert list(found.layer.values) == layers
    assert_close(found.values, wanted)


def test_a_list_of_layers_takes_one_forward(scenes, file, monkeypatch):
    from xr_rsembed.models.terramind.encoder import TerraMindEncoder

    calls = []
    plain = TerraMindEncoder.__call__
    monkeypatch.setattr(
        TerraMindEncoder,
        "__call__",
        lambda self, inputs, layers, options: (
            calls.append((sorted(inputs), layers)) or plain(self, inputs, layers, options)
        ),
    )
    embed(scenes["S2L2A"], file, layer=[0, 11], batch_size=4).compute()
    assert calls == [(["S2L2A"], (0, 11))]


@pytest.fixture(scope="module")
def of_subset(file):
    return terratorch_model(["S2L2A"], file, bands={"S2L2A": SUBSET})


@pytest.mark.parametrize(
    "named", [SUBSET, CANONICAL, {"S2L2A": SUBSET}, {"s2l2a": ["blue", "B03", *CANONICAL[2:]]}]
)
def test_bands_by_name(scenes, file, of_subset, named):
    s2 = {"S2L2A": scenes["S2L2A"]}
    wanted = expected(of_subset, s2, lambda states, _: states[-1][0], CANONICAL)
    found = s2["S2L2A"].rsembed.embed(TINY, weights=file, device="cpu", bands=named)
    assert_close(found.values, wanted)
    assert found.attrs["bands"] == CANONICAL
    assert found.attrs["bands_terramind"] == SUBSET
    again = xr_rsembed.reproduce(found, s2["S2L2A"], device="cpu")
    np.testing.assert_array_equal(again, found)


def test_bands_of_a_scene_that_holds_no_others(scenes, file):
    s2 = scenes["S2L2A"]
    picked = s2.sel(band=CANONICAL[::-1])
    del picked.attrs["modality"]
    whole = embed(s2, file, bands=SUBSET)
    np.testing.assert_array_equal(embed(picked, file, bands=SUBSET), whole)
    numbered = s2.assign_coords(band=range(1, 13))
    with pytest.warns(UserWarning, match="no names"):
        np.testing.assert_array_equal(embed(numbered, file, bands=SUBSET), whole)


def test_bands_of_one_modality_among_several(scenes, file):
    model = terratorch_model(NAMES, file, merge_method="mean", bands={"S1GRD": ["VH"]})
    seen = dict(scenes)
    wanted = None
    for row, column, inputs in tiles(seen):
        if "S1GRD" in inputs:
            inputs["S1GRD"] = inputs["S1GRD"][:, 1:]
        with torch.inference_mode():
            grid = model(inputs)[-1][0].mT.unflatten(-1, (14, 14)).numpy()
        wanted = np.empty((192, 28, 28), dtype="float32") if wanted is None else wanted
        wanted[:, row : row + 14, column : column + 14] = grid
    ds = xr.Dataset(seen)
    found = ds.rsembed.embed(TINY, weights=file, device="cpu", bands={"S1GRD": ["vh"]})
    assert_close(found.values, wanted)
    again = xr_rsembed.reproduce(found, ds, device="cpu")
    np.testing.assert_array_equal(again, found)


BAD_SUBSETS = {
    "unknown": (lambda s: {"bands": ["BLUE", "BANANA"]}, OptionError, "BANANA"),
    "nearly right": (lambda s: {"bands": ["B2", "B8B"]}, OptionError, r"did you mean 'B8A?'"),
    "doubled": (lambda s: {"bands": ["BLUE", "B02"]}, OptionError, "each once"),
    "empty": (lambda s: {"bands": []}, RsEmbedError, "bands"),
    "of another modality": (
        lambda s: {"bands": {"S1GRD": ["VV"]}, "modality": "S2L2A"},
        OptionError,
        "S1GRD",
    ),
    "of no modality": (lambda s: {"bands": {"S3": ["VV"]}}, RsEmbedError, "S3"),
    "a string": (lambda s: {"bands": "BLUE"}, OptionError, "list of band names"),
    "not in this product": (lambda s: {"bands": ["B10"], "modality": "S2L2A"}, OptionError, "B10"),
}


@pytest.mark.parametrize("case", BAD_SUBSETS)
def test_bad_subsets(scenes, case):
    options, error, said = BAD_SUBSETS[case]
    with pytest.raises(error, match=said):
        xr_rsembed.embed(scenes["S2L2A"], TINY, weights="random", **options(scenes))


def test_subsets_that_leave_a_choice(scenes):
    plain = scenes["S1GRD"].copy()
    del plain.attrs["modality"]
    with pytest.raises(SceneError, match="S1GRD or S1RTC"):
        xr_rsembed.embed(plain, TINY, weights="random", bands=["VV"])
    with pytest.raises(OptionError, match="which modality"):
        xr_rsembed.embed(scenes, TINY, weights="random", bands=["VV"])
    with pytest.raises(OptionError, match="no option 'bands'"):
        xr_rsembed.embed(scenes["S2L2A"], "terrafm", weights="random", bands=["B2"])
