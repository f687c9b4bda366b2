"""TerraMind's encoder as a torch module: the published parameters, run exactly as far as the layers asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xr_rsembed.models.vit import (
    Attention,
    Block,
    GatedMlp,
    Mlp,
    patches,
    resized_positions,
    states,
    uninitialized,
    waves,
)


class Norm(nn.Module):
    """A layer norm without a bias; files hold the zeros that stand in for it."""

    bias: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, eps=1e-6)


class PatchEmbedding(nn.Module):
    """Images of one modality to tokens with their positions and modality added, once ``fold`` was called.

    In the published matrix the bands of a pixel stand side by side; folded, each band's pixels do, as ``patches``
    cuts them.
    """

    pos_emb: Tensor
    place: Tensor

    def __init__(self, bands: int, width: int, side: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.mod_emb = nn.Parameter(torch.zeros(1, 1, width))
        self.proj = nn.Linear(bands * patch**2, width, bias=False)
        self.register_buffer("pos_emb", torch.zeros(1, side**2, width))

    def fold(self, bands: Sequence[int] | None = None) -> None:
        """Lay the matrix out for ``patches``, with all bands or with those at some places, in their order."""
        by_band = self.proj.weight.unflatten(1, (self.patch**2, -1)).transpose(1, 2)
        kept = by_band if bands is None else by_band[:, list(bands)]
        self.proj.in_features = kept.shape[1] * self.patch**2
        self.proj.weight = nn.Parameter(kept.flatten(1).contiguous(), requires_grad=False)
        self.register_buffer("place", self.pos_emb + self.mod_emb)
        del self.pos_emb, self.mod_emb

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, bands, h, w) to tokens (B, N, D)."""
        height, width = (size // self.patch for size in image.shape[-2:])
        return self.proj(patches(image, self.patch)) + resized_positions(self.place, height, width)


class TerraMind(nn.Module):
    """The encoder's parameters under their published names.

    ``bands`` are numbers of bands by the modalities' names in the files. The base and large models are ``gated``: their
    feed-forward parts have a gate, and there are no biases anywhere.
    """

    def __init__(
        self, bands: Mapping[str, int], width: int, depth: int, gated: bool, side: int = 14, patch: int = 16
    ) -> None:
        super().__init__()
        self.encoder_embeddings = nn.ModuleDict(
            {name: PatchEmbedding(number, width, side, patch) for name, number in bands.items()}
        )
        self.encoder = nn.ModuleList(
            Block(
                Attention(width, bias=not gated),
                GatedMlp(width) if gated else Mlp(width),
                lambda: Norm(width),
            )
            for _ in range(depth)
        )
        self.encoder_norm = Norm(width)

    def forward(self, images: Mapping[str, Tensor], layers: tuple[int, ...]) -> list[Tensor]:
        """Tokens (B, modalities * N, D) of each layer; the last is normed, blocks beyond the deepest are not run."""
        x = torch.cat([self.encoder_embeddings[name](image) for name, image in images.items()], dim=1)
        return states(self.encoder, self.encoder_norm, x, layers)


def build(
    bands: Mapping[str, int], width: int, depth: int, gated: bool, side: int = 14, patch: int = 16
) -> TerraMind:
    """A :class:`TerraMind` whose parameters hold nothing yet, and whose constants do."""
    module = uninitialized(lambda: TerraMind(bands, width, depth, gated, side, patch))
    for part in module.modules():
        if isinstance(part, Norm):
            part.bias.zero_()
        elif isinstance(part, PatchEmbedding):
            part.pos_emb.copy_(sincos_positions(side, width))
    return module


def sincos_positions(side: int, width: int) -> Tensor:
    """Sine and cosine positions (1, side * side, width) of a square grid: of the row, then of the column."""
    along = waves(torch.arange(side, dtype=torch.float32), width // 2)
    rows = along[:, None].expand(-1, side, -1)
    columns = along[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(1, side**2, width)
