"""What every torch encoder does alike: its number type on its device, and the layers it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xr_rsembed.errors import DeviceError, OptionError

if TYPE_CHECKING:
    import torch

__all__ = ["layer_indices", "precision_dtype"]


def precision_dtype(precision: str, device: str) -> torch.dtype:
    """The torch dtype of the weights.

    Raises
    ------
    OptionError
        For a precision that does not exist.
    DeviceError
        For float16 anywhere but on CUDA, where its matrix products are slow or missing.
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
    return known[precision]


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
