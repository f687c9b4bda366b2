"""The settings of one embedding: checked once, then carried as plain values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xr_rsembed.errors import OptionError
from xr_rsembed.tiling import Blend, Edge

__all__ = ["Settings"]

_CHOICES: dict[str, tuple[Any, ...]] = {
    "output": ("grid", "pooled", "tiles"),
    "pooling": ("mean", "max"),
    "input_prep": ("tile", "resize"),
    "blend": ("center", "mean"),
    "edge": ("shift", "pad"),
    "normalize": ("default", "none"),
    "precision": ("float32", "bfloat16", "float16", "auto"),
    "out_dtype": ("float32", "float16", "float64"),
    "density": (1, 2, 4, 8, 16),
}


@dataclass(frozen=True)
class Settings:
    """How to embed; see :func:`xr_rsembed.embed` for what each field means.

    Raises
    ------
    OptionError
        For a value that a field cannot take, with the nearest one that it can.

    Examples
    --------
    >>> Settings(output="gird")
    Traceback (most recent call last):
        ...
    xr_rsembed.errors.OptionError: output has a value it cannot take.
      found:    'gird'
      expected: 'grid', 'pooled' or 'tiles'
      remedy:   output='grid'
    """

    output: str = "grid"
    pooling: str = "mean"
    input_prep: str = "tile"
    overlap: int = 0
    blend: Blend = "center"
    edge: Edge = "shift"
    normalize: str = "default"
    layer: int | tuple[int, ...] = -1
    min_valid: float = 0.0
    batch_size: int | str | None = None
    device: str = "auto"
    precision: str = "float32"
    out_dtype: str = "float32"
    density: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "out_dtype", _dtype_name(self.out_dtype))
        if self.normalize == "zscore":  # the word of RS_EMBED_TERRAMIND_NORMALIZE for the model's own
            object.__setattr__(self, "normalize", "default")
        for name, choices in _CHOICES.items():
            _one_of(name, getattr(self, name), choices)
        object.__setattr__(self, "layer", _layers(self.layer))
        if not _whole(self.overlap):
            raise OptionError(
                "overlap is a number of pixels.", found=repr(self.overlap), expected="an int, such as 64"
            )
        if not isinstance(self.min_valid, (int, float)) or not 0.0 <= self.min_valid <= 1.0:
            raise OptionError(
                "min_valid is a share of pixels.", found=repr(self.min_valid), expected="0.0 to 1.0"
            )
        if self.batch_size not in (None, "auto") and not (
            _whole(self.batch_size) and int(self.batch_size) >= 1
        ):
            raise OptionError(
                "batch_size is a number of tiles.",
                found=repr(self.batch_size),
                expected="an int from 1, 'auto' or None",
            )
        if self.input_prep == "resize" and self.output == "tiles":
            raise OptionError(
                "A resized scene is one tile: it has no grid of tiles.",
                found='input_prep="resize", output="tiles"',
                expected='output="grid" or "pooled"',
                remedy='output="pooled" gives the one vector',
            )
        for means_nothing, setting, beside in (
            (self.input_prep == "resize" and self.overlap, "overlap", 'input_prep="resize"'),
            (self.input_prep == "resize" and self.blend != "center", "blend", 'input_prep="resize"'),
            (self.input_prep == "resize" and self.edge != "shift", "edge", 'input_prep="resize"'),
            (self.output == "grid" and self.pooling != "mean", "pooling", 'output="grid"'),
        ):
            if means_nothing:
                raise OptionError(
                    f"{setting} means nothing beside {beside}.",
                    found=f"{setting}={getattr(self, setting)!r}, {beside}",
                    expected="one of the two",
                    remedy=f"leave {setting} out",
                )
        if self.density > 1 and (self.output, self.input_prep) != ("grid", "tile"):
            raise OptionError(
                "Only a grid of tiles can be made denser.",
                found=f'density={self.density}, output="{self.output}", input_prep="{self.input_prep}"',
                expected='output="grid" and input_prep="tile"',
                remedy="density=1",
            )

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers to run, also where a single one was asked for."""
        return self.layer if isinstance(self.layer, tuple) else (self.layer,)

    @property
    def sums(self) -> bool:
        """Whether cells are means over tiles, so that blocks give sums."""
        return (self.output, self.input_prep, self.blend) == ("grid", "tile", "mean")


def _one_of(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value in choices and not isinstance(value, bool):
        return
    near = difflib.get_close_matches(
        str(value), [one for one in choices if isinstance(one, str)], n=1, cutoff=0.4
    )
    raise OptionError(
        f"{name} has a value it cannot take.",
        found=repr(value),
        expected=" or ".join(", ".join(map(repr, choices)).rsplit(", ", 1)),
        remedy=f"{name}={near[0]!r}" if near else None,
    )


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _dtype_name(value: Any) -> str:
    try:
        return str(np.dtype(value))
    except TypeError:
        raise OptionError(
            "out_dtype is not a dtype.", found=repr(value), expected="'float32' or 'float16'"
        ) from None


def _layers(layer: Any) -> int | tuple[int, ...]:
    if _whole(layer):
        return int(layer)
    if isinstance(layer, Iterable) and not isinstance(layer, str):
        layers = tuple(layer)
        if layers and all(map(_whole, layers)) and len(set(layers)) == len(layers):
            return tuple(int(one) for one in layers)
    raise OptionError(
        "layer is an index of a transformer block, or a list of different ones.",
        found=repr(layer),
        expected="an int such as -1, or [2, 5, 8, 11]",
    )
