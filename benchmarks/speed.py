"""`embed` end to end beside the raw model and the loop that people write by hand; fidelity of bfloat16.

python -m benchmarks speed [--models tiny,small,base] [--rounds 9]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import measure

TILE = 224
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
COMPILED = {"embed, float32, compile=True": {"kind": "embed", "compile": True}}
CONTENDERS: dict[str, dict[str, Any]] = {
    "raw terratorch forward, batch 16": {"kind": "raw"},
    "xarray loop by hand": {"kind": "loop"},
    "encoder alone, float32": {"kind": "encoder"},
    "embed, float32": {"kind": "embed"},
    "embed, bfloat16": {"kind": "embed", "precision": "bfloat16"},
}


def run(
    models: tuple[str, ...] = ("tiny", "small", "base"),
    rounds: int = 9,
    compiled: bool = True,
    threads: int | None = None,
) -> None:
    rows: dict[str, Any] = {}
    for size in models:
        key, side = f"terramind_v1_{size}", 2 if size == "base" else 4
        some = CONTENDERS | (COMPILED if compiled else {})
        named = {name: {"model": key, "side": side, **given} for name, given in some.items()}
        rows[key] = measure.duel("benchmarks.speed", named, rounds, side**2, threads)
        rows[key]["fidelity of bfloat16"] = fidelity(key)
        for name, row in rows[key].items():
            print(key, name, {k: round(v, 4) for k, v in row.items()}, flush=True)
        measure.save("speed", rows, each_cpu=True, rounds=rounds, threads=threads)


def scene(side: int) -> Any:
    """side x side tiles of made land, in memory, in chunks that are not tiles."""
    from xr_rsembed.datasets import synthetic_scene

    return synthetic_scene((side * TILE, side * TILE)).compute().chunk({"y": 300, "x": 300})


def prepare(
    kind: str, model: str, side: int, precision: str = "float32", compile: bool = False
) -> Callable[[], None]:
    """A contender: imports and weights are there before the first round."""
    pixels = scene(side)
    if kind == "raw":
        return raw(model, side)
    if kind == "loop":
        return loop(model, pixels.compute())
    if kind == "encoder":
        return encoder(model, side)
    import xr_rsembed

    options = {"compile": True} if compile else {}
    lazy = xr_rsembed.embed(pixels, model, weights="random", device="cpu", precision=precision, **options)

    def embed() -> None:
        lazy.compute()

    return embed


def raw(model: str, side: int) -> Callable[[], None]:
    """terratorch's own forward on tensors that lie ready: no reading, no normalization, no result put in place."""
    import torch
    from terratorch.registry import BACKBONE_REGISTRY

    module = BACKBONE_REGISTRY.build(model, pretrained=False, modalities=["S2L2A"]).eval()
    tiles = torch.randn(side**2, len(BANDS), TILE, TILE)

    def forward() -> None:
        with torch.no_grad():
            for batch in tiles.split(16):
                module({"S2L2A": batch})

    return forward


def loop(model: str, pixels: Any) -> Callable[[], None]:
    """What people write: slice, normalize, stack, forward, reshape, into one array."""
    import torch
    import xarray as xr
    from terratorch.models.backbones.terramind.model import terramind_register as register
    from terratorch.registry import BACKBONE_REGISTRY

    module = BACKBONE_REGISTRY.build(model, pretrained=False, modalities=["S2L2A"]).eval()
    mean, std = (
        xr.DataArray(np.array(table["untok_sen2l2a@224"], dtype="float32"), dims="band")
        for table in (register.v1_pretraining_mean, register.v1_pretraining_std)
    )
    places = [(y, x) for y in range(0, pixels.sizes["y"], TILE) for x in range(0, pixels.sizes["x"], TILE)]

    def embed() -> None:
        parts = []
        for first in range(0, len(places), 16):
            batch = []
            for y, x in places[first : first + 16]:
                tile = pixels.isel(y=slice(y, y + TILE), x=slice(x, x + TILE)).astype("float32")
                tile = (tile.clip(0, 10000).drop_vars("band") - mean) / std
                batch.append(torch.from_numpy(tile.transpose("band", "y", "x").values))
            with torch.no_grad():
                tokens = module({"S2L2A": torch.stack(batch)})[-1]
            parts.append(tokens.transpose(1, 2).reshape(len(batch), -1, 14, 14).numpy())
        rows, columns = (pixels.sizes[dim] // TILE for dim in ("y", "x"))
        grid = np.concatenate(parts).reshape(rows, columns, -1, 14, 14)
        xr.DataArray(grid.transpose(2, 0, 3, 1, 4).reshape(-1, rows * 14, columns * 14), dims=("D", "y", "x"))

    return embed


def encoder(model: str, side: int) -> Callable[[], None]:
    """Our encoder on tensors that lie ready: what `embed` takes beyond it is the price of laziness and labels."""
    import torch

    from xr_rsembed.engine import devices
    from xr_rsembed.models.registry import find_spec
    from xr_rsembed.models.spec import EncoderRequest
    from xr_rsembed.models.weights import resolve

    spec = find_spec(model)
    modality = spec.modalities[0].name
    request = EncoderRequest(spec.key, (modality,), resolve("random", spec))
    loaded = devices.get_encoder(spec, request)
    tiles = torch.randn(side**2, len(BANDS), TILE, TILE)

    def forward() -> None:
        with torch.inference_mode(), devices.one_at_a_time("cpu"):
            for batch in tiles.split(devices.batch_size(None, spec, "cpu")):
                loaded({modality: batch}, (-1,), {})

    return forward


def fidelity(model: str, side: int = 3, neighbours: int = 10) -> dict[str, float]:
    """bfloat16 beside float32, cell by cell: cosine similarity, and how many nearest neighbours stay the same."""
    import xr_rsembed

    cells = []
    for precision in ("float32", "bfloat16"):
        embedding = xr_rsembed.embed(
            scene(side).compute(), model, weights="random", device="cpu", precision=precision
        )
        vectors = embedding.values.reshape(embedding.sizes["D"], -1).T.astype("float64")
        cells.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    cosine = (cells[0] * cells[1]).sum(axis=1)
    near = []
    for vectors in cells:
        likeness = vectors @ vectors.T
        np.fill_diagonal(likeness, -np.inf)
        near.append(np.argsort(-likeness, axis=1)[:, :neighbours])
    kept = [len(set(a) & set(b)) / neighbours for a, b in zip(*near, strict=True)]
    return {
        "cosine_min": float(cosine.min()),
        "cosine_mean": float(cosine.mean()),
        "neighbours_kept": float(np.mean(kept)),
    }


if __name__ == "__main__":
    measure.serve(prepare)
