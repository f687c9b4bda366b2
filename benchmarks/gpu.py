"""On a CUDA device: tiles a second, share of the matrix-product peak measured there, and what laziness costs.

    python -m benchmarks gpu [NAME ...]        (left out of ``python -m benchmarks`` where there is no such device)

It needs torch, numpy, xarray, dask and the package; TerraFM runs without terratorch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import measure

TILE, SIDE = 224, 32  # 1024 tiles, in blocks of 64


def run(models: tuple[str, ...] = ("terrafm_b", "terramind_v1_base"), rounds: int = 7) -> None:
    import torch

    if not torch.cuda.is_available():
        print("no CUDA device: left out", flush=True)
        return
    peak = matmul_peak(rounds)
    rows = {}
    for model in models:
        for precision in ("float32", "bfloat16"):
            rows[f"{model}, {precision}"] = row(model, precision, rounds, peak)
            print(model, precision, rows[f"{model}, {precision}"], flush=True)
    measure.save("gpu", rows, device=torch.cuda.get_device_name(), bfloat16_matmul_tflops=peak / 1e12)


def matmul_peak(rounds: int, side: int = 8192) -> float:
    """Floating-point operations a second of one large bfloat16 product."""
    import torch

    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * side**3 / min(seconds(lambda: a @ b) for _ in range(rounds + 3))


def row(model: str, precision: str, rounds: int, peak: float) -> dict[str, float]:
    """The encoder alone and the whole of embed, in turn."""
    import torch

    lazy, encoder, spec = prepare(model, precision)
    batch = {spec.modalities[0].name: torch.randn(64, 12, TILE, TILE, device="cuda")}

    def alone() -> None:
        with torch.inference_mode():
            for _ in range(SIDE**2 // 64):
                encoder(batch, (-1,), {})

    def whole() -> None:
        lazy.compute(scheduler="threads")

    alone(), whole()
    torch.cuda.reset_peak_memory_stats()
    taken: dict[str, list[float]] = {"alone": [], "whole": []}
    for _ in range(rounds):
        taken["alone"].append(seconds(alone))
        taken["whole"].append(seconds(whole))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    tokens, width = (TILE // spec.patch_size) ** 2, spec.embed_dim
    # Twelve width x width products a token and block (qkv, projection, mlp), and attention's two.
    flops = 2.0 * tokens * spec.depth * (12 * width**2 + 2 * tokens * width)
    return {
        "tiles_per_s": SIDE**2 / medians["whole"],
        "encoder_tiles_per_s": SIDE**2 / medians["alone"],
        "laziness_tax": statistics.median(
            whole / alone - 1 for whole, alone in zip(taken["whole"], taken["alone"], strict=True)
        ),
        "share_of_matmul_peak": flops * SIDE**2 / medians["alone"] / peak,
        "bytes_to_device_per_tile": 12.0 * TILE**2 * 2,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


def prepare(model: str, precision: str) -> tuple[Any, Any, Any]:
    """A lazy embedding of a scene in memory, its encoder, and the model's spec."""
    import dask.array as da
    import numpy as np
    import xarray as xr

    import xr_rsembed
    from benchmarks.speed import BANDS
    from xr_rsembed.engine import devices
    from xr_rsembed.models.registry import find_spec
    from xr_rsembed.models.spec import EncoderRequest, freeze
    from xr_rsembed.models.weights import resolve

    spec = find_spec(model)
    pixels = np.random.default_rng(0).integers(200, 9000, (12, SIDE * TILE, SIDE * TILE), dtype="uint16")
    scene = xr.DataArray(
        da.from_array(pixels, chunks=(12, 2048, 2048)),
        dims=("band", "y", "x"),
        coords={"band": list(BANDS)},
        attrs={"units": "DN", "modality": "S2L2A"},
    )
    lazy = xr_rsembed.embed(scene, model, weights="random", device="cuda", precision=precision, batch_size=64)
    options = tuple((name, freeze(spec.options[name])) for name in sorted(spec.load_options))
    request = EncoderRequest(spec.key, ("S2L2A",), resolve("random", spec), "cuda", precision, options)
    return lazy, devices.get_encoder(spec, request), spec


def seconds(work: Callable[[], Any]) -> float:
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    run()
