"""What runs a model: the encoder's protocol, what it is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class WeightsRef:
    """One resolved choice of weights: small, picklable, the same on every worker.

    Parameters
    ----------
    kind : {"hub", "file", "random", "object"}
        ``object``: of an encoder that was given ready-made.
    source : str
        ``repo@revision/filename``, a path, or ``random (seed 0)``: what the attrs record.
    sha256 : str
        Of the weights file; empty for random weights. Workers check it before they load.
    """

    kind: Literal["hub", "file", "random", "object"]
    source: str
    sha256: str = ""


@dataclass(frozen=True)
class EncoderRequest:
    """All that decides which encoder a worker holds: the key of the encoder cache.

    ``options`` are the model options that change the module itself (``ModelSpec.load_options``), sorted by name,
    with hashable values.
    """

    key: str
    modalities: tuple[str, ...]
    weights: WeightsRef
    device: str = "cpu"
    precision: str = "float32"
    options: tuple[tuple[str, Any], ...] = ()

    def option(self, name: str, default: Any = None) -> Any:
        """The value of one load option."""
        return dict(self.options).get(name, default)


@dataclass(frozen=True)
class Layout:
    """The shape of what an encoder gives for one patch: named leading dims, then D.

    ``extra`` holds (dim, coordinate values) pairs, such as ``("layer", (2, 5, 8, 11))``. ``modalities`` names those
    whose vectors stay apart, along a ``modality`` dim (the last of ``extra``) or one after another in D; it is empty
    where they are merged. A part is NaN where its modality has no valid pixel.
    """

    embed_dim: int
    extra: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    modalities: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the extra dims, then D."""
        return (*(len(values) for _, values in self.extra), self.embed_dim)

    @property
    def parts(self) -> int:
        """How many vectors stand apart, each with a validity of its own."""
        return len(self.modalities) or 1

    @property
    def parts_in_depth(self) -> int:
        """How many of them share one D."""
        return 1 if "modality" in dict(self.extra) else self.parts


@dataclass(frozen=True)
class Tokens:
    """What one forward pass gives, in float32.

    Parameters
    ----------
    grid : tensor, shape ``(B, *Layout.shape, h, w)``
        A vector for every patch; the layer dim may be left out where one layer was asked for.
    pooled : tensor, shape ``(B, *Layout.shape)``, optional
        The model's own summary of a tile (a CLS output), where it has one.
    """

    grid: torch.Tensor
    pooled: torch.Tensor | None = None


@dataclass(frozen=True)
class Context:
    """When and where the B tiles of a batch were seen, for encoders that need it (``ModelSpec.needs``).

    Parameters
    ----------
    time : array of datetime64[s], shape (B,)
        Of the scene's ``time``, in UTC; NaT where that is not needed.
    latitude, longitude : array of float64, shape (B,)
        Of the tiles' centres in degrees (WGS 84); NaN where they are not needed.
    resolution : float
        Metres a pixel of the images that the encoder gets; NaN where that is not needed.
    """

    time: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    resolution: float


class Encoder(Protocol):
    """A model on a device, ready to map normalized tiles to tokens.

    ``inputs`` maps modality to a float32 tensor (B, C, 224, 224) on the encoder's device, and may leave out
    modalities of the request that a tile lacks; ``layers`` are indices of transformer blocks, counted from the end
    when negative; ``options`` are the model options that are not ``load_options``. Where ``ModelSpec.needs`` names
    something, a fourth argument ``context`` carries it, a :class:`Context`. Called under ``torch.inference_mode`` and
    one call at a time per device. The memory of the inputs is used again for the next call: tokens may be views of
    them, but what an encoder keeps beyond a call must be a copy.
    """

    def __call__(
        self, inputs: Mapping[str, torch.Tensor], layers: tuple[int, ...], options: Mapping[str, Any]
    ) -> Tokens: ...


class Generator(Protocol):
    """A generating model on a device.

    ``inputs`` maps modality to a normalized float32 tensor (B, C, 224, 224) and ``seeds`` holds one number for each
    of the B tiles; a tile's images depend on its pixels and its seed alone. Gives (B, channels, 224, 224) in physical
    units for each output, or the probability of each class.
    """

    def __call__(
        self, inputs: Mapping[str, torch.Tensor], seeds: Sequence[int]
    ) -> dict[str, torch.Tensor]: ...


def load_from(module: str) -> Callable[[Any, EncoderRequest], Any]:
    """The ``load`` of a family's torch module, which is imported when the encoder is loaded."""
    return partial(_load_from, module)


def _load_from(module: str, spec: Any, request: EncoderRequest) -> Any:
    return import_module(module).load(spec, request)


def freeze(value: Any) -> Any:
    """A hashable copy of an option's value: lists become tuples, mappings sorted tuples of pairs.

    Examples
    --------
    >>> freeze({"S2L2A": ["B2", "B3"]})
    (('S2L2A', ('B2', 'B3')),)
    """
    if isinstance(value, Mapping):
        return tuple(sorted((key, freeze(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value
