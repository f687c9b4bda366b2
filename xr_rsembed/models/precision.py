"""What torch encoders do alike: their number type on a device, the layers asked for, random numbers of their own."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from xr_rsembed.errors import DeviceError, OptionError, RsEmbedWarning

if TYPE_CHECKING:
    import torch

__all__ = ["layer_indices", "own_random", "precision_dtype"]


def precision_dtype(precision: str, device: str) -> torch.dtype:
    """The torch dtype of the weights.

    Raises
    ------
    OptionError
        For a precision that does not exist.
    DeviceError
        For float16 anywhere but on CUDA, where its matrix products are slow or missing.

    Warns
    -----
    RsEmbedWarning
        For bfloat16 on a CPU that has no units for it. It runs there, with the numbers asked for, in software: one
        sixth to one seventh of float32's speed (TerraMind tiny, small and base on two cores of an EPYC with AVX2).
    """
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision not in known:
        raise OptionError("There is no such precision.", found=repr(precision), expected=", ".join(known))
    if precision == "float16" and not device.startswith("cuda"):
        raise DeviceError(
            "float16 needs a CUDA device.",
            found=f"device {device!r}",
            expected='device="cuda"',
            remedy='precision="bfloat16"',
        )
    if precision == "bfloat16" and device == "cpu" and _computes_bfloat16_in_software():
        warnings.warn(
            "This CPU has no units for bfloat16 and computes it in software, several times slower than float32. "
            'precision="float32" is the faster one here.',
            RsEmbedWarning,
            stacklevel=3,
        )
    return known[precision]


def _computes_bfloat16_in_software() -> bool:
    """Whether this is an x86 CPU with neither AVX512-BF16 nor AMX; other kinds are not judged, nor an older torch's."""
    import torch

    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return known.get("architecture") == "x86_64" and not (known.get("avx512_bf16") or known.get("amx_bf16"))


def layer_indices(layers: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """Layers counted from the first block.

    Examples
    --------
    >>> layer_indices((2, -1), depth=12)
    (2, 11)
    """
    for layer in layers:
        if not -depth <= layer < depth:
            raise OptionError("There is no such layer.", found=layer, expected=f"-{depth} to {depth - 1}")
    return tuple(layer % depth for layer in layers)


def own_random(image: torch.Tensor) -> AbstractContextManager[None]:
    """A context whose random numbers leave torch's own state, on the CPU and on the image's device, as it was."""
    import torch

    return torch.random.fork_rng(devices=[image.device] if image.is_cuda else [])
