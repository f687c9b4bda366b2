"""TerraFM's torch module: the published parameters, run in one pass with both outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xr_rsembed.models import checkpoint
from xr_rsembed.models.packed import pack
from xr_rsembed.models.precision import layer_indices, place
from xr_rsembed.models.spec import Encoder, EncoderRequest, ModelSpec, Tokens
from xr_rsembed.models.vit import (
    Attention,
    Block,
    Mlp,
    patches,
    resized_positions,
    stacked,
    states,
    uninitialized,
)

_USUAL_ROWS = 8 * 197  # tokens of a CPU batch
_CHANNELS = {"s2_l2a": 12, "s2_l1c": 12, "s1": 2}


class Projection(nn.Module):
    """Parameters that every stem shares; ``PatchEmbed.fold`` runs them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj1 = nn.Linear(3 * width, 3 * width, bias=False)
        self.norm_input = nn.LayerNorm(3 * width, eps=1e-5)
        self.proj2 = nn.Linear(3 * width, 3 * width)
        self.proj3 = nn.Linear(3 * width, width)


class PatchEmbed(nn.Module):
    """The published patch embeddings, one stem a sensor; never run themselves, but folded into a ``Stem``."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        for name, channels in _CHANNELS.items():
            setattr(self, f"conv2d_{name}", nn.Conv2d(channels, 3 * width, patch, stride=patch))
            setattr(self, f"{name}_embed", nn.Parameter(torch.zeros(1, 3 * width)))
        self.projection = Projection(width)

    def fold(self, name: str) -> Stem:
        """The stem of one sensor with half the matrices.

        Nothing nonlinear stands between the convolution and proj1, nor between the scale of norm_input, proj2 and
        proj3: each chain is one matrix. Multiplied in float64, so that only the final rounding differs.
        """
        conv, embed, shared = getattr(self, f"conv2d_{name}"), getattr(self, f"{name}_embed"), self.projection
        proj1, proj2, proj3 = (
            linear.weight.double() for linear in (shared.proj1, shared.proj2, shared.proj3)
        )
        stem = uninitialized(lambda: Stem(conv.in_channels, shared.proj3.out_features, conv.kernel_size[0]))
        norm, out = shared.norm_input, proj3 @ proj2
        weights = {
            "proj.weight": proj1 @ conv.weight.double().flatten(1),
            "proj.bias": proj1 @ (conv.bias.double() + embed[0].double()),
            "out.weight": out * norm.weight.double(),
            "out.bias": out @ norm.bias.double()
            + proj3 @ shared.proj2.bias.double()
            + shared.proj3.bias.double(),
        }
        stem.load_state_dict({key: value.float() for key, value in weights.items()})
        return stem


class Stem(nn.Module):
    """A folded patch embedding: one matrix (the convolution's), a plain layer norm, one matrix."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Linear(channels * patch**2, 3 * width)
        self.norm = nn.LayerNorm(3 * width, eps=1e-5, elementwise_affine=False)
        self.out = nn.Linear(3 * width, width)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.norm(self.proj(patches(image, self.patch))))


class TerraFM(nn.Module):
    """The published parameters under their published names."""

    def __init__(self, width: int, depth: int, image_size: int = 224, patch: int = 16) -> None:
        super().__init__()
        side = image_size // patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, side * side + 1, width))
        self.patch_embed = PatchEmbed(width, patch)
        self.blocks = nn.ModuleList(
            Block(Attention(width), Mlp(width), lambda: nn.LayerNorm(width, eps=1e-6)) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.stem: Stem | None = None

    def fold(self, name: str) -> TerraFM:
        """Keep one sensor's patch embedding, folded, and drop the others."""
        self.stem = self.patch_embed.fold(name)
        del self.patch_embed
        return self

    def forward(self, image: Tensor, layers: tuple[int, ...]) -> list[Tensor]:
        """Normed tokens, CLS first, of each layer asked for; blocks beyond the deepest one are not run."""
        assert self.stem is not None, "fold() picks the sensor first"
        height, width = (size // self.stem.patch for size in image.shape[-2:])
        x = torch.cat([self.cls_token.expand(len(image), -1, -1), self.stem(image)], dim=1)
        return states(self.blocks, self.norm, x + self._positions(height, width), layers, norm_all=True)

    def _positions(self, height: int, width: int) -> Tensor:
        """Learned positions, resized for images that are not of the training size."""
        first, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        return torch.cat([first, resized_positions(grid, height, width)], dim=1)


def load(spec: ModelSpec, request: EncoderRequest) -> Encoder:
    """Build, fill strictly, fold, and move to the device in the precision asked for."""
    (modality,) = request.modalities
    product = request.option("product", spec.options["product"])
    stem = "s1" if modality.startswith("S1") else f"s2_{product.lower()}"
    with torch.no_grad():
        module = uninitialized(lambda: TerraFM(spec.embed_dim, spec.depth, spec.image_size, spec.patch_size))
        checkpoint.fill(module, request.weights, surplus="error")
        module.fold(stem).requires_grad_(False)
    dtype = place(module, request.precision, request.device)
    if request.option("compile"):
        module.compile()
    elif request.device == "cpu":
        pack(module, rows=_USUAL_ROWS)

    def encode(inputs: Mapping[str, Tensor], layers: tuple[int, ...], options: Mapping[str, Any]) -> Tokens:
        image = inputs[modality].to(dtype)
        side = tuple(size // spec.patch_size for size in image.shape[-2:])
        tokens = module(image, layer_indices(layers, spec.depth))
        grids = [layer[:, 1:].transpose(1, 2).unflatten(2, side).float() for layer in tokens]
        return stacked(grids, [layer[:, 0].float() for layer in tokens])

    return encode
