"""What torch encoders do alike: their number type on a device, the layers asked for, random numbers of their own."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from xr_rsembed.errors import DeviceError, OptionError, one_of, warn

if TYPE_CHECKING:
    import torch


def place(module: torch.nn.Module, precision: str, device: str) -> torch.dtype:
    """Move a module to a device, its weights rounded to a precision; gives the dtype that it computes in.

    Refuses float16 on a CPU, where its matrix products are slow or missing, and warns of bfloat16 on a CPU without
    units for it: in software it would run at a sixth to a seventh of float32's speed (TerraMind tiny, small and base
    on two cores of an EPYC with AVX2), so the rounded weights compute in float32.
    """
    import torch

    one_of("precision", precision, ("float32", "bfloat16", "float16"))
    if precision == "float16" and device == "cpu":
        raise DeviceError(
            "float16 needs a GPU.",
            found=f"device {device!r}",
            expected='device="cuda"',
            remedy='precision="bfloat16"',
        )
    dtype: torch.dtype = getattr(torch, precision)
    module.to(device=device, dtype=dtype)
    if precision == "bfloat16" and device == "cpu" and not has_bfloat16(device):
        warn(
            "This CPU has no units for bfloat16: the weights are rounded to it, and computed with in float32, which is "
            'several times faster here. precision="auto" takes bfloat16 only where it is the faster one.'
        )
        dtype = torch.float32
        module.to(dtype)
    return dtype


def has_bfloat16(device: str) -> bool:
    """Whether a device computes bfloat16 in units of its own; what cannot be told counts as not."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def layer_indices(layers: tuple[int, ...], depth: int, model: str = "The model") -> tuple[int, ...]:
    """Layers counted from the first block.

    Examples
    --------
    >>> layer_indices((2, -1), depth=12)
    (2, 11)
    """
    for layer in layers:
        if not -depth <= layer < depth:
            raise OptionError(
                f"{model} has no layer {layer}.",
                found=f"layer={layer}",
                expected=f"{-depth} to {depth - 1}",
            )
    return tuple(layer % depth for layer in layers)


def own_random(image: torch.Tensor) -> AbstractContextManager[None]:
    """A context whose random numbers leave torch's own state, on the CPU and on the image's device, as it was."""
    import torch

    return torch.random.fork_rng(devices=[image.device] if image.is_cuda else [])
