"""A TerraMind encoder on a device: modalities in, merged tokens out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from xr_rsembed.models import checkpoint
from xr_rsembed.models.packed import pack
from xr_rsembed.models.precision import layer_indices, place
from xr_rsembed.models.spec import EncoderRequest, ModelSpec, Tokens
from xr_rsembed.models.terramind.constants import (
    FILE_NAMES,
    band_indices,
    tim_modalities,
    widen_embeddings,
)
from xr_rsembed.models.terramind.modules import PatchEmbedding, TerraMind, build
from xr_rsembed.models.vit import stacked

_USUAL_ROWS = 8 * 196  # tokens of a CPU batch

# Images by modality, and layers counted from the first, to a (B, modalities * h * w, D) tensor for each layer.
Forward = Callable[[dict[str, Tensor], tuple[int, ...]], list[Tensor]]


def load(spec: ModelSpec, request: EncoderRequest) -> TerraMindEncoder:
    """Build, fill strictly, and move to the device in the precision asked for."""
    tim = tim_modalities(spec, request)
    module: nn.Module
    forward: Forward
    if tim or request.option("engine") == "terratorch":
        from xr_rsembed.models.terramind import terratorch_encoder

        module, forward = terratorch_encoder.load(spec, request)
    else:
        module = _filled(spec, request)

        def forward(images: dict[str, Tensor], layers: tuple[int, ...]) -> list[Tensor]:
            return module({FILE_NAMES[name]: image for name, image in images.items()}, layers)

    dtype = place(module, request.precision, request.device)
    if isinstance(module, TerraMind):
        if request.option("compile"):
            for block in module.encoder:
                block.compile()
        elif request.device == "cpu":
            pack(module, rows=_USUAL_ROWS)
    return TerraMindEncoder(spec, request.modalities, tim, dtype, forward)


def _filled(spec: ModelSpec, request: EncoderRequest) -> TerraMind:
    """Our own module with its weights, its patch embeddings folded."""
    chosen = band_indices(spec, request)
    counts = {
        FILE_NAMES[one.name]: len(one.bands) for one in spec.modalities if one.name in request.modalities
    }
    side = spec.image_size // spec.patch_size
    # Base and large have gated feed-forward parts and no biases; tiny and small are plain.
    gated = spec.embed_dim >= 768
    module = build(counts, spec.embed_dim, spec.depth, gated, side, spec.patch_size)
    with torch.no_grad():
        checkpoint.fill(module, request.weights, fit=partial(widen_embeddings, spec, chosen))
        for name in request.modalities:
            embedding = cast("PatchEmbedding", module.encoder_embeddings[FILE_NAMES[name]])
            embedding.fold(chosen.get(name))
    return module


@dataclass(frozen=True)
class TerraMindEncoder:
    """TerraMind on a device: ``modalities`` go in, and come out together with the ``imagined`` ones."""

    spec: ModelSpec
    modalities: tuple[str, ...]
    imagined: tuple[str, ...]
    dtype: torch.dtype
    forward: Forward

    def __call__(
        self, inputs: Mapping[str, Tensor], layers: tuple[int, ...], options: Mapping[str, Any]
    ) -> Tokens:
        images = {name: inputs[name].to(self.dtype) for name in self.modalities if name in inputs}
        present = (*images, *self.imagined)
        side = tuple(size // self.spec.patch_size for size in next(iter(images.values())).shape[-2:])
        grids = []
        for state in self.forward(images, layer_indices(layers, self.spec.depth)):
            tokens = dict(zip(present, state.float().chunk(len(present), dim=1), strict=True))
            merged = merge_modalities(
                tokens, (*self.modalities, *self.imagined), options.get("merge", "mean")
            )
            grids.append(merged.transpose(-1, -2).unflatten(-1, side))
        return stacked(grids)


def merge_modalities(tokens: Mapping[str, Tensor], names: tuple[str, ...], merge: str | None) -> Tensor:
    """Merge tokens (B, N, D) of the modalities that a tile has, as terratorch's ``merge_method`` does.

    Gives (B, N, D), with ``concat`` (B, N, M * D), with ``dict`` and None (B, M, N, D). These have a place for every
    name, NaN where the modality is missing: terratorch puts a trained token there, and no published weights hold one.
    """
    if merge in ("mean", "max"):
        if len(tokens) == 1:
            return next(iter(tokens.values()))
        stacked = torch.stack(list(tokens.values()), dim=1)
        return stacked.mean(dim=1) if merge == "mean" else stacked.amax(dim=1)
    nothing = torch.full_like(next(iter(tokens.values())), torch.nan)
    every = [tokens.get(name, nothing) for name in names]
    return torch.cat(every, dim=-1) if merge == "concat" else torch.stack(every, dim=1)
