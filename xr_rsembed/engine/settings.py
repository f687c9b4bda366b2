"""The settings of one embedding: checked once, then carried as plain values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from xr_rsembed.errors import OptionError, number, one_of, whole_number
from xr_rsembed.tiling import Blend, Edge

#: What settings may be, where they can be listed.
CHOICES: dict[str, tuple[Any, ...]] = {
    "output": ("grid", "pooled", "tiles"),
    "pooling": ("mean", "max"),
    "input_prep": ("tile", "resize"),
    "blend": get_args(Blend),
    "edge": get_args(Edge),
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
        plain = {  # numpy's numbers become Python's, which attrs and graphs carry
            "out_dtype": _dtype_name(self.out_dtype),
            # "zscore" is the word of RS_EMBED_TERRAMIND_NORMALIZE for the model's own
            "normalize": "default" if self.normalize == "zscore" else self.normalize,
            "density": whole_number("density", self.density),
            "overlap": whole_number("overlap", self.overlap),
            "layer": _layers(self.layer),
            "min_valid": float(number("min_valid", self.min_valid, 0.0, 1.0)),
        }
        if self.batch_size not in (None, "auto"):
            plain["batch_size"] = whole_number(
                "batch_size", self.batch_size, at_least=1, expected="an int from 1, 'auto' or None"
            )
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        for name, choices in CHOICES.items():
            one_of(name, getattr(self, name), choices)
        self._check_together()

    def _check_together(self) -> None:
        resize, grid = self.input_prep == "resize", self.output == "grid"
        if resize and self.output == "tiles":
            raise OptionError(
                "A resized scene is one tile: it has no grid of tiles.",
                found='input_prep="resize", output="tiles"',
                expected='output="grid" or "pooled"',
                remedy='output="pooled" gives the one vector',
            )
        for setting, default, idle, because_of in (
            ("overlap", 0, resize, 'input_prep="resize"'),
            ("blend", "center", resize, 'input_prep="resize"'),
            ("edge", "shift", resize, 'input_prep="resize"'),
            ("pooling", "mean", grid, 'output="grid"'),
        ):
            value = getattr(self, setting)
            if idle and value != default:
                raise OptionError(
                    f"{setting} means nothing beside {because_of}.",
                    found=f"{setting}={value!r}, {because_of}",
                    expected="one of the two",
                    remedy=f"leave {setting} out",
                )
        if self.density > 1 and (resize or not grid):
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


def _dtype_name(value: Any) -> str:
    try:
        return str(np.dtype(value))
    except TypeError:
        raise OptionError(
            "out_dtype is not a dtype.", found=repr(value), expected="'float32' or 'float16'"
        ) from None


def _layers(layer: Any) -> int | tuple[int, ...]:
    expected = "an int such as -1, or [2, 5, 8, 11]"
    if not isinstance(layer, Iterable) or isinstance(layer, str):
        return whole_number("layer", layer, expected=expected)
    layers = tuple(whole_number("layer", one, expected=expected) for one in layer)
    if not layers or len(set(layers)) < len(layers):
        raise OptionError(
            "A list of layers names different transformer blocks.",
            found=repr(layer),
            expected=expected,
        )
    return layers
