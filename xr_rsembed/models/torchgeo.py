"""Self-supervised ResNets and vision transformers for Sentinel-1 and Sentinel-2, through torchgeo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xr_rsembed.bands import S1, S2_L1C
from xr_rsembed.models.spec import Encoder, EncoderRequest, HubFile, Modality, ModelFamily, ModelSpec, Tokens
from xr_rsembed.normalize import Normalization

if TYPE_CHECKING:
    import torch

# The transforms that torchgeo publishes with the weights, without their resizing; a test holds the numbers equal.
_OPTICAL = Modality(
    "S2L1C", S2_L1C, "DN", Normalization("scale", divisor=10000.0, source="torchgeo: DN / 10000")
)
_RADAR = Modality(
    "S1GRD",
    S1,
    "dB",
    Normalization(
        "zscore", mean=(-12.59, -20.26), std=(5.26, 5.91), source="torchgeo: SSL4EO-S12 statistics"
    ),
)


def _load(spec: ModelSpec, request: EncoderRequest) -> Encoder:
    """Build through torchgeo without a head, and fill strictly."""
    import torch
    import torchgeo.models

    from xr_rsembed.models import checkpoint
    from xr_rsembed.models.precision import layer_indices, place

    (modality,) = spec.modalities
    name = _architecture(spec.key)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = getattr(torchgeo.models, name)(in_chans=len(modality.bands), num_classes=0)
        checkpoint.fill(model, request.weights)
    dtype = place(model.eval().requires_grad_(False), request.precision, request.device)

    def encode(
        inputs: Mapping[str, torch.Tensor], layers: tuple[int, ...], options: Mapping[str, Any]
    ) -> Tokens:
        image = inputs[modality.name].to(dtype)
        if name.startswith("vit"):
            return _tokens(model, image, layer_indices(layers, spec.depth))
        return Tokens(model.forward_features(image).float())

    return encode


def _tokens(model: Any, image: torch.Tensor, layers: tuple[int, ...]) -> Tokens:
    """Normed tokens of some blocks of a vision transformer, and the class token."""
    from xr_rsembed.models.vit import stacked

    # timm gives them in ascending order, whatever the order asked for.
    ascending = sorted(layers)
    states = model.forward_intermediates(
        image, indices=ascending, norm=True, return_prefix_tokens=True, intermediates_only=True
    )
    kept = [states[ascending.index(layer)] for layer in layers]
    return stacked([grid.float() for grid, _ in kept], [prefix[:, 0].float() for _, prefix in kept])


def _architecture(key: str) -> str:
    name = key.removeprefix("torchgeo_").rsplit("_", 1)[0]
    return "vit_small_patch16_224" if name == "vit_small" else name


def _spec(key: str, embed_dim: int, repo: str, filename: str, revision: str) -> ModelSpec:
    name = _architecture(key)
    modality = _OPTICAL if key.endswith("s2") else _RADAR
    vit = name.startswith("vit")
    method = "MoCo" if "moco" in repo else "a masked autoencoder"
    return ModelSpec(
        key=key,
        family="torchgeo",
        embed_dim=embed_dim,
        depth=12 if vit else 1,
        patch_size=16 if vit else 32,
        modalities=(modality,),
        load=_load,
        weights=HubFile(repo, filename, revision),
        grid_type="vit_patch_tokens" if vit else "feature_map",
        pooled="cls" if vit else "tokens",
        summary=f"torchgeo's {name} for {modality.name}, trained on SSL4EO-S12 with {method}",
        licence="see the model card",
        url=f"https://huggingface.co/{repo}",
    )


FAMILY = ModelFamily(
    name="torchgeo",
    specs=(
        _spec(
            *("torchgeo_resnet18_s2", 512, "torchgeo/resnet18_sentinel2_all_moco"),
            *("resnet18_sentinel2_all_moco-59bfdff9.pth", "5b8cddc9a14f3844350b7f40b85bcd32aed75918"),
        ),
        _spec(
            *("torchgeo_resnet50_s2", 2048, "torchgeo/resnet50_sentinel2_all_moco"),
            *("resnet50_sentinel2_all_moco-df8b932e.pth", "da4f3c9dbe09272eb902f3b37f46635fa4726879"),
        ),
        _spec(
            *("torchgeo_resnet50_s1", 2048, "torchgeo/resnet50_sentinel1_all_moco"),
            *("resnet50_sentinel1_all_moco-906e4356.pth", "e79862c667853c10a709bdd77ea8ffbad0e0f1cf"),
        ),
        _spec(
            *("torchgeo_vit_small_s2", 384, "torchgeo/vit_small_patch16_224_sentinel2_all_moco"),
            *(
                "vit_small_patch16_224_sentinel2_all_moco-67c9032d.pth",
                "1cb683f6c14739634cdfaaceb076529adf898c74",
            ),
        ),
        _spec(
            *("torchgeo_vit_small_s1", 384, "wangyi111/SSL4EO-S12"),
            *("B2_vits16_mae_ep99_enc.pth", "75c72195d35201dc1fb210818993518c25da566b"),
        ),
    ),
    aliases={"torchgeo": "torchgeo_resnet50_s2"},
)
