"""An array on its way into a store, cut along the store's shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from tlz import partition_all  # type: ignore[import-untyped]

from xr_rsembed.errors import OptionError, StoreError
from xr_rsembed.store import quantize
from xr_rsembed.store.digests import windows_of
from xr_rsembed.store.layout import Index, Layout, lay_out
from xr_rsembed.store.run import Task, itself, run_blocks

DTYPES = ("float32", "float16", "float64", "int8")
_SAMPLE = 8  # blocks that an int8 scale is taken from


@dataclass(frozen=True)
class Piece:
    """One array, or a part of one."""

    data: da.Array  # a block for each shard
    layout: Layout  # of the whole array in the store
    windows: Mapping[Index, tuple[Any, ...]] | None  # of every block; None where its values prove it
    local: bool  # in this process's memory all along, so that no cluster should be sent a copy
    offset: Index  # the shard in the store that its first block is
    added: bool = False  # to a store that another call began, whose int8 scale has to hold its values
    unproved: bool = False  # the store proves blocks by pixels, which are not known of this array
    computed: Mapping[Index, np.ndarray] = field(default_factory=dict)  # blocks that a scale was taken from

    @classmethod
    def of(cls, array: xr.DataArray, layout: Layout, offset: Index | None = None) -> Piece:
        local = array.chunks is None
        shard = tuple(min(one, size) for one, size in zip(layout.shard, array.shape, strict=True))
        data = da.from_array(array.values, chunks=shard) if local else array.data.rechunk(shard)
        windows = None if local else windows_of(data)
        return cls(data, layout, windows, local, offset or (0,) * array.ndim, offset is not None)

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def proof(self) -> str:
        """By what its blocks are proved."""
        return "values" if self.windows is None else "pixels"

    def scaled(self, scale: tuple[float, ...], **more: Any) -> Piece:
        return replace(self, layout=replace(self.layout, scale=scale), **more)

    def blocks(self) -> dict[Index, Index]:
        """The store's shards, in the order of storage, and which block of the data each is."""
        return {
            tuple(i + zero for i, zero in zip(block, self.offset, strict=True)): block
            for block in np.ndindex(*self.data.numblocks)
        }

    def key(self, block: Index) -> Any:
        return (self.data.name, *block)


def pieces_of(
    dataset: xr.Dataset,
    dtype: str | None,
    lengths: Mapping[str, Mapping[str, int] | None],
    encoding: Mapping[str, Mapping[str, Any]] | None,
) -> list[Piece]:
    """The pieces of all variables, laid out as ``lengths`` (of shards and chunks) ask, or as their blocks are."""
    pieces = []
    for name, array in dataset.data_vars.items():
        asked = dict((encoding or {}).get(str(name), {}))
        given = {word: asked.get(word) for word in ("shards", "chunks")}
        stored_as = _dtype(asked.get("dtype") or dtype or array.dtype)
        fits = set(asked) <= {"dtype", *given} and set(encoding or {}) <= set(map(str, dataset.data_vars))
        fits = fits and all(value is None or np.size(value) == array.ndim for value in given.values())
        if not fits or stored_as not in (*DTYPES, str(array.dtype)):
            raise OptionError(
                "This encoding cannot be used.",
                found=dict(encoding or {}),
                expected=f"of a variable that is stored: dtype ({', '.join(DTYPES)}), and chunks and shards with a "
                f"length for each of {array.dims}",
                remedy="scale= for int8; the compressor is fixed, because byte-identity after a resume rests on it",
            )
        if stored_as == "int8" and array.dtype.kind in "iu" and not np.can_cast(array.dtype, "int8"):
            raise OptionError(
                f"The integers of {name!r} do not fit into int8.",
                found=f"dtype {array.dtype}",
                expected="floats, which a scale brings into its range",
                remedy="leave dtype out, or emb.astype('float32')",
            )
        found = {
            word: lengths[word] if value is None else dict(zip(map(str, array.dims), value, strict=True))
            for word, value in given.items()
        }
        pieces.append(Piece.of(array, lay_out(str(name), array, stored_as, **found)))
    return pieces


def _dtype(asked: Any) -> str:
    try:
        return str(np.dtype(asked))
    except TypeError:
        return str(asked)


def with_scale(piece: Piece, scale: Any, *, progress: bool | None, retries: int) -> Piece:
    """The piece with its int8 scale, where it needs one: the one given, or one from a sample of its blocks.

    The sample is spread evenly in the order of storage; its blocks are not computed again.
    """
    if piece.layout.dtype != "int8" or np.dtype(piece.layout.source).kind != "f":
        return piece
    if isinstance(scale, int | float):
        return piece.scaled((float(scale),))
    every = list(np.ndindex(*piece.data.numblocks))
    chosen = [every[i] for i in sorted({int(i) for i in np.linspace(0, len(every) - 1, _SAMPLE).round()})]
    # The others only matter where the chosen ones are NaN throughout.
    for sample in (chosen, *partition_all(_SAMPLE, [block for block in every if block not in set(chosen)])):
        tasks = [Task(itself, piece.key(block), f"block {block}", block) for block in sample]
        values: dict[Index, np.ndarray] = {}

        def done(task: Task, result: Any, values: Any = values) -> None:
            values[task.place] = result

        how: Any = {"label": "int8 scale", "show": progress, "local": piece.local, "retries": retries}
        run_blocks([piece.data], tasks, done, **how)
        magnitudes = [quantize.magnitude(one, piece.layout.axis) for one in values.values()]
        if (found := quantize.fit(magnitudes, per_dimension=scale == "dimension")) is not None:
            return piece.scaled(found, computed=values)
    raise StoreError(
        "There is no value to take the int8 scale from.",
        found="an embedding that is NaN everywhere",
        expected="at least one valid cell",
        remedy="store it as float32, or give the scale: scale=0.05",
    )
