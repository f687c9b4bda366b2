"""TerraFM-B: `embed` beside the two passes of the published style, one for the vector and one for the features.

python -m benchmarks terrafm [--rounds 7]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import measure
from benchmarks.speed import BANDS, TILE, scene

SIDE = 2
CONTENDERS: dict[str, dict[str, Any]] = {
    "two passes, published style": {"kind": "published"},
    "one embed, float32": {"kind": "embed"},
    "one embed, bfloat16": {"kind": "embed", "precision": "bfloat16"},
}


def run(rounds: int = 7, threads: int | None = None) -> None:
    rows = measure.duel("benchmarks.terrafm", CONTENDERS, rounds, SIDE**2, threads)
    for name, row in rows.items():
        print(name, {k: round(v, 4) for k, v in row.items()}, flush=True)
    measure.save("terrafm", rows, each_cpu=True, rounds=rounds, threads=threads)


def prepare(kind: str, precision: str = "float32") -> Callable[[], None]:
    if kind == "published":
        return published()
    import xr_rsembed

    lazy = xr_rsembed.embed(scene(SIDE), "terrafm_b", weights="random", device="cpu", precision=precision)

    def embed() -> None:
        lazy.compute()

    return embed


def published() -> Callable[[], None]:
    """The model as it was published, written again: attention step by step, every matrix by itself, two passes."""
    import torch
    from torch.nn import functional as F

    from xr_rsembed.models.terrafm.encoder import TerraFM

    module = TerraFM(768, 12).eval().requires_grad_(False)
    stem = module.patch_embed
    tiles = torch.rand(SIDE**2, len(BANDS), TILE, TILE)

    def attention(layer: Any, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = layer.qkv(x).reshape(batch, tokens, 3, layer.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (qkv[0] @ qkv[1].transpose(-2, -1)) * (width // layer.heads) ** -0.5
        return layer.proj((weights.softmax(dim=-1) @ qkv[2]).transpose(1, 2).reshape(batch, tokens, width))

    def one_pass(image: torch.Tensor) -> torch.Tensor:
        x = stem.conv2d_s2_l1c(image).flatten(2).transpose(1, 2) + stem.s2_l1c_embed
        shared = stem.projection
        x = shared.proj3(shared.proj2(shared.norm_input(shared.proj1(x))))
        x = torch.cat([module.cls_token.expand(len(x), -1, -1), x], dim=1) + module.pos_embed
        for block in module.blocks:
            x = x + attention(block.attn, block.norm1(x))
            x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))
        return module.norm(x)

    def both() -> None:
        with torch.no_grad():
            for batch in tiles.split(16):
                one_pass(batch)[:, 0]
                one_pass(batch)[:, 1:].transpose(1, 2).reshape(len(batch), -1, 14, 14)

    return both


if __name__ == "__main__":
    measure.serve(prepare)
