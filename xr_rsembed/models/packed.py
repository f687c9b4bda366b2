"""Matrix products of a CPU encoder through oneDNN, with the weights packed once, when the encoder is loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xr_rsembed.errors import warn

_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


class PackedLinear(nn.Module):
    """A linear layer, and the exact GELU after it where there is one, as one oneDNN product.

    torch sends float32 products on a CPU to MKL, which on AMD stops at AVX2. One thread of an EPYC with AVX-512, 1568
    rows through TerraMind base' layers, in its own CPU time: MKL 108 Gflop/s, oneDNN 250; in bfloat16, where torch
    takes oneDNN anyway but packs the weights anew for every call, 511 and 536. On an EPYC without AVX-512, it is the
    other way round: MKL 91 (its own packing changes nothing), oneDNN 77.
    """

    def __init__(self, linear: nn.Linear, rows: int, *, gelu: bool = False) -> None:
        super().__init__()
        self.out_features, self.activation = linear.out_features, "gelu" if gelu else "none"
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), rows)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        # "none" is GELU's approximation: the exact one.
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], "none")


def pack(module: nn.Module, rows: int) -> None:
    """Pack every linear layer below a module on the CPU, in its final dtype; not where that would not be faster.

    A ``fc1`` followed by an ``act`` that is an exact GELU becomes one product. ``rows`` are the tokens of a usual
    batch, which the packing is laid out for; other numbers work too. Warns where a packed layer does not give the plain
    one's numbers, or this torch does not have the products.
    """
    # A rule rather than a measurement at load: workers that chose differently would give other last digits.
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return
    found: list[tuple[nn.Module, str, PackedLinear]] = []
    try:
        for parent in module.modules():
            for name, child in parent.named_children():
                if type(child) is nn.Linear and child.weight.dtype in _TOLERANCE:
                    gelu = name == "fc1" and _is_exact_gelu(getattr(parent, "act", None))
                    found.append((parent, name, _checked(child, rows, gelu)))
    except (AttributeError, RuntimeError, TypeError) as error:
        warn(f"oneDNN's packed products cannot be used with this torch ({error}); its own, slower ones are.")
        return
    for parent, name, packed in found:
        setattr(parent, name, packed)
        if packed.activation == "gelu":
            parent.act = nn.Identity()


def _is_exact_gelu(act: Any) -> bool:
    return isinstance(act, nn.GELU) and act.approximate == "none"


def _checked(linear: nn.Linear, rows: int, gelu: bool) -> PackedLinear:
    packed = PackedLinear(linear, rows, gelu=gelu)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, linear.in_features, generator=generator).to(linear.weight.dtype)
    expected = linear(x)
    if gelu:
        expected = nn.functional.gelu(expected)
    error = float((packed(x) - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
    if not error <= _TOLERANCE[x.dtype]:
        raise RuntimeError(f"its numbers differ by {error:.1e}")
    return packed
