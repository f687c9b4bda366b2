"""How near the encoder comes to the machine: its matrix products over the same products alone, in the same run.

python -m benchmarks roofline
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks import measure


def run(
    models: tuple[str, ...] = ("tiny", "small", "base"), rounds: int = 7, threads: int | None = None
) -> None:
    """Rates in Gflop/s of CPU time, each the best of the rounds: what the machine can do when nobody disturbs it."""
    import torch

    from benchmarks.speed import encoder

    torch.set_num_threads(threads or torch.get_num_threads())
    rows = {}
    for size in models:
        key = f"terramind_v1_{size}"
        products, whole = matrices(key), encoder(key, 2)
        flops = sum(flop for flop, _ in products)
        alone, model = [], []
        for _ in range(rounds):
            alone.append(sum(cpu_seconds(work) for _, work in products))
            model.append(cpu_seconds(whole))
        rows[key] = {
            "gflop_per_tile": flops / 8e9,
            "products_alone_gflops": flops / min(alone) / 1e9,
            "encoder_gflops": flops / 8 * 4 / min(model) / 1e9,
            "roofline": flops / 8 * 4 / min(model) / (flops / min(alone)),
        }
        print(key, rows[key], flush=True)
        measure.save("roofline", rows, each_cpu=True, threads=torch.get_num_threads())


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def matrices(key: str, batch: int = 8) -> list[tuple[float, Callable[[], object]]]:
    """The linear layers of one batch: floating-point operations, and the product by itself, packed where that pays."""
    import torch

    from xr_rsembed.models.packed import pack
    from xr_rsembed.models.registry import find_spec

    spec = find_spec(key)
    width, rows = spec.embed_dim, batch * (spec.image_size // spec.patch_size) ** 2
    inputs = len(spec.modalities[0].bands) * spec.patch_size**2
    shapes = [(inputs, width)]
    shapes += [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)] * spec.depth
    made: dict[tuple[int, int], Callable[[], object]] = {}
    for shape in dict.fromkeys(shapes):
        x, layer = torch.randn(rows, shape[0]), torch.nn.Sequential(torch.nn.Linear(*shape))
        pack(layer, rows)
        made[shape] = torch.inference_mode()(lambda x=x, layer=layer: layer(x))
    return [(2.0 * rows * shape[0] * shape[1], made[shape]) for shape in shapes]
