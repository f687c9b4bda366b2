"""Parts that vision transformers share, under the names that published weights give them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xr_rsembed.models.encoder import Tokens

HEAD_WIDTH = 64
Module = TypeVar("Module", bound=nn.Module)


class Attention(nn.Module):
    def __init__(self, width: int, bias: bool = True, heads: int | None = None) -> None:
        super().__init__()
        self.heads = heads or width // HEAD_WIDTH
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class GatedMlp(nn.Module):
    """SwiGLU without biases; two thirds as wide as a plain one, because it has three matrices."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 8 * width // 3
        self.fc1 = nn.Linear(width, hidden, bias=False)
        self.fc3 = nn.Linear(width, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.silu(self.fc1(x)) * self.fc3(x))


class Block(nn.Module):
    """Attention and a feed-forward part, each after a norm and beside a residual."""

    def __init__(self, attn: nn.Module, mlp: nn.Module, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = norm(), attn, norm(), mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def states(
    blocks: nn.ModuleList, norm: nn.Module, x: Tensor, layers: tuple[int, ...], *, norm_all: bool = False
) -> list[Tensor]:
    """Tokens after the blocks at these indices; those of the last, or all, are normed. Deeper blocks are not run."""
    kept = {}
    for index, block in enumerate(blocks[: max(layers) + 1]):
        x = block(x)
        if index in layers:
            kept[index] = norm(x) if norm_all or index == len(blocks) - 1 else x
    return [kept[layer] for layer in layers]


def patches(image: Tensor, size: int) -> Tensor:
    """Flat patches (B, h * w, bands * size * size) of images (B, bands, h * size, w * size); bands one after the other.

    Cut in this order, pixels move in runs of ``size``. Two cores, 8 tiles of 12 bands: 2.7 ms, where cutting with
    the bands innermost (as terratorch does) takes 5.6 ms; with the matrix product to 768 channels 53 ms, where a
    convolution takes 82 ms.
    """
    cut = image.unflatten(3, (-1, size)).unflatten(2, (-1, size))
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def resized_positions(positions: Tensor, height: int, width: int) -> Tensor:
    """Positions (1, N, D) of a square grid, resized bicubically to (1, height * width, D) where they do not fit."""
    side = int(positions.shape[1] ** 0.5)
    if (height, width) == (side, side):
        return positions
    grid = positions.transpose(1, 2).unflatten(2, (side, side)).float()
    grid = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
    return grid.flatten(2).transpose(1, 2).to(positions.dtype)


def waves(values: Tensor, width: int) -> Tensor:
    """Numbers (N,) as sines, then cosines (N, width) of ever lower frequencies."""
    half = width // 2
    frequencies = 1.0 / 10000.0 ** (torch.arange(half, dtype=values.dtype, device=values.device) / half)
    angles = values[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def stacked(grids: list[Tensor], pooled: list[Tensor] | None = None) -> Tokens:
    """Tokens of the layers asked for, without a layer dim where it is one."""
    if len(grids) == 1:
        return Tokens(grids[0], pooled[0] if pooled else None)
    return Tokens(torch.stack(grids, dim=1), torch.stack(pooled, dim=1) if pooled else None)


def uninitialized(build: Callable[[], Module]) -> Module:
    """A module on the CPU whose parameters and buffers hold nothing yet: initial values would only be written over.

    Buffers that are not in the state dict stay without any, until they are assigned.
    """
    with torch.device("meta"):
        module = build()
    # Not `to_empty`: on meta tensors that imports sympy, which takes longer than loading a small model.
    empty = {name: torch.empty(one.shape, dtype=one.dtype) for name, one in module.state_dict().items()}
    module.load_state_dict(empty, assign=True)
    return module.eval().requires_grad_(False)
