"""TerraMind as terratorch builds and runs it: the reference, and the one way to think in modalities (TiM)."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xr_rsembed.models import checkpoint
from xr_rsembed.models.precision import own_random
from xr_rsembed.models.spec import EncoderRequest, ModelSpec
from xr_rsembed.models.terramind.constants import FILE_NAMES, band_indices, tim_modalities, widen_embeddings

TIM_SEED = 0
# The encoder and decoder that imagine a TiM key's tokens sit under this prefix; files hold them without it.
_SAMPLER = "sampler.model."

# terratorch is untyped: its models are `Any` here, and their attributes are taken at its word.


def load(
    spec: ModelSpec, request: EncoderRequest
) -> tuple[nn.Module, Callable[[dict[str, Tensor], tuple[int, ...]], list[Tensor]]]:
    """terratorch's module, filled strictly, and its forward: images by modality to tokens of each layer."""
    tim = tim_modalities(spec, request)
    options = {"tim_modalities": list(tim)} if tim else {}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = build(
            "BACKBONE_REGISTRY",
            spec.key,
            modalities=list(request.modalities),
            merge_method=None,
            **options,
        )
        # Tokenizers would encode inputs that are tokens already; pixels never pass through them.
        model.tokenizer = nn.ModuleDict()
        chosen = band_indices(spec, request)
        checkpoint.fill(
            model,
            request.weights,
            alias=(lambda key: key.removeprefix(_SAMPLER)) if tim else None,
            fit=functools.partial(widen_embeddings, spec, chosen),
        )
        for name, index in chosen.items():
            _keep_bands(model.encoder_embeddings[FILE_NAMES[name]], index, spec.patch_size**2)
    model.eval().requires_grad_(False)
    if not tim:
        return model, functools.partial(_forward, model)
    draw = model.sampler.generate
    # The same tokens for the same tile: terratorch seeds the sampler anew for every call.
    model.sampler.generate = lambda *args, **keywords: draw(*args, **{**keywords, "seed": TIM_SEED})
    return model, functools.partial(_think, model)


def _keep_bands(embedding: Any, index: list[int], pixels: int) -> None:
    """Keep the columns of some bands in a patch embedding, whose inputs run over pixels first and bands last."""
    kept = embedding.proj.weight.unflatten(1, (pixels, -1))[..., index].flatten(1)
    embedding.proj = nn.Linear(kept.shape[1], len(kept), bias=False)
    embedding.proj.weight.copy_(kept)


def _forward(model: Any, images: dict[str, Tensor], layers: tuple[int, ...]) -> list[Tensor]:
    states = model(dict(images))
    return [states[layer] for layer in layers]


def _think(model: Any, images: dict[str, Tensor], layers: tuple[int, ...]) -> list[Tensor]:
    """Tile by tile from one seed.

    Tokens are drawn at random, from one stream for the whole batch: a tile would get other tokens in another batch.
    """
    tiles = []
    for index in range(len(next(iter(images.values())))):
        tile = {name: image[index : index + 1] for name, image in images.items()}
        with own_random(next(iter(tile.values()))):
            tiles.append(_forward(model, tile, layers))
    return [torch.cat(states) for states in zip(*tiles, strict=True)]


def build(registry: str, key: str, **options: Any) -> Any:
    """A module of BACKBONE_REGISTRY or FULL_MODEL_REGISTRY, with the initial values that its code gives it.

    Weights are no option: terratorch leaves what a file lacks at random values.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import terratorch.registry as registries
    # Some of the forty packages that this imports set warning filters of their own, so ours come again. What is
    # ignored says that the model is not pre-trained, of weights that are filled in right afterwards.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(registries, registry).build(key, pretrained=False, **options)
