"""Prithvi's encoder as a torch module: the published parameters for single dates, with the date and place of a tile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xr_rsembed.models import checkpoint
from xr_rsembed.models.encoder import Context, EncoderRequest, Tokens
from xr_rsembed.models.packed import pack
from xr_rsembed.models.precision import layer_indices, place
from xr_rsembed.models.spec import ModelSpec
from xr_rsembed.models.vit import Attention, Block, Mlp, patches, stacked, states, uninitialized, waves


class Patches(nn.Module):
    """The patch embedding, under its published name a convolution over time, rows and columns."""

    def __init__(self, bands: int, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(bands, width, (1, patch, patch), stride=(1, patch, patch))

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.linear(patches(image, self.patch), self.proj.weight.flatten(1), self.proj.bias)


class Scale(nn.Module):
    """The learned weight of a tile's date or place."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))


class Prithvi(nn.Module):
    """The encoder's parameters under their published names.

    ``side`` is the number of patches along an edge of a tile; with ``context`` the file has the weights of date and
    place (the TL models).
    """

    positions: Tensor

    def __init__(
        self, bands: int, width: int, depth: int, heads: int, side: int, patch: int, context: bool
    ) -> None:
        super().__init__()
        self.side, self.width = side, width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embed = Patches(bands, width, patch)
        if context:
            self.temporal_embed_enc, self.location_embed_enc = Scale(), Scale()
        # Not in the state dict: files hold the positions of several dates, and all of them are computed.
        self.register_buffer("positions", torch.zeros(1, side**2 + 1, width), persistent=False)
        self.blocks = nn.ModuleList(
            Block(Attention(width, heads=heads), Mlp(width), lambda: nn.LayerNorm(width))
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor, added: Tensor | None, layers: tuple[int, ...]) -> list[Tensor]:
        """Tokens, CLS first, of each layer; the last is normed, blocks beyond the deepest are not run.

        ``added`` (B, width) stands for date and place, and goes to every patch.
        """
        x = self.patch_embed(image)
        if added is not None:
            x = x + added[:, None]
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return states(self.blocks, self.norm, x, layers)


class PrithviEncoder:
    """Prithvi on a device."""

    def __init__(self, module: Prithvi, depth: int, dtype: torch.dtype) -> None:
        self.module, self.depth, self.dtype = module, depth, dtype

    def __call__(
        self,
        inputs: Mapping[str, Tensor],
        layers: tuple[int, ...],
        options: Mapping[str, Any],
        context: Context | None = None,
    ) -> Tokens:
        image = inputs["S2L2A"].to(self.dtype)
        added = None if context is None else self._added(context, options).to(image)
        tokens = self.module(image, added, layer_indices(layers, self.depth))
        side = (self.module.side, self.module.side)
        return stacked([layer[:, 1:].transpose(1, 2).unflatten(2, side).float() for layer in tokens])

    def _added(self, context: Context, options: Mapping[str, Any]) -> Tensor:
        """What date and place add to every patch, in float32: bfloat16 holds no year."""
        module = self.module
        added = torch.zeros(len(context.time), module.width, device=module.cls_token.device)
        if options["use_time"]:
            year = context.time.astype("datetime64[Y]")
            # 1 to 366, as in pre-training
            day = (context.time.astype("datetime64[D]") - year).astype(int) + 1
            added += module.temporal_embed_enc.scale.float() * self._waves(year.astype(int) + 1970, day)
        if options["use_place"]:
            added += module.location_embed_enc.scale.float() * self._waves(
                context.latitude, context.longitude
            )
        return added

    def _waves(self, *pair: np.ndarray) -> Tensor:
        """Two numbers of each tile as waves, half of the width each."""
        half = self.module.width // 2
        device = self.module.cls_token.device
        return torch.cat(
            [waves(torch.tensor(one, dtype=torch.float32, device=device), half) for one in pair], dim=1
        )


def load(spec: ModelSpec, request: EncoderRequest) -> PrithviEncoder:
    """Build, fill strictly, and move to the device in the precision asked for."""
    width, side = spec.embed_dim, spec.image_size // spec.patch_size
    heads, bands = min(width // 64, 16), len(spec.modalities[0].bands)
    with torch.no_grad():
        module = uninitialized(
            lambda: Prithvi(bands, width, spec.depth, heads, side, spec.patch_size, bool(spec.declared))
        )
        module.positions = _positions(side, width)
        checkpoint.fill(module, request.weights)
    dtype = place(module, request.precision, request.device)
    if request.device == "cpu":
        pack(module, rows=8 * (side**2 + 1))
    return PrithviEncoder(module, spec.depth, dtype)


def _positions(side: int, width: int) -> Tensor:
    """Sines and cosines of column, row and date (the first one), 6, 6 and 4 of 16 parts of the width; CLS has none."""
    columns, rows = torch.arange(side).repeat(side), torch.arange(side).repeat_interleave(side)
    parts = [(columns, 6), (rows, 6), (torch.zeros(side**2), 4)]
    grid = torch.cat([waves(values.double(), width // 16 * part) for values, part in parts], dim=1)
    return torch.cat([torch.zeros(1, width), grid.float()])[None]
