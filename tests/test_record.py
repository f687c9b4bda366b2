"""Attrs that survive stores, and embeddings made again from them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xr_rsembed
from tests.test_engine import random_pixels, scene_of
from xr_rsembed.errors import RsEmbedWarning, WeightsError

EXPECTED = {
    "model",
    "model_key",
    "modality",
    "bands",
    "normalization",
    "weights",
    "weights_sha256",
    "tile_size",
    "patch_size",
    "overlap",
    "blend",
    "edge",
    "layer",
    "precision",
    "grid_type",
    "xr_rsembed_version",
}


def radar():
    scene = scene_of(random_pixels(240, 300, seed=3), {"y": 111}).isel(band=slice(0, 2))
    scene = (scene.astype("float32") / 10000).assign_coords(band=["VV", "VH"])
    scene.attrs = {"units": "linear"}
    return scene


def scene():
    return scene_of(random_pixels(300, 500, seed=2, nodata_share=0.2), {"y": 123}, nodata=0)


CASES = {
    "plain": (scene, "terramind_v1_tiny", {}),
    "overlap": (
        scene,
        "terramind_v1_tiny",
        {"overlap": 64, "blend": "mean", "edge": "pad", "min_valid": 0.3},
    ),
    "layers": (scene, "terramind_v1_tiny", {"layer": [2, -1]}),
    "pooled": (scene, "terramind_v1_tiny", {"output": "pooled", "pooling": "max"}),
    "resize": (scene, "terramind_v1_tiny", {"input_prep": "resize", "normalize": "none"}),
    "tiles": (scene, "terramind_v1_tiny", {"output": "tiles", "out_dtype": "float16"}),
    "bfloat16": (scene, "terramind_v1_tiny", {"precision": "bfloat16"}),
    "radar": (radar, "terramind_v1_tiny", {"modality": "S1RTC"}),
}


@pytest.mark.parametrize("case", CASES)
def test_reproduce_gives_the_same_numbers(case):
    make, model, options = CASES[case]
    pixels = make()
    first = pixels.rsembed.embed(model, weights="random", **options).compute()
    again = xr_rsembed.reproduce(first, pixels).compute()
    xr.testing.assert_identical(first, again)
    assert np.isfinite(first.values).any()


@pytest.mark.parametrize("store", ["zarr", "netcdf"])
@pytest.mark.parametrize("case", ["plain", "layers", "radar"])
def test_reproduce_from_a_store(case, store, tmp_path):
    make, model, options = CASES[case]
    pixels = make()
    first = pixels.rsembed.embed(model, weights="random", **options).compute()
    path = tmp_path / f"emb.{store}"
    if store == "zarr":
        first.to_zarr(path)
        read = xr.open_zarr(path, decode_coords="all")["embedding"]
    else:
        first.to_netcdf(path, engine="h5netcdf")
        read = xr.open_dataset(path, engine="h5netcdf", decode_coords="all")["embedding"]
    again = xr_rsembed.reproduce(read, pixels).compute()
    np.testing.assert_array_equal(first, again)
    assert again.attrs == first.attrs
    assert read.rio.crs.to_epsg() == 32632


def test_attrs_are_plain_and_complete():
    attrs = scene().rsembed.embed("terramind_v1_tiny", weights="random").attrs
    assert set(attrs) >= EXPECTED
    assert attrs["bands_terramind"][1] == "BLUE"
    assert "v1" in attrs["normalization"]
    assert attrs["grid_type"] == "vit_patch_tokens"
    for value in attrs.values():
        for one in value if isinstance(value, list) else [value]:
            assert isinstance(one, (str, int, float))
    terrafm = scene().rsembed.embed("terrafm", weights="random").attrs
    assert terrafm["grid_type"] == "feature_map"
    assert "bands_terramind" not in terrafm


def test_a_weights_file_is_known_by_its_hash(tmp_path):
    import torch
    from terratorch.registry import BACKBONE_REGISTRY

    file = tmp_path / "weights.pt"
    state = BACKBONE_REGISTRY.build("terramind_v1_tiny", pretrained=False, modalities=["S2L2A"]).state_dict()
    torch.save(state, file)
    pixels = scene()
    first = pixels.rsembed.embed("terramind_v1_tiny", weights=file)
    assert first.attrs["weights"] == str(file)
    assert len(first.attrs["weights_sha256"]) == 64
    xr.testing.assert_identical(first.compute(), xr_rsembed.reproduce(first, pixels).compute())
    state = {name: value + 1e-3 for name, value in state.items() if value.is_floating_point()}
    torch.save(state, file)
    with pytest.raises(WeightsError, match="not the ones"):
        xr_rsembed.reproduce(first, pixels)


def test_a_scene_s_origin_goes_with_its_embedding():
    pixels = scene().assign_attrs(provider="stac", dates=["2022-06-05"], item_ids=["S2A_1"], secret="x")
    attrs = pixels.rsembed.embed("terramind_v1_tiny", weights="random").attrs
    assert attrs["scene_dates"] == ["2022-06-05"]
    assert attrs["scene_item_ids"] == ["S2A_1"]
    assert "x" not in attrs.values()


def test_another_scene_is_said():
    pixels = scene()
    first = pixels.rsembed.embed("terramind_v1_tiny", weights="random")
    with pytest.warns(RsEmbedWarning, match="another scene .* its y and x differ"):
        xr_rsembed.reproduce(first, pixels.assign_coords(y=pixels.y + 40, x=pixels.x - 40))
